"""Recall@k of retrieval."""

from kdeval.metrics import METRICS, Floats
from kdeval.metrics._ranking import QueryMean, expected_sums


@METRICS.register("recall_at_k")
class RecallAtK(QueryMean):
    """Relevant candidates among the first k, divided by all relevant ones; k = 5, the parts have k = 1 and k = 10.

    A query with r > k relevant candidates reaches at most k / r. Where a tie in the scores goes across
    place k, the value is the expectation over the orders of the tied candidates. A query without a relevant
    candidate: 0.

    >>> from kdeval.samples import Ranking, Sample
    >>> row = Sample("1", ranking=Ranking(scores=[0.1, 0.9, 0.8, 0.2, 0.3, 0.4], relevance=[1, 1, 0, 1, 1, 0]))
    >>> RecallAtK().score([row])  # best first: 1 0 0 1 1 1
    {'recall_at_k': 0.75, 'recall_at_1': 0.25, 'recall_at_10': 1.0}
    """

    name = "recall_at_k"
    title = "Recall@5"
    parts = ("recall_at_1", "recall_at_10")

    def of_query(self, scores_C: Floats, relevance_C: Floats) -> tuple[float, ...]:
        """Recall at 5, 1, 10."""
        relevant_C = relevance_C > 0
        hits = expected_sums(scores_C, relevant_C, (5, 1, 10))
        return tuple((hits / relevant_C.sum()).tolist())
