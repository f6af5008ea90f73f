"""Normalised discounted cumulative gain."""

import numpy as np

from kdeval.metrics import METRICS, Floats
from kdeval.metrics._ranking import QueryMean, expected_sums


@METRICS.register("ndcg")
class Ndcg(QueryMean):
    r"""DCG divided by the DCG of the best order, over all candidates; the part looks at the first 10 places.

    .. math:: \mathrm{DCG} = \sum_{r=1}^{C} \frac{g_r}{\log_2(r + 1)}

    with the relevance g_r of the candidate of rank r as its gain (not :math:`2^{g_r} - 1`) (Järvelin and Kekäläinen,
    2002). Candidates with the same score all have the mean of their gains. A query without a relevant candidate: 0.
    This is scikit-learn's ``ndcg_score``, which however refuses a single candidate.

    >>> from kdeval.samples import Ranking, Sample
    >>> row = Sample("1", ranking=Ranking(scores=[0.9, 0.8, 0.7], relevance=[0, 0, 3]))  # 3 / log2(4) of 3 / log2(2)
    >>> Ndcg().score([row])
    {'ndcg': 0.5, 'ndcg_at_10': 0.5}
    """

    name = "ndcg"
    title = "nDCG"
    parts = ("ndcg_at_10",)

    def of_query(self, scores_C: Floats, relevance_C: Floats) -> tuple[float, ...]:
        """nDCG over all candidates and over the first 10."""
        gains_C = np.diff(expected_sums(scores_C, relevance_C, range(len(scores_C) + 1)))
        best_C = np.sort(relevance_C)[::-1]
        discount_C = 1 / np.log2(np.arange(len(scores_C)) + 2)
        reached_C, possible_C = np.cumsum(gains_C * discount_C), np.cumsum(best_C * discount_C)
        # Gains are differences of sums, so that the quotient of the best order may round up.
        share_C = np.minimum(1.0, reached_C / possible_C)
        return float(share_C[-1]), float(share_C[:10][-1])
