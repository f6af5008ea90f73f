"""Measure samples as they come, keeping a few numbers of each."""

from collections.abc import Sequence

import numpy as np

from kdeval.metrics import METRICS, Metric, Sample, Stats
from kdeval.results import MetricResult, Metrics


class Tally:
    """Statistics of all samples seen so far, for some metrics.

    Memory grows by a few floats per sample and metric; no text is kept.
    """

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self.metrics = metrics
        self._stats: dict[str, list[Stats]] = {metric.name: [] for metric in metrics}

    def add(self, samples: Sequence[Sample]) -> list[dict[str, float | None]]:
        """Measure more samples; the values of each, by metric, where a metric has them per sample."""
        scores: list[dict[str, float | None]] = [{} for _ in samples]
        for metric in self.metrics:
            stats_NK = metric.measure(samples)
            self._stats[metric.name].append(stats_NK)
            for row, value in zip(scores, metric.per_sample(stats_NK) or (), strict=False):
                row[metric.name] = value
        return scores

    def results(self) -> Metrics:
        """Every metric over all samples, in the order of the metrics; at least one sample was added."""
        return {metric.name: self._result(metric) for metric in self.metrics}

    def _result(self, metric: Metric) -> MetricResult:
        values = metric.combine(np.concatenate(self._stats[metric.name]))
        return MetricResult(
            title=metric.title,
            value=values.pop(metric.name),
            parts=values,
            unit=metric.unit,
            range=metric.range,
            direction=metric.direction,
            good_at=metric.good_at,
            inputs=metric.inputs,
            aggregation=metric.aggregation,
            implementation=metric.implementation,
        )


def make_metrics(names: Sequence[str]) -> list[Metric]:
    """The metrics of these names, each once, in this order; raises `UnknownNameError` for an unknown one."""
    return [METRICS.get(name)() for name in dict.fromkeys(names)]
