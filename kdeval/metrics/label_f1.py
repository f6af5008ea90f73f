"""F1 of every label, and their mean weighted by how often each is true."""

import numpy as np

from kdeval.metrics import METRICS, Floats, Values
from kdeval.metrics._labels import LabelCounts, defined_mean, f1, quotient


@METRICS.register("label_f1")
class LabelF1(LabelCounts):
    r"""Mean over labels of F1_l = 2 h_l / (p_l + g_l), weighted by g_l; the part ``f1_<label>`` is F1_l itself.

    h_l are hits, p_l predictions and g_l true occurrences of label l, which is predicted where its probability is at
    least its threshold. A label that is neither true nor predicted anywhere in the set has no F1 and no weight.
    Where no label is true, every F1 there is 0, and so is the mean; undefined if none is predicted either. This is
    scikit-learn's ``f1_score(average="weighted", zero_division=nan)``, and ``average=None`` for the parts.

    >>> from kdeval.samples import LabelScores, Sample
    >>> rows = [  # joy: 1 hit of 1 predicted and 3 true. anger: 1 of 1 and 1
    ...     Sample("1", labels=LabelScores({"joy": 0.9, "anger": 0.6}, ["joy", "anger"])),
    ...     Sample("2", labels=LabelScores({"joy": 0.3, "anger": 0.1}, ["joy"])),
    ...     Sample("3", labels=LabelScores({"joy": 0.2, "anger": 0.0}, ["joy"])),
    ... ]
    >>> LabelF1(["joy", "anger"]).score(rows)
    {'label_f1': 0.625, 'f1_joy': 0.5, 'f1_anger': 1.0}
    """

    name = "label_f1"
    title = "F1 by label"
    aggregation = "one value for the set: mean over labels weighted by their true occurrences"

    @property
    def parts(self) -> tuple[str, ...]:  # type: ignore[override]
        """One name per label."""
        return tuple(f"f1_{label}" for label in self.labels)

    def of_counts(self, hits_BL: Floats, predicted_BL: Floats, gold_BL: Floats) -> Values:
        """The weighted mean, then F1 of each label."""
        f1_BL = f1(hits_BL, predicted_BL, gold_BL)
        gold_B = gold_BL.sum(axis=1)
        weighted_B = quotient(np.nansum(f1_BL * gold_BL, axis=1), gold_B)
        mean_B = np.where(gold_B > 0, weighted_B, defined_mean(f1_BL))
        return {"label_f1": mean_B, **dict(zip(self.parts, f1_BL.T, strict=True))}
