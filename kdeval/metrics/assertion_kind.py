"""Share of predictions that call the right assertion method."""

from typing import ClassVar

from kdeval.metrics import METRICS, Direction, SampleMean
from kdeval.samples import Sample
from kdeval.text import assertion_kind


@METRICS.register("assertion_kind")
class AssertionKind(SampleMean):
    """1 when prediction and reference call the same assertion method, by `assertion_kind`, else 0.

    Two texts without any call are the same kind, and so are two that call no assertion. So both empty: 1; an empty
    text and one with a call: 0.

    >>> AssertionKind().values(Sample("1", "", "assertTrue(a.isEmpty());", prediction="Assert.assertTrue(b);"))
    (1.0,)
    """

    name = "assertion_kind"
    title = "Assertion kind"
    unit = "fraction"
    range = (0.0, 1.0)
    direction: ClassVar[Direction] = "higher"

    def values(self, sample: Sample) -> tuple[float]:
        """Whether the kinds are the same."""
        return (float(assertion_kind(sample.prediction) == assertion_kind(sample.reference)),)
