"""How far a value might be off by chance: seeded bootstrap intervals over samples (Efron 1979, percentile method).

Shape letters as in `kdeval.metrics`.
"""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import numpy as np

from kdeval.metrics import Floats, Values

DRAWS: Final = 1000
LEVEL: Final = 0.95
_WEIGHTS = 1 << 18  # most weights in memory at once: 2 MiB


class Interval(NamedTuple):
    """From ``low`` to ``high``: where the value of as many other samples of the same kind would lie."""

    low: float
    high: float


def resamples(rows: int, draws: int, seed: int) -> Iterator[Floats]:
    """Weights of ``draws`` sets of ``rows`` samples drawn with replacement, some sets at a time, [B, N].

    They depend on nothing but the three numbers: values of two models on the same rows are so resampled together.
    """
    dice = np.random.default_rng(seed)
    size = max(1, _WEIGHTS // rows)
    for start in range(0, draws, size):
        weights_BN = np.empty((min(size, draws - start), rows))
        for weights_N in weights_BN:
            weights_N[:] = np.bincount(dice.integers(0, rows, rows), minlength=rows)
        yield weights_BN


def bootstrap(values_of: Callable[[Floats], Values], rows: int, draws: int = DRAWS, seed: int = 0) -> Values:
    """What ``values_of`` makes of each resample, [draws] by name; nothing without draws."""
    pieces = [values_of(weights_BN) for weights_BN in resamples(rows, draws, seed)]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in (pieces[0] if pieces else ())}


def interval(drawn_B: Floats, level: float = LEVEL) -> Interval | None:
    """The middle ``level`` of the values of resamples; those that are undefined are left out, None without any."""
    defined = drawn_B[~np.isnan(drawn_B)]
    if not len(defined):
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
