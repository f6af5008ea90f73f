"""Average precision of the labels, whatever the thresholds."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kdeval.metrics import METRICS, Floats, Values
from kdeval.metrics._labels import Labelled, defined_mean, label_table, quotient
from kdeval.metrics._ranking import last_of_ties
from kdeval.samples import Sample


@METRICS.register("average_precision")
class AveragePrecision(Labelled):
    r"""Mean over labels of the area under the steps of precision over recall.

    For one label, with precision P_n and recall R_n if it is predicted for all samples whose probability is at least
    the n-th greatest distinct one:

    .. math:: \mathrm{AP} = \sum_n (R_n - R_{n-1}) P_n

    ``average_precision_micro`` takes all pairs of sample and label as one list. A label that is true nowhere in the
    set has no AP and is left out of the mean; without any true label both values are undefined. This is
    scikit-learn's ``average_precision_score``, except that it counts a label that is never true as 0. It is computed
    here because an interval needs thousands of sets of the same samples, which this sorts once.

    >>> from kdeval.samples import LabelScores
    >>> rows = [  # joy, best first: true, not, true. 1/2 * 1/1 + 1/2 * 2/3. anger: never true
    ...     Sample("1", labels=LabelScores({"joy": 0.9, "anger": 0.0}, ["joy"])),
    ...     Sample("2", labels=LabelScores({"joy": 0.6, "anger": 0.0}, [])),
    ...     Sample("3", labels=LabelScores({"joy": 0.3, "anger": 0.0}, ["joy"])),
    ... ]
    >>> AveragePrecision(["joy", "anger"]).score(rows)
    {'average_precision': 0.8333333333333333, 'average_precision_micro': 0.8333333333333333}
    """

    name = "average_precision"
    title = "Average precision"
    aggregation = "one value for the set: mean over labels, each from the order of all samples"
    parts = ("average_precision_micro",)

    @property
    def columns(self) -> tuple[str, ...]:  # type: ignore[override]
        """Score and truth of each label, and 1 for a sample that has labels."""
        return (*(f"{kind}_{label}" for kind in ("score", "gold") for label in self.labels), "samples")

    def measure(self, samples: Sequence[Sample]) -> Floats:
        """Scores, truth (0 or 1), and whether the sample has labels, float64 [N, 2 L + 1].

        Raises
        ------
        InputError
            See `label_table`.
        """
        return np.column_stack(label_table(samples, self.labels)).astype(np.float64)

    def combine(self, stats_NK: Floats, weights_BN: Floats) -> Values:
        """Macro and micro average precision of each set."""
        present_N = stats_NK[:, -1] > 0
        scores_NL, gold_NL = np.split(stats_NK[present_N, :-1], 2, axis=1)
        weights_BN = weights_BN[:, present_N]
        rows_NL = np.broadcast_to(np.arange(len(scores_NL))[:, None], scores_NL.shape)
        columns = zip(scores_NL.T, gold_NL.T, rows_NL.T, strict=True)
        values_LB = [_average_precision(*column, weights_BN) for column in columns]
        return {
            "average_precision": defined_mean(np.reshape(values_LB, (len(self.labels), len(weights_BN))).T),
            "average_precision_micro": _average_precision(
                scores_NL.ravel(), gold_NL.ravel(), rows_NL.ravel(), weights_BN
            ),
        }

    def per_sample(self, stats_NK: Floats) -> Values:
        """1 where any label is true, for a label true in all samples has AP 1; micro: the order of its labels."""
        scores_NL, gold_NL = np.split(stats_NK[:, :-1], 2, axis=1)
        rows_L = np.zeros(len(self.labels), np.intp)
        micro = [_average_precision(*row, rows_L, np.ones((1, 1)))[0] for row in zip(scores_NL, gold_NL, strict=True)]
        return {
            "average_precision": np.where(gold_NL.any(axis=1), 1.0, np.nan),
            "average_precision_micro": np.array(micro, np.float64),
        }


def _average_precision(scores_M: Floats, gold_M: Floats, rows_M: NDArray[np.intp], weights_BN: Floats) -> Floats:
    """Average precision of M decisions in each of B sets, [B]; ``rows_M`` says which sample's weight one has."""
    order_M = np.argsort(-scores_M, kind="stable")
    last_T = last_of_ties(scores_M[order_M])
    gold_M, rows_M = gold_M[order_M], rows_M[order_M]
    areas_B, totals_B = np.zeros((2, len(weights_BN)))
    # One set at a time: the weights of all decisions in all sets would not fit into memory.
    for index, weights_N in enumerate(weights_BN):
        weights_M = weights_N[rows_M]
        hits_T, predicted_T = np.cumsum(weights_M * gold_M)[last_T], np.cumsum(weights_M)[last_T]
        # Weights are whole numbers, so the maximum only replaces 0, where there is no hit either.
        areas_B[index] = np.diff(hits_T, prepend=0) @ (hits_T / np.maximum(predicted_T, 1))
        totals_B[index] = weights_M @ gold_M
    return quotient(areas_B, totals_B)
