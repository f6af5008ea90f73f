"""What the metrics of retrieval share: checked rankings, and what a tie in the scores means.

Candidates with the same score stand in no order. Every value here is its expectation when tied candidates are ordered
by chance (McSherry and Najork, "Computing Information Retrieval Performance Measures Efficiently in the Presence of
Tied Scores", ECIR 2008): it depends on nothing but the scores, and a model that scores all candidates alike gets what
guessing gets.

Shape letters as in `kdeval.metrics`; C candidates of one query, T ties: groups of candidates with the same score.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from kdeval.metrics import Direction, Floats, SampleMean
from kdeval.samples import Group, Ranking, Sample
from kdstore.errors import InputError

Gains = Floats | NDArray[np.bool_]


def last_of_ties(sorted_C: Floats) -> NDArray[np.intp]:
    """Index of the last of each run of equal numbers, [T]."""
    # No number equals NaN, so that the last run ends too.
    return np.flatnonzero(np.diff(sorted_C, append=np.nan))


def tied_sums(scores_C: Floats, gains_C: Gains) -> tuple[Floats, Floats]:
    """Number of candidates down to the end of each tie, best first, and their gains' sum; from 0, [1 + T] each."""
    order_C = np.argsort(-scores_C, kind="stable")
    last_T = last_of_ties(scores_C[order_C])
    sums_T = np.cumsum(gains_C[order_C])[last_T]
    return np.append(0.0, last_T + 1.0), np.append(0.0, sums_T)


def expected_sums(scores_C: Floats, gains_C: Gains, ranks: Sequence[int]) -> Floats:
    """Expected sum of the gains of the first r candidates for each r of ``ranks``; of all where there are fewer."""
    # Within a tie every place has the same expected gain, so the sum grows linearly.
    sums: Floats = np.interp(ranks, *tied_sums(scores_C, gains_C))
    return sums


class QueryMean(SampleMean):
    """Base of the metrics of one query's ranking, averaged over queries.

    A candidate is relevant where its relevance is above 0. A query without a relevant candidate, or without any
    candidate, counts as 0 in every value, as in scikit-learn's ``ndcg_score``: no query drops out of a mean.
    """

    unit: ClassVar[str] = "fraction"
    range: ClassVar[tuple[float, float | None]] = (0.0, 1.0)
    direction: ClassVar[Direction] = "higher"
    inputs: ClassVar[Group] = "ranking"
    aggregation: ClassVar[str] = "mean over queries"

    @abstractmethod
    def of_query(self, scores_C: Floats, relevance_C: Floats) -> tuple[float, ...]:
        """The metric's value of a query with a relevant candidate, then its parts'."""

    def values(self, sample: Sample) -> tuple[float, ...]:
        """The values of one query; zeros for a sample that has none.

        Raises
        ------
        InputError
            Scores and relevance do not fit together, or are no finite numbers.
        """
        if sample.ranking is not None:
            scores_C, relevance_C = _checked(sample.id, sample.ranking)
            if relevance_C.any():
                return self.of_query(scores_C, relevance_C)
        return (0.0,) * (1 + len(self.parts))

    def measure(self, samples: Sequence[Sample]) -> Floats:
        """The values of each query and a 1; zeros for a sample that has none, float64 [N, 1 + parts + 1]."""
        present_N1 = np.array([[sample.ranking is not None] for sample in samples])
        stats_NK: Floats = super().measure(samples) * present_N1
        return stats_NK


def _checked(row: str, ranking: Ranking) -> tuple[Floats, Floats]:
    scores_C, relevance_C = np.array(ranking.scores, np.float64), np.array(ranking.relevance, np.float64)
    if len(scores_C) != len(relevance_C):
        raise InputError(
            f"Expected a score and a relevance for each candidate. Got {len(scores_C)} scores and {len(relevance_C)} "
            f"relevances in the row {row!r}. Give one of each per candidate."
        )
    for name, numbers_C, least in (("scores", scores_C, -np.inf), ("relevances", relevance_C, 0)):
        wrong = numbers_C[~(np.isfinite(numbers_C) & (numbers_C >= least))]
        if len(wrong):
            raise InputError(
                f"Expected {name} that are finite numbers{' from 0' if least == 0 else ''}. Got {wrong[0]} in the "
                f"row {row!r}. Correct the row or drop it."
            )
    return scores_C, relevance_C
