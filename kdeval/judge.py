"""From what was counted in samples to values with intervals: of a student, its teacher, and their difference."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdeval.interval import bootstrap, interval
from kdeval.metrics import TEACHER, Composite, Floats, Metric, Values
from kdeval.results import MetricResult, Metrics, Settings, Value
from kdeval.tally import Statistic, values_of

GAP = "gap."


@dataclass(frozen=True)
class Side:
    """The metrics of one model, as they are computed, and their statistics on the first ``rows`` of the data."""

    metrics: Sequence[Metric]
    statistics: Mapping[str, Statistic]
    rows: int


@dataclass(frozen=True)
class Verdict:
    """Every value with its interval."""

    student: Metrics
    teacher: Metrics | None
    gaps: dict[str, Value]


def judge(student: Side, teacher: Side | None, settings: Settings) -> Verdict:
    """Values of all samples, with bootstrap intervals.

    Where the teacher was measured on fewer rows, gaps and what compares with the teacher are those of these rows.
    Student and teacher are resampled together, so that the interval of a gap is that of a paired difference.
    """

    def alone(weights_BN: Floats) -> Values:
        return values_of(student.metrics, student.statistics, weights_BN)

    def paired(weights_BN: Floats) -> Values:
        assert teacher is not None
        theirs = values_of(teacher.metrics, teacher.statistics, weights_BN)
        ours = values_of(student.metrics, student.statistics, weights_BN, theirs)
        gaps = {GAP + name: ours[name] - theirs[name] for name in ours if name in theirs}
        return ours | {TEACHER + name: value_B for name, value_B in theirs.items()} | gaps

    found: dict[str, Value] = {}
    if teacher is not None:
        found |= _values(paired, teacher.rows, settings)
    if teacher is None or teacher.rows < student.rows:
        comparing = {name for metric in student.metrics if _compares(metric) for name in (metric.name, *metric.parts)}
        own = _values(alone, student.rows, settings)
        found |= {name: value for name, value in own.items() if teacher is None or name not in comparing}
    return Verdict(
        student=_results(student.metrics, found, ""),
        teacher=None if teacher is None else _results(teacher.metrics, found, TEACHER),
        gaps={name.removeprefix(GAP): value for name, value in found.items() if name.startswith(GAP)},
    )


def _compares(metric: Metric) -> bool:
    """Whether a metric is about the teacher too."""
    if isinstance(metric, Composite):
        return any(name.startswith(TEACHER) for name in metric.components)
    return metric.inputs in ("teacher_text", "teacher_signal")


def _values(values_of_sets: Callable[[Floats], Values], rows: int, settings: Settings) -> dict[str, Value]:
    points = values_of_sets(np.ones((1, rows)))
    drawn = bootstrap(values_of_sets, rows, settings.draws, settings.seed)
    return {name: value(float(point_1[0]), drawn.get(name), settings.level) for name, point_1 in points.items()}


def value(point: float, drawn_B: Floats | None, level: float) -> Value:
    """A value with the interval of its resamples; None for what is undefined."""
    if np.isnan(point):
        return Value(value=None, interval=None)
    return Value(value=point, interval=None if drawn_B is None else interval(drawn_B, level))


def _results(metrics: Sequence[Metric], found: Mapping[str, Value], prefix: str) -> Metrics:
    return {metric.name: _result(metric, found, prefix) for metric in metrics}


def _result(metric: Metric, found: Mapping[str, Value], prefix: str) -> MetricResult:
    own = found[prefix + metric.name]
    return MetricResult(
        value=own.value,
        interval=own.interval,
        parts={part: found[prefix + part] for part in metric.parts},
        title=metric.title,
        unit=metric.unit,
        range=metric.range,
        direction=metric.direction,
        good_at=metric.good_at,
        inputs=metric.inputs,
        aggregation=metric.aggregation,
        implementation=metric.implementation,
    )
