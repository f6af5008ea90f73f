"""Share of label tokens that the model ranks first."""

from typing import ClassVar

from kdeval.metrics import METRICS, Direction, TokenMean
from kdeval.samples import TokenScores


@METRICS.register("token_accuracy")
class TokenAccuracy(TokenMean):
    """Label tokens that have the highest logit, given the true tokens before them, / label tokens.

    Teacher-forced: it says nothing of the text the model writes by itself. The end token counts. Undefined
    without label tokens.

    >>> from kdeval.samples import Sample
    >>> tokens = TokenScores(nll=[0.1, 2.0], confidence=[0.9, 0.4], correct=[True, False], critical={})
    >>> TokenAccuracy().score([Sample("1", tokens=tokens)])
    {'token_accuracy': 0.5}
    """

    name = "token_accuracy"
    title = "Token accuracy"
    unit = "fraction"
    range = (0.0, 1.0)
    direction: ClassVar[Direction] = "higher"

    def total(self, tokens: TokenScores) -> float:
        """Label tokens ranked first."""
        return sum(tokens.correct)
