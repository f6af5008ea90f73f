"""What a student is held against: its teacher and a baseline, with paired differences."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from kdeval.choose import closure
from kdeval.compare import Difference, Pair, Verdict, compare
from kdeval.interval import DRAWS
from kdeval.metrics import METRICS, TEACHER, Composite, Direction
from kdeval.report.counted import check_same
from kdeval.report.evaluation import Evaluation, flat
from kdeval.report.wording import brief_hash, plural
from kdeval.results import MetricResult, Results, Value

_UNKNOWN = Value(value=None, interval=None)


@dataclass(frozen=True)
class Held:
    """One metric of a rival: its value, student minus rival, and what the difference says of the student."""

    value: Value
    gap: Value
    verdict: Verdict


@dataclass(frozen=True)
class Rival:
    """A model on the same rows as the student, by metric and part; ``source`` says where its values come from."""

    held: Mapping[str, Held] = field(default_factory=dict)
    source: str = ""
    pair: Pair | None = None


def teacher_of(student: Evaluation, run: Evaluation | None) -> Rival:
    """The teacher: from an evaluation of its own where there is one, else from the predictions in the data.

    What compares with the teacher (knowledge retention, KL) has no value of the teacher itself.

    Raises
    ------
    InputError, MismatchError
        See `compare`.
    """
    stored = _stored(student.results)
    if run is None:
        return stored
    own = against(student, run, "teacher")
    metrics = {name: metric for name, metric in run.results.metrics.items() if not _looks_at_teacher(name)}
    held = {name: own.held[name] for name in flat(metrics) if name in own.held}
    rest = sorted(stored.held.keys() - held.keys())
    source = own.source + (f" Of {', '.join(rest)} it is that of the predictions in the data." if rest else "")
    kept = student.results.teacher
    if kept and kept.weights_sha256 not in (None, run.results.model.weights_sha256):
        source += (
            f" Note: its weights ({brief_hash(run.results.model.weights_sha256)}) are not those of the teacher whose "
            f"predictions the data hold ({brief_hash(kept.weights_sha256)}): another model, or another precision."
        )
    return Rival({**stored.held, **held}, source)


def against(student: Evaluation, other: Evaluation, role: str) -> Rival:
    """Another evaluation beside the student's, on the rows that both have.

    Raises
    ------
    InputError, MismatchError
        See `compare` and `check_same`.
    """
    settings = student.results.settings
    pair = compare(other.path, student.path, None, settings.draws or DRAWS, settings.seed, settings.level)
    same_rows = not pair.only_a and not pair.only_b
    ours, theirs = student.values(), other.values()
    for one in pair.differences:
        if not pair.only_a:
            check_same(other.path, one.name, one.a, theirs[one.name].value)
        if not pair.only_b:
            check_same(student.path, one.name, one.b, ours[one.name].value)
    values = theirs if same_rows else {}
    held = {one.name: _held(one, values) for one in pair.differences}
    for name, metric in other.results.metrics.items():
        if same_rows and name in held:
            held |= {part: _part(ours.get(part, _UNKNOWN), metric.parts[part]) for part in metric.parts}
    rows = "the same" if same_rows else f"the {plural(pair.rows, 'row')} that both evaluations have, out of all"
    source = f"The {role} ({other.name}) was evaluated by itself; differences are on {rows} rows."
    return Rival(held, source, replace(pair, a=f"the {role}", b=f"the {student.subject}"))


def _stored(results: Results) -> Rival:
    """The teacher whose predictions lie in the data."""
    teacher = results.teacher
    if teacher is None:
        return Rival()
    held: dict[str, Held] = {}
    for name, metric in teacher.metrics.items():
        for key, value in flat({name: metric}).items():
            gap = results.gaps.get(key, _UNKNOWN)
            held[key] = Held(value, gap, _verdict(gap, metric.direction))
    few = f" on the first {teacher.rows:,} rows" if teacher.rows < results.data.rows else ""
    return Rival(held, f"The teacher's values are those of its predictions that the data hold{few}.")


def _verdict(gap: Value, direction: Direction) -> Verdict:
    """What a difference says; of a metric that should be near 1 its sign says nothing."""
    if gap.value is None:
        return "undefined"
    if gap.interval is None or gap.interval.low <= 0 <= gap.interval.high:
        return "no difference found" if gap.interval else "undefined"
    if direction == "one":
        return "undefined"
    return "better" if (gap.interval.low > 0) == (direction == "higher") else "worse"


def _held(one: Difference, values: Mapping[str, Value]) -> Held:
    value = values.get(one.name, Value(value=one.a, interval=None))
    return Held(value, Value(value=one.difference, interval=one.interval), one.verdict)


def _part(ours: Value, theirs: Value) -> Held:
    """A part of a metric, of which no differences are resampled."""
    known = ours.value is not None and theirs.value is not None
    gap = ours.value - theirs.value if known else None  # type: ignore[operator]
    return Held(theirs, Value(value=gap, interval=None), "undefined")


def _looks_at_teacher(name: str) -> bool:
    """Whether a metric, or something it is made of, compares with a teacher."""
    if name not in METRICS.names():
        return False
    for part in closure([name]):
        cls = METRICS.get(part)
        if cls.inputs in ("teacher_text", "teacher_signal"):
            return True
        if issubclass(cls, Composite) and any(component.startswith(TEACHER) for component in cls.components):
            return True
    return False


def threshold(metric: MetricResult, shown: str) -> str:
    """Whether the metric counts as good, in words; nothing where no threshold is published."""
    if metric.good_at is None or metric.value is None:
        return ""
    what = f"(good {'from' if metric.direction == 'higher' else 'up to'} {shown})"
    between = metric.interval
    unsure = between is not None and between.low < metric.good_at < between.high
    said = "reaches" if metric.reaches_threshold(metric.value) else "misses"
    return f"{said} the threshold {what}" + (", but its interval spans it" if unsure else "")
