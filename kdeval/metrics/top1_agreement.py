"""Share of label tokens where the model's first choice is its teacher's."""

from typing import ClassVar

from kdeval.metrics import METRICS, Direction, TokenMean
from kdeval.samples import Group, TokenScores


@METRICS.register("top1_agreement")
class Top1Agreement(TokenMean):
    """Label tokens where model and teacher have the same likeliest token / label tokens with a teacher's signal.

    Teacher-forced, the end token included; whether the token is the label does not count. Samples without a signal
    count for nothing; undefined without any.

    >>> from kdeval.samples import Sample
    >>> tokens = TokenScores(nll=[0.1, 2.0], confidence=[0.9, 0.4], correct=[True, False], critical={},
    ...                      teacher_kl=[0.2, 0.6], teacher_agrees=[False, True], temperature=2.0)
    >>> Top1Agreement().score([Sample("1", tokens=tokens), Sample("2")])
    {'top1_agreement': 0.5}
    """

    name = "top1_agreement"
    title = "Agreement with the teacher's first choice"
    unit = "fraction"
    range = (0.0, 1.0)
    direction: ClassVar[Direction] = "higher"
    inputs: ClassVar[Group] = "teacher_signal"
    aggregation = "mean over the label tokens of all samples with a teacher's signal"

    def total(self, tokens: TokenScores) -> float:
        """Label tokens where both agree."""
        return sum(tokens.teacher_agrees or ())
