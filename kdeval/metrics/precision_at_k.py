"""Precision@k of retrieval."""

from kdeval.metrics import METRICS, Floats
from kdeval.metrics._ranking import QueryMean, expected_sums


@METRICS.register("precision_at_k")
class PrecisionAtK(QueryMean):
    """Relevant candidates among the first k, divided by k; k = 5, the parts have k = 1 and k = 10.

    The denominator is k even where there are fewer candidates, as in trec_eval: the missing places count as not
    relevant. So a query with r < k relevant candidates reaches at most r / k. Where a tie in the scores goes across
    place k, the value is the expectation over the orders of the tied candidates. A query without a relevant
    candidate: 0.

    >>> from kdeval.samples import Ranking, Sample
    >>> row = Sample("1", ranking=Ranking(scores=[0.1, 0.9, 0.8, 0.2, 0.3, 0.4], relevance=[1, 1, 0, 1, 1, 0]))
    >>> PrecisionAtK().score([row])  # best first: 1 0 0 1 1 1
    {'precision_at_k': 0.6, 'precision_at_1': 1.0, 'precision_at_10': 0.4}
    """

    name = "precision_at_k"
    title = "Precision@5"
    parts = ("precision_at_1", "precision_at_10")

    def of_query(self, scores_C: Floats, relevance_C: Floats) -> tuple[float, ...]:
        """Precision at 5, 1, 10."""
        hits = expected_sums(scores_C, relevance_C > 0, (5, 1, 10))
        return (float(hits[0]) / 5, float(hits[1]), float(hits[2]) / 10)
