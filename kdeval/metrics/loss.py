"""Cross-entropy of the reference under the model."""

from typing import ClassVar

from kdeval.metrics import METRICS, Direction, TokenMean
from kdeval.samples import TokenScores


@METRICS.register("loss")
class Loss(TokenMean):
    """- sum of log q(y_t | x, y_<t) / label tokens, in nats.

    Teacher-forced, at temperature 1, the end token included. Undefined without label tokens.

    >>> from kdeval.samples import Sample
    >>> tokens = TokenScores(nll=[1.0, 2.0], confidence=[0.5, 0.4], correct=[True, False], critical={})
    >>> Loss().score([Sample("1", tokens=tokens)])
    {'loss': 1.5}
    """

    name = "loss"
    title = "Cross-entropy"
    unit = "nats/token"
    range = (0.0, None)
    direction: ClassVar[Direction] = "lower"

    def total(self, tokens: TokenScores) -> float:
        """Negative log-probability of the reference, in nats."""
        return sum(tokens.nll)
