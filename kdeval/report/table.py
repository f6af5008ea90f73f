"""The table of all metrics: student, teacher and baseline with intervals, and what their differences say."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from kdeval.compare import Verdict
from kdeval.metrics import Direction
from kdeval.report.evaluation import Evaluation
from kdeval.report.rivals import Held, Rival, threshold
from kdeval.report.strip import Strip, Who
from kdeval.report.wording import cut, difference, ends, gap_ends, number
from kdeval.results import MetricResult, Value

_MOST = 120  # rows of the table, parts not counted
_LONGEST = 300
_UNITS: Final = {"length_ratio": "of Java tokens"}  # where the unit alone does not say what is counted


@dataclass(frozen=True)
class Cell:
    """A value as text, its interval, and whether it reaches the threshold."""

    text: str
    interval: str
    is_good: bool = False


@dataclass(frozen=True)
class RivalCells:
    """A rival's value, student minus rival, and what that says of the student."""

    value: Cell
    gap: Cell
    verdict: Verdict


@dataclass(frozen=True)
class MetricRow:
    """A line of the table. ``part`` marks a part of the metric above it."""

    name: str
    title: str
    unit: str
    direction: Direction
    part: bool
    student: Cell
    teacher: RivalCells | None
    baseline: RivalCells | None
    good_at: str
    threshold: str
    explanation: str
    strip: Strip

    @property
    def arrow(self) -> str:
        """Which way is better."""
        return {"higher": "↑", "lower": "↓", "one": "→ 1"}[self.direction]

    @property
    def unit_shown(self) -> str:
        """The unit where the value does not show it."""
        return _UNITS.get(self.name, "" if self.unit == "fraction" else self.unit)


def metric_rows(student: Evaluation, teacher: Rival, baseline: Rival) -> list[MetricRow]:
    """Every metric, each followed by its parts."""
    found: list[MetricRow] = []
    for name, metric in list(student.results.metrics.items())[:_MOST]:
        found.append(_row(name, cut(metric.title, _LONGEST), metric, metric, teacher, baseline))
        found += _parts(metric, teacher, baseline)
    return found


def _parts(metric: MetricResult, teacher: Rival, baseline: Rival) -> Iterator[MetricRow]:
    for part, value in list(metric.parts.items())[:_MOST]:
        title = cut(part.replace("_", " ").capitalize(), _LONGEST)
        yield _row(part, title, metric, value, teacher, baseline, part=True)


def _row(
    name: str, title: str, metric: MetricResult, value: Value, teacher: Rival, baseline: Rival, part: bool = False
) -> MetricRow:
    unit = cut(metric.unit, _LONGEST)
    rivals: dict[Who, Held | None] = {"teacher": teacher.held.get(name), "baseline": baseline.held.get(name)}
    values: dict[Who, Value] = {"student": value}
    values |= {who: held.value for who, held in rivals.items() if held is not None}
    good_at = "" if metric.good_at is None or part else number(metric.good_at, unit)
    return MetricRow(
        name=name,
        title=title,
        unit=unit,
        direction=metric.direction,
        part=part,
        student=_cell(value, metric, part),
        teacher=_rival(rivals["teacher"], metric, part),
        baseline=_rival(rivals["baseline"], metric, part),
        good_at=good_at,
        threshold="" if part else threshold(metric, good_at),
        explanation=cut(f"{metric.aggregation}; {metric.implementation}", _LONGEST),
        strip=Strip(values, unit, metric.range, None if part else metric.good_at),
    )


def _cell(value: Value, metric: MetricResult, part: bool) -> Cell:
    good = not part and metric.reaches_threshold(value.value)
    return Cell(number(value.value, metric.unit), ends(value.interval, metric.unit), good)


def _rival(held: Held | None, metric: MetricResult, part: bool) -> RivalCells | None:
    if held is None:
        return None
    gap = Cell(difference(held.gap.value, metric.unit), gap_ends(held.gap.interval, metric.unit))
    return RivalCells(_cell(held.value, metric, part), gap, held.verdict)


def left_out(student: Evaluation) -> dict[str, str]:
    """Metrics of the task that are not there, and why."""
    return {cut(name, 80): cut(why, _LONGEST) for name, why in list(student.results.left_out.items())[:_MOST]}


def reading(rows: Sequence[MetricRow], subject: str, level: str, count: int) -> list[str]:
    """What one has to know to read the table of metrics of ``count`` evaluated rows."""
    notes = [
        f"✓ reaches the published threshold. Better and worse are said of the {subject}, where the whole {level} "
        "interval of the difference is on one side of 0."
    ]
    if any(row.direction == "one" for row in rows):
        notes.append(
            "Of a metric that should be near 1, the one nearer to 1 is better: it is the distance from 1 that is "
            "compared, while the difference shown is that of the values."
        )
    if any(row.name in _UNITS for row in rows):
        notes.append("The length ratio counts Java tokens; speed is in tokens of the model's tokenizer.")
    if any(_without_width(row) for row in rows):
        notes.append(
            "An interval without width, such as 0.0% to 0.0%, says that resamples of these rows cannot differ, not "
            f"that the value is certain: where a share is 0 or 1 in all of n rows, the true one may still be about "
            f"3/n from it (95 % rule of three; {min(3 / count, 1):.1%} for {count:,} rows)."
        )
    return notes


def _without_width(row: MetricRow) -> bool:
    low, _, high = row.student.interval.partition(" to ")
    return bool(low) and low == high
