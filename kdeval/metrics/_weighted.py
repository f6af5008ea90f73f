"""Weighted means of the values of other metrics."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from kdeval.metrics import Composite, Direction, Values


class Weighted(Composite):
    """Base of scores that are a weighted mean of metrics in [0, 1]; a cosine below 0 counts as 0.

    ``percent`` holds the weight of each component in hundredths, 100 in all: sums of these are exact, so that a
    score of perfect components is 1.
    """

    unit = "fraction"
    range = (0.0, 1.0)
    direction: ClassVar[Direction] = "higher"
    aggregation = "weighted mean of the values of other metrics"
    percent: ClassVar[Mapping[str, int]]

    def of_values(self, values: Values) -> Values:
        """The score, [B]; NaN where a component is."""
        terms = [weight * np.maximum(values[name], 0) for name, weight in self.percent.items()]
        return {self.name: np.sum(terms, axis=0) / 100}
