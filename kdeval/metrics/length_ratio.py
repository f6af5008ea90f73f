"""How long predictions are beside their references."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from kdeval.metrics import METRICS, Direction, Floats, Summed, Values, ratios
from kdeval.samples import Group, Sample
from kdeval.text import java_tokens


@METRICS.register("length_ratio")
class LengthRatio(Summed):
    """Sum of p / sum of r over the set, for p predicted and r expected Java-like tokens of a pair (`java_tokens`).

    Above 1 predictions are too long, below too short; which tokens they are does not count. A pair without an
    expected token counts as p + 1 predicted and 1 expected tokens, as if an end mark stood on both sides: its own
    ratio is 1 where the prediction is empty too, and more otherwise. An empty prediction of anything else: 0.

    >>> LengthRatio().score([Sample("1", "", "f(a, b);", "f(a);"), Sample("2", "", "g();", "g();")])  # 5 + 4 of 7 + 4
    {'length_ratio': 0.8181818181818182}
    """

    name = "length_ratio"
    title = "Length ratio"
    unit = "ratio"
    range = (0.0, None)
    direction: ClassVar[Direction] = "one"
    inputs: ClassVar[Group] = "text"
    aggregation = "predicted tokens of the set / its expected tokens"
    columns = ("predicted_tokens", "expected_tokens")

    def measure(self, samples: Sequence[Sample]) -> Floats:
        """Predicted and expected tokens of each sample, float64 [N, 2]."""
        return np.array([_counts(sample) for sample in samples], np.float64)

    def of_sums(self, sums_BK: Floats) -> Values:
        """Predicted tokens / expected tokens; undefined for an empty set."""
        return ratios((self.name,), sums_BK[:, :1], sums_BK[:, 1])


def _counts(sample: Sample) -> tuple[int, int]:
    predicted, expected = len(java_tokens(sample.prediction)), len(java_tokens(sample.reference))
    return (predicted, expected) if expected else (predicted + 1, 1)
