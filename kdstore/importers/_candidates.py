"""Candidates as a capture keeps them, checked."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from kdstore.errors import RowError
from kdstore.importers import Candidates

MAX_CANDIDATES: Final = 4096
"""Most candidates of a label token, as for the codec `topk`."""

# A lossy format may give a little more than all the mass; decoding normalises it.
_MOST_MASS = 1.05


def ordered(pairs: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    """Ids and log-probabilities, the likeliest first; what has no probability is no candidate."""
    kept = sorted((pair for pair in pairs if pair[1] != -np.inf), key=lambda pair: (-pair[1], pair[0]))
    return [token for token, _ in kept], [log_prob for _, log_prob in kept]


def from_capture(capture: Mapping[str, Any]) -> Candidates:
    """The candidates of a capture that keeps them under their own names; null stands for -inf."""
    labels = [-np.inf if value is None else value for value in capture["label_log_probs"]]
    return Candidates(capture["ids"], capture["log_probs"], labels)


def check(signal: Candidates, labels: Sequence[int], vocab_size: int) -> Candidates:
    """The candidates, when they can be what they claim.

    Raises
    ------
    RowError
        Not one list per label, no candidate or too many, an id twice or outside the vocabulary, or more mass than
        there is.
    """
    if len(signal.ids) != len(labels):
        raise RowError(f"Expected candidates for {len(labels)} label tokens. Got {len(signal.ids)}. Drop the row.")
    for position, (ids, log_probs) in enumerate(zip(signal.ids, signal.log_probs, strict=True)):
        if not 0 < len(ids) <= MAX_CANDIDATES or len(set(ids)) < len(ids) or min(ids) < 0 or max(ids) >= vocab_size:
            raise RowError(
                f"Expected 1 to {MAX_CANDIDATES} distinct candidates below {vocab_size} at position {position}. "
                f"Got {ids!r:.60}. Use the tokenizer of the capture."
            )
        mass = float(np.exp(np.array(log_probs, np.float64).clip(max=1)).sum())
        if not mass <= _MOST_MASS:  # NaN, too
            raise RowError(
                f"Expected log-probabilities whose mass is at most 1 at position {position}. Got {mass:.3g}. "
                "Logits, or probabilities at another temperature, cannot be imported as candidates."
            )
    return signal
