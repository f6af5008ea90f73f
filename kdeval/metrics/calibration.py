"""Whether the model is right as often as it says.

Shape letters as in `kdeval.metrics`, and M bins, P quantities: tokens, confidence, correct.
"""

from collections.abc import Sequence
from typing import ClassVar, Final, NamedTuple

import numpy as np

from kdeval.metrics import METRICS, Direction, Floats, Summed, Values, ratios
from kdeval.samples import Group, Sample, TokenScores

BINS: Final = 15
_EDGES = np.arange(BINS + 1) / BINS
_MILLION = 1_000_000
_QUANTITIES = ("tokens", "confidence", "correct")


class Bin(NamedTuple):
    """The label tokens whose confidence is at least ``low`` and below ``high``; the last bin holds 1 too.

    ``confidence`` is their mean, ``accuracy`` the share where the likeliest token is the label; NaN without tokens.
    """

    low: float
    high: float
    tokens: float
    confidence: float
    accuracy: float


@METRICS.register("calibration")
class Calibration(Summed):
    r"""Expected calibration error of the likeliest token, in 15 bins of equal width.

    .. math:: \sum_{m=1}^{15} \frac{n_m}{n} \, \bigl| \mathrm{accuracy}_m - \mathrm{confidence}_m \bigr|

    The confidence of a label token is the probability of the likeliest token at temperature 1, teacher-forced. Bin m
    holds the n_m of all n tokens with a confidence in [(m - 1) / 15, m / 15); accuracy_m is the share of these where
    the likeliest token is the label, confidence_m their mean confidence (Naeini et al. 2015, Obtaining Well
    Calibrated Probabilities Using Bayesian Binning; Guo et al. 2017, arXiv:1706.04599, equation 3). Undefined without
    label tokens. 0 says that the frequencies match, not that the model is right.

    Differs from Guo et al., whose bins hold their upper edge instead of their lower. torchmetrics has the lower too,
    but keeps a confidence of exactly 1 in a sixteenth bin; here it is in the last.

    >>> tokens = TokenScores(nll=[0.4, 0.9], confidence=[0.7, 0.72], correct=[True, False], critical={})
    >>> round(Calibration().score([Sample("1", tokens=tokens)])["calibration"], 6)  # one bin: |1 / 2 - 0.71|
    0.21
    """

    name = "calibration"
    title = "Expected calibration error"
    unit = "fraction"
    range = (0.0, 1.0)
    direction: ClassVar[Direction] = "lower"
    inputs: ClassVar[Group] = "tokens"
    columns = tuple(f"{quantity}_{m}" for quantity in _QUANTITIES for m in range(1, BINS + 1))
    aggregation = "one value for the set, from sums over the label tokens of each bin"

    def measure(self, samples: Sequence[Sample]) -> Floats:
        """Tokens, summed confidence in millionths, and correct tokens of each bin: whole numbers, float64 [N, 45]."""
        return np.array([_sums(sample.tokens) for sample in samples])

    def of_sums(self, sums_BK: Floats) -> Values:
        """Summed gaps of the bins over the number of tokens."""
        tokens_BM, confidence_BM, correct_BM = _by_quantity(sums_BK)
        gaps_B = np.abs(correct_BM - confidence_BM).sum(1)
        return ratios((self.name,), gaps_B[:, None], tokens_BM.sum(1))


def reliability(stats_NK: Floats) -> list[Bin]:
    """The 15 bins of all samples together, from their statistics: what a reliability diagram shows.

    >>> tokens = TokenScores(nll=[0.2, 3.0], confidence=[0.97, 0.99], correct=[True, False], critical={})
    >>> bins = reliability(Calibration().measure([Sample("1", tokens=tokens)]))
    >>> tuple(round(number, 6) for number in bins[-1])
    (0.933333, 1.0, 2.0, 0.98, 0.5)
    """
    tokens_1M, *sums = _by_quantity(stats_NK.sum(0, keepdims=True))
    means = [ratios(("mean",), sums_1M.T, tokens_1M[0])["mean"] for sums_1M in sums]
    rows = zip(_EDGES[:-1], _EDGES[1:], tokens_1M[0], *means, strict=True)
    return [Bin(*map(float, row)) for row in rows]


def _sums(tokens: TokenScores | None) -> Floats:
    sums_PM = np.zeros((len(_QUANTITIES), BINS))
    if tokens is not None:
        # Inner edges only: what rounding pushed above 1 is in the last bin.
        index_L = np.digitize(tokens.confidence, _EDGES[1:-1])
        # As whole numbers they take a quarter of the memory, and six digits are all that is kept of a confidence.
        millionths_L = np.rint(_MILLION * np.array(tokens.confidence))
        np.add.at(sums_PM.T, index_L, np.array([[1.0] * len(tokens), millionths_L, tokens.correct]).T)
    return sums_PM.ravel()


def _by_quantity(sums_BK: Floats) -> Floats:
    """Tokens, confidence and correct tokens, float64 [P, B, M]."""
    sums_PBM = sums_BK.reshape(-1, len(_QUANTITIES), BINS).swapaxes(0, 1)
    found_PBM: Floats = sums_PBM / np.array([1, _MILLION, 1])[:, None, None]
    return found_PBM
