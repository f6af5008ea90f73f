"""Perplexity of the reference under the model."""

import math
from typing import ClassVar

from kdeval.metrics import METRICS, Direction, Sample, Stats, TokenMean

_MAX_NATS = 700.0  # exp() overflows just above


@METRICS.register("perplexity")
class Perplexity(TokenMean):
    """exp(loss): among how many tokens the model hesitates, on geometric average.

    The loss is the cross-entropy of `kdeval.metrics.loss`, taken as at most 700 nats. Undefined (None) for a
    sample without label tokens.

    >>> Perplexity().score([Sample("1", "", "", "", token_count=2, nll_sum=0.0)]).values
    {'perplexity': 1.0}
    """

    name = "perplexity"
    title = "Perplexity"
    unit = "tokens"
    range = (1.0, None)
    direction: ClassVar[Direction] = "lower"
    aggregation = "exp of the mean over the label tokens of all samples"

    def total(self, sample: Sample) -> float:
        """Negative log-probability of the reference, in nats."""
        return sample.nll_sum

    def combine(self, stats_NK: Stats) -> dict[str, float]:
        """Exp of the mean."""
        return {self.name: _exp(super().combine(stats_NK)[self.name])}

    def per_sample(self, stats_NK: Stats) -> list[float | None]:
        """Exp of each sample's own mean."""
        return [None if nats is None else _exp(nats) for nats in super().per_sample(stats_NK)]


def _exp(nats: float) -> float:
    return math.exp(min(nats, _MAX_NATS))
