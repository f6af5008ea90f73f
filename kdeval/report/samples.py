"""Which predictions a report shows: a seeded mix of exact hits and misses."""

import random
from dataclasses import dataclass
from pathlib import Path

from kdeval.metrics.exact_match import is_exact
from kdeval.results import Prediction, read_predictions

_TAIL_LINES = 12
_TAIL_CHARACTERS = 900


@dataclass(frozen=True)
class ShownSample:
    """One prediction beside the reference and the teacher's; ``prompt`` is only its end."""

    id: str
    origin: str
    prompt: str
    reference: str
    teacher: str | None
    student: str

    @property
    def student_exact(self) -> bool:
        """The student wrote the reference."""
        return is_exact(self.student, self.reference)

    @property
    def teacher_exact(self) -> bool:
        """The teacher wrote the reference."""
        return self.teacher is not None and is_exact(self.teacher, self.reference)

    @property
    def same(self) -> bool:
        """Student and teacher wrote the same."""
        return self.teacher is not None and is_exact(self.student, self.teacher)


def choose_samples(run: Path, teacher_run: Path | None, count: int, seed: int) -> list[ShownSample]:
    """``count`` samples in the order of the data: half of them hits, as far as there are so many.

    Both runs are over the same rows. The teacher's prediction is its run's, else the one that the store kept.
    Two passes over the file, so that only the chosen samples are in memory.

    Raises
    ------
    InputError
        A file of predictions is missing or damaged.
    """
    hits: list[int] = []
    misses: list[int] = []
    for index, sample in enumerate(read_predictions(run)):
        (hits if is_exact(sample.prediction, sample.reference) else misses).append(index)
    rng = random.Random(seed)
    rng.shuffle(hits)
    rng.shuffle(misses)
    # Where there are too few of one kind, the other fills up.
    shown_hits = min(len(hits), max(count // 2, count - len(misses)))
    chosen = {*hits[:shown_hits], *misses[: count - shown_hits]}
    students = _at(run, chosen)
    teachers = {} if teacher_run is None else _at(teacher_run, chosen)
    return [_shown(student, teachers.get(index)) for index, student in students.items()]


def _at(run: Path, chosen: set[int]) -> dict[int, Prediction]:
    return {index: sample for index, sample in enumerate(read_predictions(run)) if index in chosen}


def _shown(student: Prediction, teacher: Prediction | None) -> ShownSample:
    return ShownSample(
        id=student.id,
        origin=" ".join(part for part in (student.repo, student.path) if part),
        prompt=_tail(student.prompt),
        reference=student.reference,
        teacher=student.teacher_prediction if teacher is None else teacher.prediction,
        student=student.prediction,
    )


def _tail(prompt: str) -> str:
    tail = "\n".join(prompt.rstrip().splitlines()[-_TAIL_LINES:])[-_TAIL_CHARACTERS:]
    return tail if len(tail) == len(prompt.rstrip()) else f"... {tail}"
