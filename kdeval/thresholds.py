"""From which probability a label should count as predicted: thresholds that give the best F1 on some samples.

Fit them on other rows than those that a result is reported on: on their own rows they promise too much, and the
more so the rarer a label is. `search` says how much better they are there, not how good they are.

Shape letters as in `kdeval.metrics`, but L is labels and T thresholds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kdeval.metrics import Floats
from kdeval.metrics._labels import THRESHOLD, defined_mean, distinct, f1, label_table, quotient
from kdeval.metrics._ranking import last_of_ties
from kdeval.samples import Sample
from kdstore.errors import EmptyInputError, UsageError


@dataclass(frozen=True)
class Thresholds:
    """Thresholds, and F1 on the samples that they were fitted on. ``before`` is a threshold of 0.5 for all labels.

    Attributes
    ----------
    by_label
        The threshold of each label with the best F1 of that label; what `kdeval.metrics.Context` takes.
    overall
        One threshold for all labels, with the best macro F1.
    f1_before, f1_after
        F1 of each label before and with ``by_label``; NaN for one that is neither true nor predicted.
    macro_f1_before, macro_f1_by_label, macro_f1_overall
        Mean F1 of the labels for which it is defined, as the metric ``macro_f1`` has it.
    """

    by_label: Mapping[str, float]
    overall: float
    f1_before: Mapping[str, float]
    f1_after: Mapping[str, float]
    macro_f1_before: float
    macro_f1_by_label: float
    macro_f1_overall: float


class _Curve(NamedTuple):
    """F1 of one label at every threshold that makes a difference.

    ``cuts_T`` are the distinct scores, descending. ``f1_T`` [1 + T] is F1 above all of them (nothing is predicted),
    and then down to each. ``occurs``: whether the label is true anywhere.
    """

    cuts_T: Floats
    f1_T: Floats
    occurs: bool

    def at(self, thresholds: Floats) -> Floats:
        """F1 at any thresholds; NaN where the label is neither true nor predicted."""
        return self.f1_T[len(self.cuts_T) - np.searchsorted(self.cuts_T[::-1], thresholds, side="left")]

    def best(self) -> float:
        """The threshold of the best F1, the greatest of equals; 0.5 for a label that is never true."""
        return float(self.cuts_T[np.argmax(self.f1_T[1:])]) if self.occurs else THRESHOLD


def search(samples: Sequence[Sample], labels: Sequence[str], objective: str = "f1") -> Thresholds:
    """The thresholds of the best F1 among all distinct scores of the samples, exactly.

    A label is predicted where its score is at least its threshold, so no other number can do better than a score. Of
    thresholds that are equally good the greatest is taken. A label that is true in no sample keeps 0.5: any threshold
    would be a guess. Samples without labels count for nothing. Time: that of sorting all scores.

    >>> from kdeval.samples import LabelScores
    >>> rows = [  # F1 of joy from 0.4, 0.3, 0.2 on: 2/3, 1/2, 4/5
    ...     Sample("1", labels=LabelScores({"joy": 0.4}, ["joy"])),
    ...     Sample("2", labels=LabelScores({"joy": 0.3}, [])),
    ...     Sample("3", labels=LabelScores({"joy": 0.2}, ["joy"])),
    ... ]
    >>> found = search(rows, ["joy"])
    >>> found.by_label, found.macro_f1_before, found.macro_f1_by_label
    ({'joy': 0.2}, 0.0, 0.8)

    Raises
    ------
    UsageError
        The objective is not ``f1``, or a label is named twice.
    EmptyInputError
        No sample has a true label.
    InputError
        A sample's labels are not ``labels``, or a score is no probability.
    """
    if objective != "f1":
        raise UsageError(f"Expected the objective 'f1'. Got {objective!r}. Thresholds are searched for F1 only.")
    scores_NL, gold_NL, present_N = label_table(samples, distinct(labels))
    if not gold_NL.any():
        raise EmptyInputError("Expected a sample with a true label to fit thresholds on. Got none. Check the data.")
    curves = [_curve(*column) for column in zip(scores_NL[present_N].T, gold_NL[present_N].T, strict=True)]
    best_L = np.array([curve.best() for curve in curves])
    before_L = np.array([float(curve.at(np.array(THRESHOLD))) for curve in curves])
    after_L = np.array([float(curve.at(best)) for curve, best in zip(curves, best_L, strict=True)])
    overall, macro_f1 = _overall(curves)
    return Thresholds(
        by_label=dict(zip(labels, best_L.tolist(), strict=True)),
        overall=overall,
        f1_before=dict(zip(labels, before_L.tolist(), strict=True)),
        f1_after=dict(zip(labels, after_L.tolist(), strict=True)),
        macro_f1_before=float(defined_mean(before_L[None])[0]),
        macro_f1_by_label=float(defined_mean(after_L[None])[0]),
        macro_f1_overall=macro_f1,
    )


def _curve(scores_N: Floats, gold_N: Floats) -> _Curve:
    order_N = np.argsort(-scores_N, kind="stable")
    last_T = last_of_ties(scores_N[order_N])
    hits_T = np.cumsum(gold_N[order_N])[last_T]
    f1_T = f1(np.append(0, hits_T), np.append(0, last_T + 1), gold_N.sum())
    return _Curve(scores_N[order_N][last_T], f1_T, bool(gold_N.any()))


def _overall(curves: Sequence[_Curve]) -> tuple[float, float]:
    """The threshold of the best macro F1 over all labels' scores, the greatest of equals; and that macro F1."""
    cuts_T = np.unique(np.concatenate([curve.cuts_T for curve in curves]))[::-1]
    totals_T, defined_T = np.zeros((2, len(cuts_T)))
    for curve in curves:
        f1_T = curve.at(cuts_T)
        totals_T += np.nan_to_num(f1_T)
        defined_T += ~np.isnan(f1_T)
    macro_T = quotient(totals_T, defined_T)
    # Equal means of the labels' F1 may differ in their last digit.
    best = int(np.argmax(macro_T >= macro_T.max() - 1e-12))
    return float(cuts_T[best]), float(macro_T[best])
