"""Share of label tokens that the model ranks first."""

from typing import ClassVar

from kdeval.metrics import METRICS, Direction, Sample, TokenMean


@METRICS.register("token_accuracy")
class TokenAccuracy(TokenMean):
    """Label tokens that have the highest logit, given the true tokens before them, / label tokens.

    Teacher-forced: it says nothing of the text the model writes by itself. The end token counts. Undefined
    (None) for a sample without label tokens.

    >>> TokenAccuracy().score([Sample("1", "", "", "", token_count=4, token_correct=3)]).values
    {'token_accuracy': 0.75}
    """

    name = "token_accuracy"
    title = "Token accuracy"
    unit = "fraction"
    range = (0.0, 1.0)
    direction: ClassVar[Direction] = "higher"

    def total(self, sample: Sample) -> float:
        """Label tokens ranked first."""
        return sample.token_correct
