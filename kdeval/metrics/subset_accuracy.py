"""Share of samples with all labels right."""

from collections.abc import Sequence

import numpy as np

from kdeval.metrics import METRICS, Floats, Values, ratios
from kdeval.metrics._labels import Decided
from kdeval.samples import Sample


@METRICS.register("subset_accuracy")
class SubsetAccuracy(Decided):
    """Samples whose predicted labels are the true ones, no more and no fewer, divided by all samples.

    A label is predicted where its probability is at least its threshold. A sample without a true label is right if
    none is predicted. This is scikit-learn's ``accuracy_score`` on indicator matrices.

    >>> from kdeval.samples import LabelScores
    >>> rows = [
    ...     Sample("1", labels=LabelScores({"joy": 0.9, "anger": 0.6}, ["joy", "anger"])),
    ...     Sample("2", labels=LabelScores({"joy": 0.9, "anger": 0.6}, ["joy"])),
    ... ]
    >>> SubsetAccuracy(["joy", "anger"]).score(rows)
    {'subset_accuracy': 0.5}
    """

    name = "subset_accuracy"
    title = "Subset accuracy"
    columns = ("right", "samples")
    aggregation = "mean over samples"

    def measure(self, samples: Sequence[Sample]) -> Floats:
        """Whether all labels of a sample are right, and whether it has any, 0 or 1, float64 [N, 2]."""
        predicted_NL, gold_NL, present_N = self.decisions(samples)
        right_N = (predicted_NL == gold_NL).all(axis=1) & present_N
        return np.column_stack([right_N, present_N]).astype(np.float64)

    def of_sums(self, sums_BK: Floats) -> Values:
        """The share."""
        return ratios((self.name,), sums_BK[:, :1], sums_BK[:, 1])
