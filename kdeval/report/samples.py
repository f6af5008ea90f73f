"""Which predictions a report shows: the worst, and the best that are not exact, seeded where scores are equal."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from kdeval.metrics.exact_match import is_exact
from kdeval.report.diff import Piece, marked
from kdeval.report.evaluation import Evaluation
from kdeval.report.rows import Rows
from kdeval.report.wording import cut, number
from kdeval.results import Prediction, Results, read_predictions

_TAIL_LINES = 12
_TAIL_CHARACTERS = 900
_LONGEST = 2000  # characters of a text
_NAME = 200
_SCORES: Final = ("code_quality", "f1")
_EXACT: Final = 2  # exact matches teach nothing: at most so many, and a quarter of all


@dataclass(frozen=True)
class ShownText:
    """A text in pieces, and what is to be said of it in a word."""

    pieces: list[Piece]
    badge: str = ""

    @property
    def text(self) -> str:
        """The whole."""
        return "".join(piece.text for piece in self.pieces)


@dataclass(frozen=True)
class ShownSample:
    """One prediction beside the reference and the teacher's; ``why`` it was chosen; ``prompt`` is only its end.

    Pieces of the reference differ from the student's text, those of student and teacher from the reference.
    """

    id: str
    origin: str
    why: str
    scores: list[str]
    prompt: str
    reference: ShownText
    teacher: ShownText | None
    student: ShownText


@dataclass(frozen=True)
class Samples:
    """What is shown, and how it was chosen."""

    shown: list[ShownSample]
    how: str


def choose(rows: Rows, count: int, seed: int) -> dict[int, str]:
    """At most ``count`` rows, and why each was chosen: worst first, then the best that are not exact, then exact.

    Of rows with the same prediction and the same reference only the first in this order can be chosen.
    """
    dice = random.Random(seed)
    ranked = sorted(
        (score, dice.random(), index) for index, score in enumerate(rows.score_N.tolist()) if score == score
    )
    first: dict[bytes, int] = {}
    for _, _, index in ranked:
        first.setdefault(rows.rows[index].pair, index)
    distinct = list(first.values())
    exact = [index for index in distinct if rows.rows[index].exact]
    misses = [index for index in distinct if not rows.rows[index].exact]
    exact = exact[: min(_EXACT, count // 4) if misses else min(_EXACT, count)]
    left = count - len(exact)
    worst = misses[: (left + 1) // 2]
    best = misses[len(worst) :][::-1][: left - len(worst)]
    why = ("among the worst", "among the best that are not exact") if rows.order else ("not exact", "not exact")
    return {
        **dict.fromkeys(worst, why[0]),
        **dict.fromkeys(best, why[1]),
        **dict.fromkeys(exact, "exact"),
    }


def read_samples(evaluation: Evaluation, teacher: Evaluation | None, rows: Rows, count: int, seed: int) -> Samples:
    """The chosen samples. The teacher's prediction is that of its run, else the one in the data.

    Raises
    ------
    InputError
        A file of predictions is missing or damaged.
    """
    chosen = choose(rows, count, seed)
    found = {i: sample for i, sample in enumerate(read_predictions(evaluation.predictions)) if i in chosen}
    theirs = {} if teacher is None else _of_teacher(teacher, list(found.values()))
    shown = [
        _shown(found[index], theirs.get(_key(found[index])), why, evaluation.results) for index, why in chosen.items()
    ]
    return Samples(shown, _how(rows, evaluation.results, count, len(shown)))


def _how(rows: Rows, results: Results, count: int, shown: int) -> str:
    few = f" There are no more than {shown} different ones." if shown < count else ""
    if rows.order is None:
        return f"Chosen at random, as neither the Code Quality Score nor F1 was computed.{few}"
    title = results.metrics[rows.order].title
    return (
        f"Half of them have the lowest {title}, half the highest without being exact; at most {_EXACT} are exact. "
        f"The mix says nothing of how often each happens.{few}"
    )


def _of_teacher(teacher: Evaluation, samples: Sequence[Prediction]) -> dict[tuple[str, str], str]:
    wanted = {_key(sample) for sample in samples}
    found = read_predictions(teacher.predictions) if wanted else ()
    return {_key(sample): sample.prediction for sample in found if _key(sample) in wanted}


def _key(sample: Prediction) -> tuple[str, str]:
    return sample.id, sample.reference


def _shown(sample: Prediction, fresh: str | None, why: str, results: Results) -> ShownSample:
    reference, student = cut(sample.reference, _LONGEST), cut(sample.prediction, _LONGEST)
    wrote = sample.teacher_prediction if fresh is None else fresh
    same = wrote is not None and is_exact(sample.prediction, wrote)
    exact = is_exact(sample.prediction, sample.reference)
    teacher = None
    if wrote is not None:
        badge = "exact" if is_exact(wrote, sample.reference) else ""
        teacher = ShownText(marked(cut(wrote, _LONGEST), reference), badge)
    return ShownSample(
        id=cut(sample.id, _NAME),
        origin=cut(" ".join(part for part in (sample.repo, sample.path) if part), 2 * _NAME),
        why=why,
        scores=[
            f"{cut(results.metrics[name].title, _NAME)} {number(sample.scores.get(name), results.metrics[name].unit)}"
            for name in _SCORES
            if name in results.metrics
        ],
        prompt=_tail(sample.prompt),
        reference=ShownText(marked(reference, student)),
        teacher=teacher,
        student=ShownText(marked(student, reference), "exact" if exact else ("as the teacher" if same else "")),
    )


def _tail(prompt: str) -> str:
    tail = "\n".join(prompt.rstrip().splitlines()[-_TAIL_LINES:])[-_TAIL_CHARACTERS:]
    return tail if len(tail) == len(prompt.rstrip()) else f"... {tail}"
