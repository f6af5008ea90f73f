"""F1 over all decisions on all labels."""

from kdeval.metrics import METRICS, Floats, Values
from kdeval.metrics._labels import LabelCounts, f1, quotient


@METRICS.register("micro_f1")
class MicroF1(LabelCounts):
    """2 h / (p + g) with h hits, p predicted and g true labels, counted over all samples and all labels.

    A label is predicted where its probability is at least its threshold. micro_precision = h / p and micro_recall =
    h / g. Frequent labels decide. Undefined where a denominator is 0: F1 if no label is predicted and none true,
    precision if none is predicted, recall if none is true. This is scikit-learn's
    ``f1_score(average="micro", zero_division=nan)``.

    >>> from kdeval.samples import LabelScores, Sample
    >>> rows = [  # predicted: joy and anger; joy. 2 hits of 3 predicted and 2 true
    ...     Sample("1", labels=LabelScores({"joy": 0.9, "anger": 0.6}, ["joy"])),
    ...     Sample("2", labels=LabelScores({"joy": 0.5, "anger": 0.1}, ["joy"])),
    ... ]
    >>> MicroF1(["joy", "anger"]).score(rows)
    {'micro_f1': 0.8, 'micro_precision': 0.6666666666666666, 'micro_recall': 1.0}
    """

    name = "micro_f1"
    title = "Micro F1"
    aggregation = "one value for the set, from hits summed over labels and samples"
    parts = ("micro_precision", "micro_recall")

    def of_counts(self, hits_BL: Floats, predicted_BL: Floats, gold_BL: Floats) -> Values:
        """F1, precision, recall of the sums over labels."""
        hits_B, predicted_B, gold_B = hits_BL.sum(axis=1), predicted_BL.sum(axis=1), gold_BL.sum(axis=1)
        return {
            "micro_f1": f1(hits_B, predicted_B, gold_B),
            "micro_precision": quotient(hits_B, predicted_B),
            "micro_recall": quotient(hits_B, gold_B),
        }
