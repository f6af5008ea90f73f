"""Cross-entropy of the reference under the model."""

from typing import ClassVar

from kdeval.metrics import METRICS, Direction, Sample, TokenMean


@METRICS.register("loss")
class Loss(TokenMean):
    """- sum of log q(y_t | x, y_<t) / label tokens, in nats.

    Teacher-forced, at temperature 1, the end token included. Undefined (None) for a sample without label
    tokens.

    >>> Loss().score([Sample("1", "", "", "", token_count=2, nll_sum=3.0)]).values
    {'loss': 1.5}
    """

    name = "loss"
    title = "Cross-entropy"
    unit = "nats/token"
    range = (0.0, None)
    direction: ClassVar[Direction] = "lower"

    def total(self, sample: Sample) -> float:
        """Negative log-probability of the reference, in nats."""
        return sample.nll_sum
