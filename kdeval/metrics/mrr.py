"""Mean reciprocal rank."""

import numpy as np

from kdeval.metrics import METRICS, Floats
from kdeval.metrics._ranking import QueryMean, tied_sums


@METRICS.register("mrr")
class MeanReciprocalRank(QueryMean):
    r"""Mean over queries of 1 / rank of the first relevant candidate; the best candidate has rank 1.

    Where the first relevant candidate shares its score with others, the value is the expectation over their orders:
    with s candidates above the tie of n, of which r are relevant,

    .. math:: \sum_{j=0}^{n-r} \frac{1}{s + 1 + j} \cdot \frac{r}{n - j} \prod_{i<j} \frac{n - r - i}{n - i}

    (McSherry and Najork, 2008): j others of the tie come first with the chance that stands after the dot. A query
    without a relevant candidate: 0.

    >>> from kdeval.samples import Ranking, Sample
    >>> second = Sample("1", ranking=Ranking(scores=[0.9, 0.8, 0.1], relevance=[0, 1, 1]))
    >>> tied = Sample("2", ranking=Ranking(scores=[0.5, 0.5], relevance=[0, 1]))  # 1 or 1/2
    >>> MeanReciprocalRank().score([second, tied])
    {'mrr': 0.625}
    """

    name = "mrr"
    title = "Mean reciprocal rank"

    def of_query(self, scores_C: Floats, relevance_C: Floats) -> tuple[float, ...]:
        """Expected reciprocal rank."""
        ends, relevant = tied_sums(scores_C, relevance_C > 0)
        first = int(np.argmax(relevant > 0))
        above, size, hits = ends[first - 1], ends[first] - ends[first - 1], relevant[first]
        before = np.arange(size - hits + 1)
        miss = (size - hits - before) / (size - before)
        chance = np.append(1.0, np.cumprod(miss[:-1])) * hits / (size - before)
        return (float((chance / (above + 1 + before)).sum()),)
