"""Exact match of prediction and reference."""

from typing import ClassVar

from kdeval.metrics import METRICS, Direction, SampleMean
from kdeval.samples import Sample
from kdeval.text import normalise_space


@METRICS.register("exact_match")
class ExactMatch(SampleMean):
    """1 when prediction and reference are the same text after `normalise_space`, else 0.

    White space is normalised, not ignored: ``f(1,2)`` is not ``f(1, 2)``. An empty prediction of an empty
    reference is a match; of anything else it is none.

    >>> ExactMatch().values(Sample("1", "", "assertTrue(a);", " assertTrue(a);"))
    (1.0,)
    """

    name = "exact_match"
    title = "Exact match"
    unit = "fraction"
    range = (0.0, 1.0)
    direction: ClassVar[Direction] = "higher"

    def values(self, sample: Sample) -> tuple[float]:
        """Whether the texts are the same."""
        return (float(is_exact(sample.prediction, sample.reference)),)


def is_exact(prediction: str, reference: str) -> bool:
    """Whether two texts are the same but for the amount of white space."""
    return normalise_space(prediction) == normalise_space(reference)
