"""What the pass over the references says beyond one number: critical words by category, and how sure the model is."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from kdeval.interval import Interval, interval, resamples
from kdeval.metrics import Floats
from kdeval.metrics.calibration import Bin, reliability
from kdeval.report.counted import read_counted
from kdeval.report.evaluation import Evaluation
from kdeval.report.rivals import Rival
from kdeval.report.strip import Strip
from kdeval.report.wording import cut, with_interval
from kdeval.results import Value

_CRITICAL: Final = "critical_token_accuracy"
_CALIBRATION: Final = "calibration"
_MOST = 40


@dataclass(frozen=True)
class Category:
    """A category of critical words: accuracy of student and teacher at their tokens."""

    name: str
    student: Value
    teacher: Value | None
    strip: Strip


@dataclass(frozen=True)
class Critical:
    """Accuracy at critical tokens by category; ``absent`` names categories of which the references hold no word."""

    categories: list[Category]
    absent: list[str]


def critical(student: Evaluation, teacher: Rival) -> Critical | None:
    """Accuracy at critical tokens; None where it was not measured."""
    metric = student.results.metrics.get(_CRITICAL)
    if metric is None or metric.value is None:
        return None
    found, absent = [], []
    for part, value in list(metric.parts.items())[:_MOST]:
        name = cut(part.removeprefix("critical_").replace("_", " "), 60)
        if value.value is None:
            absent.append(name)
            continue
        held = teacher.held.get(part)
        strip = Strip({"student": value, **({"teacher": held.value} if held else {})}, metric.unit, metric.range)
        found.append(Category(name, value, held.value if held else None, strip))
    return Critical(found, absent) if found else None


@dataclass(frozen=True)
class Reliability:
    """Bins of the likeliest token's probability, with the interval of each bin's accuracy, and what they say."""

    bins: list[tuple[Bin, Interval | None]]
    tokens: int
    words: str


def read_reliability(student: Evaluation) -> Reliability | None:
    """How often the model is right where it is how sure; None where that was not measured.

    Raises
    ------
    InputError, MismatchError
        See `read_counted`.
    """
    if _CALIBRATION not in student.results.metrics:
        return None
    stats_NK = read_counted(student, [_CALIBRATION]).statistics[_CALIBRATION].astype(np.float64)
    found = reliability(stats_NK)
    tokens = sum(one.tokens for one in found)
    if not tokens or not all(one.tokens >= 0 and not _outside(one) for one in found):
        return None
    settings = student.results.settings
    drawn = [
        reliability(sums_K[None])
        for weights_BN in (resamples(len(stats_NK), settings.draws, settings.seed) if settings.draws else ())
        for sums_K in weights_BN @ stats_NK
    ]
    bins = [(one, _interval([bins[m].accuracy for bins in drawn], settings.level)) for m, one in enumerate(found)]
    return Reliability(bins, int(tokens), _words(found, drawn, settings.level))


def _outside(one: Bin) -> bool:
    return bool(one.tokens) and not (0 <= one.accuracy <= 1 and 0 <= one.confidence <= 1)


def _interval(drawn: list[float], level: float) -> Interval | None:
    return interval(np.array(drawn), level) if drawn else None


def _surplus(bins: list[Bin]) -> tuple[float, float]:
    """Mean confidence and accuracy over all label tokens."""
    tokens_M: Floats = np.array([one.tokens for one in bins])
    sums = [np.nansum(tokens_M * [getattr(one, name) for one in bins]) for name in ("confidence", "accuracy")]
    return float(sums[0] / tokens_M.sum()), float(sums[1] / tokens_M.sum())


def _words(bins: list[Bin], drawn: list[list[Bin]], level: float) -> str:
    confidence, accuracy = _surplus(bins)
    gap = _interval([a - b for a, b in map(_surplus, drawn)], level)
    said = (
        f"At a label token its likeliest token has a probability of {confidence:.1%} in the mean, and is right in "
        f"{with_interval(Value(value=accuracy, interval=None), 'fraction', level)}"
    )
    if gap is None:
        return f"{said}."
    if gap.low <= 0 <= gap.high:
        return f"{said}: no difference between the two was found."
    return f"{said}: it is {'surer than it should be' if gap.low > 0 else 'less sure than it could be'}."
