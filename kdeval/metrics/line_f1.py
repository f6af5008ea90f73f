"""Precision, recall and F1 over whole lines."""

from typing import ClassVar

from kdeval.metrics import METRICS, Direction, SampleMean
from kdeval.samples import Sample
from kdeval.text import lines, overlap_f1


@METRICS.register("line_f1")
class LineF1(SampleMean):
    """Overlap of the sets of lines of prediction and reference, as for several assertions at once.

    A line counts once however often it occurs; blank lines do not count, and the white space in a line is
    normalised. With s shared lines of p predicted and r expected ones: precision = s / p, recall = s / r,
    F1 = 2 s / (p + r). Both empty: all 1. One of them empty: all 0.

    >>> LineF1().values(Sample("1", "", reference="a();\\nb();", prediction="b();\\nb();"))
    (0.6666666666666666, 1.0, 0.5)
    """

    name = "line_f1"
    title = "Line F1"
    unit = "fraction"
    range = (0.0, 1.0)
    direction: ClassVar[Direction] = "higher"
    parts = ("line_precision", "line_recall")

    def values(self, sample: Sample) -> tuple[float, float, float]:
        """F1, precision, recall."""
        return overlap_f1(lines(sample.prediction), lines(sample.reference))
