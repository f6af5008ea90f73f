"""Hamming loss."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from kdeval.metrics import METRICS, Direction, Floats, Values, ratios
from kdeval.metrics._labels import Decided
from kdeval.samples import Sample


@METRICS.register("hamming")
class Hamming(Decided):
    """Wrong decisions divided by all decisions, one for each label of each sample.

    A label is predicted where its probability is at least its threshold; the decision is wrong where it is predicted
    and not true, or true and not predicted. Where few of many labels are true, predicting none scores well. Undefined
    without labels. This is scikit-learn's ``hamming_loss``.

    >>> from kdeval.samples import LabelScores
    >>> row = Sample("1", labels=LabelScores({"joy": 0.9, "anger": 0.6, "fear": 0.1, "grief": 0.2}, ["joy"]))
    >>> Hamming(["joy", "anger", "fear", "grief"]).score([row])
    {'hamming': 0.25}
    """

    name = "hamming"
    title = "Hamming loss"
    direction: ClassVar[Direction] = "lower"
    columns = ("wrong", "decisions")
    aggregation = "mean over all decisions of all samples"

    def measure(self, samples: Sequence[Sample]) -> Floats:
        """Wrong and all decisions of each sample, float64 [N, 2]."""
        predicted_NL, gold_NL, present_N = self.decisions(samples)
        wrong_N = (predicted_NL != gold_NL).sum(axis=1)
        return np.column_stack([wrong_N, present_N * len(self.labels)]).astype(np.float64)

    def of_sums(self, sums_BK: Floats) -> Values:
        """The share."""
        return ratios((self.name,), sums_BK[:, :1], sums_BK[:, 1])
