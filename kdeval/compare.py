"""Is one evaluation better than another? Paired differences on the same rows, with intervals and a verdict."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal, Self

import numpy as np

from kdeval.choose import closure
from kdeval.files import read_statistics
from kdeval.interval import Interval, bootstrap, interval
from kdeval.metrics import METRICS, Composite, Context, Direction, Floats, Metric, Values
from kdeval.results import PREDICTIONS, Results, read_predictions, read_results
from kdeval.tally import Statistic, values_of
from kdstore.errors import InputError, MismatchError
from kdstore.store.files import sha256_file

Verdict = Literal["better", "worse", "no difference found", "undefined"]


@dataclass(frozen=True)
class Difference:
    """One metric of both, and B minus A with its interval; None where a value is undefined.

    ``verdict`` is on B, where the whole interval lies on one side of 0.
    """

    name: str
    title: str
    unit: str
    direction: Direction
    a: float | None
    b: float | None
    difference: float | None
    interval: Interval | None
    verdict: Verdict


@dataclass(frozen=True)
class Pair:
    """Two evaluations on their common ``rows``."""

    a: str
    b: str
    rows: int
    only_a: int
    only_b: int
    level: float
    differences: list[Difference]

    def summary(self) -> str:
        """What can be said of B, in words."""
        found = Counter(one.verdict for one in self.differences)
        tried = sum(one.interval is not None and one.interval.low < one.interval.high for one in self.differences)
        by_chance = tried * (1 - self.level)
        if not found["better"] and not found["worse"]:
            words = f"On these {self.rows:,} rows no metric tells {self.b} from {self.a}."
        elif not found["worse"]:
            words = f"{self.b} is better than {self.a} in {found['better']} of {tried} metrics and worse in none."
        elif not found["better"]:
            words = f"{self.b} is worse than {self.a} in {found['worse']} of {tried} metrics and better in none."
        else:
            words = (
                f"{self.b} is better than {self.a} in {found['better']} of {tried} metrics and worse in "
                f"{found['worse']}: which of them matter is for you to say."
            )
        return (
            f"{words} Many measure much the same; about {by_chance:.1f} of {tried} would seem to differ by chance. "
            "Intervals are over rows: another seed of training may move a value by more."
        )


def compare(first: Path, second: Path, names: Sequence[str] | None, draws: int, seed: int, level: float) -> Pair:
    """Compare two run directories on the rows that both have: same id, same reference.

    Every metric that both measured in the same way is compared, or those of ``names``. Rows are resampled in pairs.

    Raises
    ------
    InputError
        A file is missing or damaged.
    MismatchError
        The two have no row or no metric in common, or one of ``names`` was measured in different ways.
    """
    a, b = _Run.read(first), _Run.read(second)
    rows_a, rows_b = _common(a, b)
    metrics = _metrics(a, b, names)
    sides = (a.part(metrics, rows_a), b.part(metrics, rows_b))

    def paired(weights_BN: Floats) -> Values:
        ours, theirs = (side.values(weights_BN) for side in sides)
        found = {f"a.{name}": value_B for name, value_B in ours.items()}
        return found | {f"b.{name}": value_B for name, value_B in theirs.items()}

    points = {name: float(value_1[0]) for name, value_1 in paired(np.ones((1, len(rows_a)))).items()}
    drawn = bootstrap(paired, len(rows_a), draws, seed)
    return Pair(
        a=str(first),
        b=str(second),
        rows=len(rows_a),
        only_a=len(a.keys) - len(rows_a),
        only_b=len(b.keys) - len(rows_a),
        level=level,
        differences=[_difference(metric, points, drawn, level) for metric in metrics],
    )


@dataclass(frozen=True)
class _Run:
    """One evaluation as its files tell it; ``keys`` name its rows."""

    path: Path
    results: Results
    context: Context
    keys: dict[tuple[str, bytes, int], int]

    @classmethod
    def read(cls, path: Path) -> Self:
        results = read_results(path)
        if (found := sha256_file(path / PREDICTIONS)) != results.predictions_sha256:
            raise MismatchError(
                f"Expected {path / PREDICTIONS} to have the checksum {results.predictions_sha256[:12]} of its "
                f"summary. Got {found[:12]}. Run `kdeval run` again."
            )
        keys: dict[tuple[str, bytes, int], int] = {}
        seen: Counter[tuple[str, bytes]] = Counter()
        labels: tuple[str, ...] = ()
        for row, sample in enumerate(read_predictions(path / PREDICTIONS)):
            key = sample.id, sha256(sample.reference.encode()).digest()
            keys[*key, seen[key]] = row  # the same row may be in a file twice
            seen[key] += 1
            labels = tuple(sample.labels.scores) if sample.labels else labels
        settings = results.settings
        return cls(path, results, Context(settings.embedding_model, settings.temperature, labels), keys)

    def part(self, metrics: Sequence[Metric], rows: Sequence[int]) -> "_Part":
        """What can be resampled, of some rows."""
        student, teacher = read_statistics(self.path, self.results)
        if self.results.teacher is not None and self.results.teacher.rows < len(self.keys):
            teacher = {}  # what compares with the teacher is undefined on some of the rows
        for metric in metrics:
            for found in (student, teacher):
                if metric.name in found and found[metric.name].shape[1] != len(getattr(metric, "columns", ())):
                    raise InputError(
                        f"Expected {len(getattr(metric, 'columns', ()))} statistics of {metric.name} in {self.path}. "
                        f"Got {found[metric.name].shape[1]}. Run `kdeval run` again with this release."
                    )
        return _Part(metrics, *({name: found[name][list(rows)] for name in found} for found in (student, teacher)))


@dataclass(frozen=True)
class _Part:
    """Statistics of the common rows of one evaluation."""

    metrics: Sequence[Metric]
    student: Mapping[str, Statistic]
    teacher: Mapping[str, Statistic]

    def values(self, weights_BN: Floats) -> Values:
        """Values of sets of these rows."""
        known = [metric for metric in self.metrics if isinstance(metric, Composite) or metric.name in self.teacher]
        theirs = values_of(known, self.teacher, weights_BN)
        return values_of(self.metrics, self.student, weights_BN, theirs)


def _common(a: _Run, b: _Run) -> tuple[list[int], list[int]]:
    """The rows that both have, in the order of the first: their numbers in each."""
    keys = [key for key in a.keys if key in b.keys]
    if not keys:
        raise MismatchError(
            f"Expected evaluations of the same rows. Got {a.path} of {a.results.data.path} and {b.path} of "
            f"{b.results.data.path}, which share no id with the same reference. Evaluate both on one set."
        )
    return [a.keys[key] for key in keys], [b.keys[key] for key in keys]


def _metrics(a: _Run, b: _Run, names: Sequence[str] | None) -> list[Metric]:
    """The metrics that both have, with what they are made of."""
    chosen = [name for name in names or a.results.metrics if _same(name, a, b, strict=names is not None)]
    if not chosen:
        raise MismatchError(f"Expected a metric that {a.path} and {b.path} share. Got none. Evaluate again.")
    return [METRICS.get(name).create(a.context) for name in closure(chosen)]


def _same(name: str, a: _Run, b: _Run, strict: bool) -> bool:
    """Whether both measured a metric, and all that it is made of, in the same way."""
    for part in closure([name]):
        found = [run.results.metrics.get(part) for run in (a, b)]
        how = [one.implementation if one else "nothing" for one in found]
        if None in found or how[0] != how[1]:
            if strict:
                raise MismatchError(
                    f"Expected {part} to be measured in the same way in both. Got {how[0]} in {a.path} and {how[1]} "
                    f"in {b.path}. Evaluate both again."
                )
            return False
    return True


def _difference(metric: Metric, points: Mapping[str, float], drawn: Values, level: float) -> Difference:
    a, b = points[f"a.{metric.name}"], points[f"b.{metric.name}"]
    found = None
    if drawn and not np.isnan(a) and not np.isnan(b):
        found = interval(drawn[f"b.{metric.name}"] - drawn[f"a.{metric.name}"], level)
    return Difference(
        name=metric.name,
        title=metric.title,
        unit=metric.unit,
        direction=metric.direction,
        a=None if np.isnan(a) else a,
        b=None if np.isnan(b) else b,
        difference=None if np.isnan(b - a) else b - a,
        interval=found,
        verdict=_verdict(metric, points, drawn, level),
    )


def _verdict(metric: Metric, points: Mapping[str, float], drawn: Values, level: float) -> Verdict:
    names = f"a.{metric.name}", f"b.{metric.name}"
    if any(np.isnan(points[name]) for name in names):
        return "undefined"
    if not drawn:
        return "no difference found"
    before_B, after_B = (_goodness(drawn[name], metric.direction) for name in names)
    found = interval(after_B - before_B, level)
    if found is None or found.low <= 0 <= found.high:
        return "no difference found"
    return "better" if found.low > 0 else "worse"


def _goodness(values_B: Floats, direction: Direction) -> Floats:
    """Values turned so that more is better."""
    return {"higher": values_B, "lower": -values_B, "one": -abs(values_B - 1)}[direction]
