"""Position-aware n-gram similarity."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from math import exp
from typing import ClassVar

from kdeval.metrics import METRICS, Direction, SampleMean
from kdeval.samples import Sample
from kdeval.text import assertion_tokens

_MAX_N = 4
_DECAY = 0.1


@METRICS.register("pans")
class Pans(SampleMean):
    r"""Mean over n-gram orders of the F1 of matches that count less the further they are from their place.

    .. math:: \frac{1}{N} \sum_{n=1}^{N} \frac{2 P_n R_n}{P_n + R_n}, \qquad
              R_n = \frac{1}{|r| - n + 1} \sum_i \max_j \; e^{-0.1 |i - j|} \, [r_{i:i+n} = p_{j:j+n}],
              \qquad N = \min(4, \max(|r|, |p|))

    for the tokens r of the reference and p of the prediction (`assertion_tokens`), and :math:`P_n` the same with r
    and p exchanged. An order that matches nowhere, or of which one side has no n-gram, adds 0. Symmetric; 1 only
    where the tokens are the same. Both without tokens: 1. One of them: 0.

    Differs from the loss ``pans``, which is :math:`1 - \tfrac{1}{N} \sum_n R_n` in expectation: with :math:`P_n`, a
    prediction gains nothing by being longer than the reference.

    >>> Pans().values(Sample("1", "", reference="f(a);", prediction="f(b);"))  # (3/4 + 1/3 + 0 + 0) / 4
    (0.2708333333333333,)
    """

    name = "pans"
    title = "PANS"
    unit = "fraction"
    range = (0.0, 1.0)
    direction: ClassVar[Direction] = "higher"
    good_at = 0.8

    def values(self, sample: Sample) -> tuple[float]:
        """The similarity of one pair."""
        expected, predicted = assertion_tokens(sample.reference), assertion_tokens(sample.prediction)
        orders = range(1, min(_MAX_N, max(len(expected), len(predicted))) + 1)
        if not orders:
            return (1.0,)
        return (sum(_f1(_ngrams(expected, n), _ngrams(predicted, n)) for n in orders) / len(orders),)


_Ngrams = list[tuple[str, ...]]


def _ngrams(tokens: Sequence[str], n: int) -> _Ngrams:
    return list(zip(*(tokens[start:] for start in range(n)), strict=False))


def _f1(expected: _Ngrams, predicted: _Ngrams) -> float:
    recall, precision = _found(expected, predicted), _found(predicted, expected)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _found(wanted: _Ngrams, others: _Ngrams) -> float:
    """Mean over the n-grams of how near the same one stands on the other side: 1 in the same place, 0 nowhere."""
    places: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, ngram in enumerate(others):
        places[ngram].append(place)
    near = [exp(-_DECAY * _distance(place, places[ngram])) for place, ngram in enumerate(wanted) if ngram in places]
    return sum(near) / len(wanted) if wanted else 0.0


def _distance(place: int, places: Sequence[int]) -> int:
    """From a place to the nearest of others, which ascend."""
    after = bisect_left(places, place)
    return min(abs(place - other) for other in places[max(after - 1, 0) : after + 1])
