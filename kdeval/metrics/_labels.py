"""What the metrics of multi-label classification share: checked tables of scores, decisions, and their counts.

Shape letters as in `kdeval.metrics`, but L is labels here.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdeval.metrics import Context, Direction, Floats, Measured, Summed, Values
from kdeval.samples import Group, LabelScores, Sample
from kdstore.errors import InputError, UsageError

THRESHOLD: Final = 0.5
"""Probability from which a label counts as predicted where no threshold is named."""


class LabelTable(NamedTuple):
    """The labels of N samples: probabilities, which are true, and which samples have labels at all.

    ``scores_NL`` is float64, the others bool. A sample without labels has zeros.
    """

    scores_NL: Floats
    gold_NL: NDArray[np.bool_]
    present_N: NDArray[np.bool_]


def label_table(samples: Sequence[Sample], labels: Sequence[str]) -> LabelTable:
    """The labels of samples, in the order of ``labels``.

    Raises
    ------
    InputError
        A sample scores other labels than ``labels``, has a true label that is none of them, or a score that is no
        probability.
    """
    columns = {label: column for column, label in enumerate(labels)}
    scores_NL = np.zeros((len(samples), len(labels)))
    gold_NL = np.zeros(scores_NL.shape, np.bool_)
    for row, sample in enumerate(samples):
        if sample.labels is not None:
            _check_names(sample.id, sample.labels, columns)
            scores_NL[row] = [sample.labels.scores[label] for label in labels]
            gold_NL[row, [columns[label] for label in sample.labels.gold]] = True
    wrong = np.argwhere(~((scores_NL >= 0) & (scores_NL <= 1)))
    if len(wrong):
        row, column = wrong[0]
        raise InputError(
            f"Expected probabilities from 0 to 1. Got {scores_NL[row, column]} for the label {labels[column]!r} in "
            f"the row {samples[row].id!r}. Apply the sigmoid to the model's logits."
        )
    return LabelTable(scores_NL, gold_NL, np.array([sample.labels is not None for sample in samples], np.bool_))


def distinct(labels: Sequence[str]) -> tuple[str, ...]:
    """The labels; raises `UsageError` where one is named twice."""
    if len({*labels}) < len(labels):
        raise UsageError(f"Expected each label once. Got {_listed(labels)}. Name every label once.")
    return (*labels,)


def _check_names(row: str, found: LabelScores, expected: Mapping[str, int]) -> None:
    if found.scores.keys() != expected.keys():
        raise InputError(
            f"Expected scores of the labels {_listed(expected)}. Got scores of {_listed(found.scores)} in the row "
            f"{row!r}. Name the labels that the model predicts."
        )
    if strange := {*found.gold} - expected.keys():
        raise InputError(
            f"Expected true labels out of {_listed(expected)}. Got {_listed(sorted(strange))} in the row {row!r}. "
            "Map it to one of these or drop it."
        )


def _listed(names: Mapping[str, object] | Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names) or "none"


def quotient(totals: ArrayLike, counts: ArrayLike) -> Floats:
    """Totals divided by counts, element by element; NaN where a count is 0."""
    totals, counts = np.broadcast_arrays(np.asarray(totals, np.float64), counts)
    quotients: Floats = np.divide(totals, counts, out=np.full(totals.shape, np.nan), where=counts > 0)
    return quotients


def f1(hits: ArrayLike, predicted: ArrayLike, gold: ArrayLike) -> Floats:
    """2 hits / (predicted + gold), element by element; NaN where nothing is predicted and nothing true."""
    return quotient(2 * np.asarray(hits), np.asarray(predicted) + np.asarray(gold))


def defined_mean(values_BL: Floats) -> Floats:
    """Mean over the labels whose value is defined, [B]; NaN where none is."""
    return quotient(np.nansum(values_BL, axis=1), (~np.isnan(values_BL)).sum(axis=1))


class Labelled(Measured):
    """Base of the metrics of samples with labels.

    Raises
    ------
    UsageError
        A label is named twice.
    """

    unit: ClassVar[str] = "fraction"
    range: ClassVar[tuple[float, float | None]] = (0.0, 1.0)
    direction: ClassVar[Direction] = "higher"
    inputs: ClassVar[Group] = "labels"

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = distinct(labels)

    @classmethod
    def create(cls, context: Context) -> Self:
        """With the labels of the evaluation."""
        return cls(context.labels)


class Decided(Labelled, Summed):
    """Base of the metrics that look at which labels are predicted: those whose probability reaches their threshold.

    ``thresholds`` are by label, 0.5 where none is named.

    Raises
    ------
    UsageError
        A label is named twice, a threshold is of no label, or it is no probability.
    """

    def __init__(self, labels: Sequence[str], thresholds: Mapping[str, float] | None = None) -> None:
        super().__init__(labels)
        thresholds = thresholds or {}
        if strange := thresholds.keys() - {*labels}:
            raise UsageError(
                f"Expected thresholds of the labels {_listed(labels)}. Got one of {_listed(sorted(strange))}. Name "
                "the labels as the model does."
            )
        for label, threshold in thresholds.items():
            if not 0 <= threshold <= 1:
                raise UsageError(
                    f"Expected thresholds from 0 to 1. Got {threshold} for {label!r}. Name a probability."
                )
        self.thresholds_L = np.array([thresholds.get(label, THRESHOLD) for label in self.labels], np.float64)

    @classmethod
    def create(cls, context: Context) -> Self:
        """With the labels and thresholds of the evaluation."""
        return cls(context.labels, context.thresholds)

    def decisions(self, samples: Sequence[Sample]) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
        """Which labels are predicted [N, L] and which are true [N, L]; which samples have any labels [N].

        Raises
        ------
        InputError
            See `label_table`.
        """
        scores_NL, gold_NL, present_N = label_table(samples, self.labels)
        return (scores_NL >= self.thresholds_L) & present_N[:, None], gold_NL, present_N


class LabelCounts(Decided):
    """Base of the metrics that are functions of three counts of each label.

    These are its hits (samples in which it is predicted and true), predictions, and true occurrences.
    """

    @property
    def columns(self) -> tuple[str, ...]:  # type: ignore[override]
        """Each of the counts for all labels."""
        return tuple(f"{count}_{label}" for count in ("hits", "predicted", "gold") for label in self.labels)

    @abstractmethod
    def of_counts(self, hits_BL: Floats, predicted_BL: Floats, gold_BL: Floats) -> Values:
        """Values of B sets, [B] each; NaN where a value is undefined."""

    def measure(self, samples: Sequence[Sample]) -> Floats:
        """The counts in each sample, 0 or 1, float64 [N, 3 L]."""
        predicted_NL, gold_NL, _ = self.decisions(samples)
        return np.hstack([predicted_NL & gold_NL, predicted_NL, gold_NL]).astype(np.float64)

    def of_sums(self, sums_BK: Floats) -> Values:
        """`of_counts` of the summed counts."""
        hits_BL, predicted_BL, gold_BL = np.split(sums_BK, 3, axis=1)
        return self.of_counts(hits_BL, predicted_BL, gold_BL)
