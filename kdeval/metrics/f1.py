"""Precision, recall and F1 over tokens."""

from typing import ClassVar

from kdeval.metrics import METRICS, Direction, SampleMean
from kdeval.samples import Sample
from kdeval.text import java_tokens, overlap_f1


@METRICS.register("f1")
class F1(SampleMean):
    """Overlap of the bags of Java-like tokens (`java_tokens`) of prediction and reference.

    With s the number of shared tokens (a token that occurs m and n times is shared min(m, n) times), p the
    prediction's and r the reference's number of tokens: precision = s / p, recall = s / r,
    F1 = 2 s / (p + r). The order of tokens does not count. Both empty: all 1. One of them empty: all 0.
    F1 is the mean of the samples' F1, not the harmonic mean of mean precision and mean recall.

    >>> F1().values(Sample("1", "", reference="f(a, b);", prediction="f(a);"))  # 5 shared of 5 and of 7
    (0.8333333333333333, 1.0, 0.7142857142857143)
    """

    name = "f1"
    title = "Token F1"
    unit = "fraction"
    range = (0.0, 1.0)
    direction: ClassVar[Direction] = "higher"
    good_at = 0.7
    parts = ("precision", "recall")

    def values(self, sample: Sample) -> tuple[float, float, float]:
        """F1, precision, recall."""
        return overlap_f1(java_tokens(sample.prediction), java_tokens(sample.reference))
