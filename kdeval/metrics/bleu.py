"""Corpus BLEU."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from sacrebleu import BLEU

from kdeval.metrics import METRICS, Direction, Floats, Summed, Values
from kdeval.samples import Group, Sample
from kdeval.text import java_tokens

_ORDERS = 4
_COUNTS = (
    *(f"matched_{n}" for n in range(1, _ORDERS + 1)),
    *(f"predicted_{n}" for n in range(1, _ORDERS + 1)),
    "predicted_tokens",
    "expected_tokens",
)


@METRICS.register("bleu")
class Bleu(Summed):
    """100 BP exp(mean over n <= 4 of log p_n), by sacrebleu, on Java-like tokens.

    p_n is the share of the predictions' n-grams that occur in their reference (clipped counts, summed over
    the set), BP = min(1, exp(1 - r / c)) for c predicted and r expected tokens; orders without a match are
    smoothed (``exp``). sacrebleu's own tokenisers are made for prose and keep ``list.size`` whole, so texts
    are split by `java_tokens` first and sacrebleu is told not to split: the numbers do not compare with BLEU
    under another tokenisation. Orders for which the whole set has no n-gram are left out (effective order),
    so that a set of very short references can be perfect. Only empty predictions of empty references: 100.
    No prediction with a token, or no match at all: 0.

    >>> Bleu().score([Sample("1", "", reference="f(a, b);", prediction="f(a, b);")])
    {'bleu': 100.0}
    """

    name = "bleu"
    title = "BLEU"
    unit = "BLEU points"
    range = (0.0, 100.0)
    direction: ClassVar[Direction] = "higher"
    inputs: ClassVar[Group] = "text"
    columns = _COUNTS
    aggregation = "one value for the set, from summed n-gram counts"

    def __init__(self) -> None:
        self._bleu = BLEU(tokenize="none", effective_order=True, force=True)

    @property
    def implementation(self) -> str:
        """Sacrebleu's signature, and the tokenisation before it."""
        # The signature names the number of references only after a first score.
        self._bleu.corpus_score([""], [[""]])
        return f"sacrebleu {self._bleu.get_signature()}, pre-tokenised by java_tokens"

    def measure(self, samples: Sequence[Sample]) -> Floats:
        """Matched n-grams, predicted n-grams (n = 1 to 4), predicted and expected tokens, float64 [N, 10]."""
        return np.array([self._counts(sample) for sample in samples], np.float64)

    def of_sums(self, sums_BK: Floats) -> Values:
        """BLEU of the summed counts."""
        return {self.name: np.array([self._score(sums_K) for sums_K in sums_BK.astype(int).tolist()])}

    def _score(self, sums: list[int]) -> float:
        matched, predicted, (length, expected) = sums[:_ORDERS], sums[_ORDERS:-2], sums[-2:]
        if length == expected == 0:
            return 100.0
        score = BLEU.compute_bleu(
            matched, predicted, length, expected, smooth_method="exp", effective_order=True
        ).score
        return min(100.0, float(score))  # exp(log(100)) may round up

    def _counts(self, sample: Sample) -> list[int]:
        prediction, reference = (" ".join(java_tokens(text)) for text in (sample.prediction, sample.reference))
        score = self._bleu.corpus_score([prediction], [[reference]])
        return [*score.counts, *score.totals, score.sys_len, score.ref_len]
