"""Measure samples as they come, keeping a few numbers of each, and combine these into values."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdeval.metrics import TEACHER, Composite, Floats, Measured, Metric, Values
from kdeval.samples import Sample

Statistic = NDArray[Any]
"""Statistics of one metric, [N, K]: float64, or uint16 or uint32 where all are counts."""

Statistics = dict[str, Statistic]


class Tally:
    """Statistics of all samples seen so far, for some metrics.

    Memory grows by a few floats per sample and metric; no text is kept. What a composite metric is made of must be
    among the metrics.
    """

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self.metrics = metrics
        self.measured = [metric for metric in metrics if isinstance(metric, Measured)]
        self._pieces: dict[str, list[Statistic]] = {metric.name: [] for metric in self.measured}
        self.rows = 0

    def add(self, samples: Sequence[Sample], teacher: Values | None = None) -> Values:
        """Measure more samples; the values of each by itself, [N] by name. ``teacher``: its values of the same."""
        self.rows += len(samples)
        stats = {metric.name: metric.measure(samples) for metric in self.measured}
        for name, stats_NK in stats.items():
            self._pieces[name].append(_compact(stats_NK))
        found: Values = {}
        for metric in self.measured:
            found |= metric.per_sample(stats[metric.name])
        return _with_composites(self.metrics, found, teacher, len(samples))

    def statistics(self) -> Statistics:
        """All samples' statistics in the order in which they came, [N, K] by metric."""
        for name, pieces in self._pieces.items():
            self._pieces[name] = [np.concatenate(pieces)]
        return {name: pieces[0] for name, pieces in self._pieces.items()}


def values_of(
    metrics: Sequence[Metric], statistics: Mapping[str, Statistic], weights_BN: Floats, teacher: Values | None = None
) -> Values:
    """Values of B weighted sets of the first N samples that statistics are of, [B] by name of metric or part.

    ``teacher`` are its values of the same sets; without them metrics that compare with them are undefined.
    """
    found: Values = {}
    for metric in metrics:
        if isinstance(metric, Measured):
            stats_NK = statistics[metric.name][: weights_BN.shape[1]].astype(np.float64, copy=False)
            found |= metric.combine(stats_NK, weights_BN)
    return _with_composites(metrics, found, teacher, len(weights_BN))


def _compact(stats_NK: Floats) -> Statistic:
    """The same numbers; counts, which most statistics are, in less memory."""
    for dtype in (np.uint16, np.uint32):
        with np.errstate(invalid="ignore"):
            counts_NK = stats_NK.astype(dtype)
        if np.array_equal(counts_NK, stats_NK):
            return counts_NK
    return stats_NK


def _with_composites(metrics: Sequence[Metric], found: Values, teacher: Values | None, sets: int) -> Values:
    known = found | {TEACHER + name: value for name, value in (teacher or {}).items()}
    waiting = {metric.name: metric for metric in metrics if isinstance(metric, Composite)}
    undefined_B = np.full(sets, np.nan)

    def add(metric: Composite) -> None:
        for name in metric.components:
            if name in waiting and name not in known:
                add(waiting[name])
        known.update(metric.of_values({name: known.get(name, undefined_B) for name in metric.components}))

    for metric in waiting.values():
        add(metric)
    return {name: value_B for name, value_B in known.items() if not name.startswith(TEACHER)}
