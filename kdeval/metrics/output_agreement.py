"""How much of what the model writes its teacher writes too."""

from typing import ClassVar

from kdeval.metrics import METRICS, Direction, SampleMean
from kdeval.samples import Group, Sample
from kdeval.text import java_tokens, overlap_f1


@METRICS.register("output_agreement")
class OutputAgreement(SampleMean):
    """F1 of the bags of Java-like tokens of the model's and of its teacher's prediction (see `f1`): 2 s / (m + t).

    s tokens are shared, m are the model's and t the teacher's. The reference does not count, so a mistake that both
    make agrees. Both empty: 1. One of them empty: 0. Samples without a prediction of the teacher count for nothing;
    undefined without any.

    >>> OutputAgreement().score([Sample("1", prediction="f(a)", teacher_prediction="f(b)"), Sample("2")])
    {'output_agreement': 0.75}
    """

    name = "output_agreement"
    title = "Agreement with the teacher's output"
    unit = "fraction"
    range = (0.0, 1.0)
    direction: ClassVar[Direction] = "higher"
    inputs: ClassVar[Group] = "teacher_text"
    aggregation = "mean over samples with a prediction of the teacher"

    def values(self, sample: Sample) -> tuple[float]:
        """F1 of one sample."""
        return overlap_f1(java_tokens(sample.prediction), java_tokens(sample.teacher_prediction or ""))[:1]
