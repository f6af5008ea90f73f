"""Mean F1 of the labels, every label counting the same."""

from kdeval.metrics import METRICS, Floats, Values
from kdeval.metrics._labels import LabelCounts, defined_mean, f1, quotient


@METRICS.register("macro_f1")
class MacroF1(LabelCounts):
    r"""Mean over labels of 2 h_l / (p_l + g_l), with h_l hits, p_l predictions and g_l true occurrences of label l.

    A label is predicted where its probability is at least its threshold. macro_precision is the mean of h_l / p_l,
    macro_recall that of h_l / g_l. Where a denominator is 0 the label's value is undefined, and the label is left out
    of that mean: of F1 if it is neither true nor predicted anywhere in the set, of precision if it is never
    predicted, of recall if it is never true. So a label that is true and never predicted lowers F1 and recall, not
    precision. Undefined where no label is left. This is scikit-learn's
    ``f1_score(average="macro", zero_division=nan)``; its default, ``zero_division=0``, counts what is undefined as 0,
    which differs where the set is so small that labels are missing from it.

    >>> from kdeval.samples import LabelScores, Sample
    >>> rows = [  # joy: 1 hit of 1 predicted and 2 true. anger: 1 of 2 and 1. fear: never true, never predicted
    ...     Sample("1", labels=LabelScores({"joy": 0.9, "anger": 0.6, "fear": 0.0}, ["joy", "anger"])),
    ...     Sample("2", labels=LabelScores({"joy": 0.3, "anger": 0.8, "fear": 0.1}, ["joy"])),
    ... ]
    >>> MacroF1(["joy", "anger", "fear"]).score(rows)
    {'macro_f1': 0.6666666666666666, 'macro_precision': 0.75, 'macro_recall': 0.75}
    """

    name = "macro_f1"
    title = "Macro F1"
    aggregation = "one value for the set: mean over labels, each from counts summed over samples"
    parts = ("macro_precision", "macro_recall")

    def of_counts(self, hits_BL: Floats, predicted_BL: Floats, gold_BL: Floats) -> Values:
        """Means over labels of F1, precision, recall."""
        return {
            "macro_f1": defined_mean(f1(hits_BL, predicted_BL, gold_BL)),
            "macro_precision": defined_mean(quotient(hits_BL, predicted_BL)),
            "macro_recall": defined_mean(quotient(hits_BL, gold_BL)),
        }
