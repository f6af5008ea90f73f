"""Perplexity of the reference under the model."""

from typing import ClassVar

import numpy as np

from kdeval.metrics import METRICS, Direction, Floats, TokenMean, Values
from kdeval.samples import TokenScores

_MAX_NATS = 700.0  # exp() overflows just above


@METRICS.register("perplexity")
class Perplexity(TokenMean):
    """exp(loss): among how many tokens the model hesitates, on geometric average.

    The loss is the cross-entropy of `kdeval.metrics.loss`, taken as at most 700 nats per token. Undefined without
    label tokens.

    >>> from kdeval.samples import Sample
    >>> tokens = TokenScores(nll=[0.5, 1.5], confidence=[0.6, 0.4], correct=[True, False], critical={})
    >>> round(Perplexity().score([Sample("1", tokens=tokens)])["perplexity"], 3)  # e
    2.718
    """

    name = "perplexity"
    title = "Perplexity"
    unit = "tokens"
    range = (1.0, None)
    direction: ClassVar[Direction] = "lower"
    aggregation = "exp of the mean over the label tokens of all samples"

    def total(self, tokens: TokenScores) -> float:
        """Negative log-probability of the reference, in nats."""
        return sum(tokens.nll)

    def of_sums(self, sums_BK: Floats) -> Values:
        """Exp of the mean."""
        return {name: np.exp(np.minimum(mean_B, _MAX_NATS)) for name, mean_B in super().of_sums(sums_BK).items()}
