"""Collect what a report shows from a run directory, the evaluations beside it, and the stores that it names."""

from dataclasses import dataclass, field
from pathlib import Path

from kdeval.report import answers
from kdeval.report.answers import Answer
from kdeval.report.confusion import Confusion, confusion
from kdeval.report.curves import Curves, read_curves
from kdeval.report.evaluation import Evaluation, read_evaluation
from kdeval.report.groups import Breakdown, breakdowns
from kdeval.report.provenance import Link, chain, models_words, origin_words, settings_of
from kdeval.report.rivals import Rival, against, teacher_of
from kdeval.report.rows import Rows, read_rows
from kdeval.report.samples import Samples, read_samples
from kdeval.report.speed import SizeAndSpeed, size_and_speed
from kdeval.report.stores import Faith, faith
from kdeval.report.table import MetricRow, left_out, metric_rows, reading
from kdeval.report.tokens import Critical, Reliability, critical, read_reliability
from kdeval.report.trained import Facts, Trained, read_trained
from kdeval.report.wording import cut, percent
from kdtrain.logs.columns import METRICS_FILE, STEP_FILE

NO_TEXTS = "The predictions are no texts."


@dataclass(frozen=True)
class Mistakes:
    """What the model gets wrong; ``notes`` say why something is not shown."""

    breakdowns: list[Breakdown]
    confusion: Confusion | None
    critical: Critical | None
    reliability: Reliability | None
    notes: list[str]


@dataclass(frozen=True)
class Training:
    """Curves with what they say, or why there are none."""

    curves: Curves | None
    words: str
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """Everything on the page, ready to be shown."""

    name: str
    subject: str
    level: str
    drawn: bool
    total_rows: int
    answers: list[Answer]
    tiles: list[MetricRow]
    rows: list[MetricRow]
    left_out: Facts
    reading: list[str]
    sources: list[str]
    mistakes: Mistakes
    samples: Samples | None
    training: Training
    stores: Faith
    size: SizeAndSpeed
    chain: list[Link]
    settings: Facts
    config: Facts

    @property
    def headline(self) -> list[str]:
        """All sentences that answer a question."""
        return [words for answer in self.answers for words in answer.sentences]

    @property
    def has_teacher(self) -> bool:
        """Whether any metric has a value of a teacher."""
        return any(row.teacher for row in self.rows)

    @property
    def has_baseline(self) -> bool:
        """Whether any metric has a value of a baseline."""
        return any(row.baseline for row in self.rows)


def gather(
    run: Path, teacher_run: Path | None = None, baseline_run: Path | None = None, samples: int = 12, seed: int = 42
) -> Report:
    """Read everything a report needs; at most ``samples`` predictions are shown, ``seed`` decides between equals.

    Raises
    ------
    InputError
        A file of the run is missing or cannot be read.
    MismatchError
        The predictions are not those of a summary, or an evaluation beside it has no row or metric in common.
    """
    student = read_evaluation(run)
    teacher_evaluation = read_evaluation(teacher_run) if teacher_run else None
    curves, trained = read_curves(run), read_trained(run)
    teacher = teacher_of(student, teacher_evaluation)
    other = (read_evaluation(baseline_run), read_trained(baseline_run)) if baseline_run else None
    baseline = against(student, other[0], "baseline") if other else Rival()
    models = [(student.subject, student, trained), ("baseline", *other)] if other else []
    rows = read_rows(student)
    table = metric_rows(student, teacher, baseline)
    stores = faith(student, trained, curves)
    size = size_and_speed(student, teacher_evaluation)
    level = percent(student.results.settings.level)
    mistakes = _mistakes(student, teacher, rows)
    tiles = answers.headlines(table)
    return Report(
        name=cut(student.name, 200),
        subject=student.subject,
        level=level,
        drawn=student.results.settings.draws > 0,
        total_rows=student.results.data.rows,
        answers=[
            Answer(
                f"How good is the {student.subject}?",
                "good",
                [
                    *answers.how_good(student, tiles, teacher, baseline, models_words(models)),
                    *size.words[: teacher_evaluation is not None],
                ],
            ),
            Answer(
                "What does it get wrong?",
                "wrong",
                list(answers.what_is_wrong(student, mistakes.confusion, mistakes.breakdowns, rows is not None)),
            ),
            Answer("Was the store faithful?", "store", stores.words),
            Answer("Where does all this come from?", "origin", [origin_words(student, trained)]),
        ],
        tiles=tiles,
        rows=table,
        left_out=left_out(student),
        reading=reading(table, student.subject, level, student.results.data.rows),
        sources=_sources(student, teacher, baseline),
        mistakes=mistakes,
        samples=None if rows is None else read_samples(student, teacher_evaluation, rows, samples, seed),
        training=_training(student, curves, trained),
        stores=stores,
        size=size,
        chain=chain(student, trained, stores, teacher_evaluation, other),
        settings=settings_of(student),
        config=trained.facts,
    )


def _sources(student: Evaluation, teacher: Rival, baseline: Rival) -> list[str]:
    """Where the values of teacher and baseline come from."""
    none = "" if student.subject == "teacher" else "There are no predictions of a teacher to compare with."
    return [words for words in (teacher.source or none, baseline.source) if words]


def _mistakes(student: Evaluation, teacher: Rival, rows: Rows | None) -> Mistakes:
    results = student.results
    kinds, repos = breakdowns(student, rows) if rows else (None, None)
    notes = [NO_TEXTS] if rows is None else []
    if rows is not None:
        if kinds is None:
            notes.append("There is no breakdown by kind of assertion: no text has a call, or no score was computed.")
        if repos is None:
            notes.append(
                "There is no breakdown by repository: the rows name fewer than two, or no score was computed."
            )
    return Mistakes(
        breakdowns=[breakdown for breakdown in (kinds, repos) if breakdown],
        confusion=confusion(results.confusion) if rows else None,
        critical=critical(student, teacher),
        reliability=read_reliability(student),
        notes=notes,
    )


def _training(student: Evaluation, curves: Curves | None, trained: Trained) -> Training:
    if curves is None:
        words = f"{student.name} holds no {STEP_FILE} and no {METRICS_FILE}: nothing was trained in that directory."
        return Training(None, words)
    most = trained.config.get("data.max_val_samples")
    notes = answers.reading_curves(curves, f"{most:,}" if isinstance(most, int) else None)
    return Training(curves, answers.course(curves), notes)
