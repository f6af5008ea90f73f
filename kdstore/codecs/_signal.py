"""What decoding gives: the three forms in which losses see a teacher."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class DenseSignal:
    """Full teacher logits, up to a constant per row: ``logits_LV`` float32 [L, V], -inf for ids never emitted."""

    logits_LV: Tensor

    def log_probs(self, temperature: float) -> Tensor:
        """log p_T, float32 [L, V]."""
        return torch.log_softmax(self.logits_LV / temperature, dim=-1)


@dataclass(frozen=True)
class SparseSignal:
    """Candidates and the mass of the rest, at one temperature.

    ``ids_LK`` int64 [L, K]; ``log_probs_LK`` float32 [L, K], log p_T of each; ``log_tail_L`` float32 [L], the
    log of the mass that p_T puts on all other ids (-inf where nothing is left). Where positions keep fewer than K
    candidates, the list is filled up with other ids of log-probability -inf: no id occurs twice in a row.
    """

    ids_LK: Tensor
    log_probs_LK: Tensor
    log_tail_L: Tensor


@dataclass(frozen=True)
class SampledSignal:
    """Weighted draws from p_T, for one divergence at one temperature.

    The sum over v of w(v) f(v) is an unbiased estimate of the mean of f under p_T. ``ids_LK`` int64 [L, K];
    ``weights_LK`` float32 [L, K], 0 where a position has fewer than K draws; ``log_probs_LK`` float32 [L, K],
    log p_T of each.
    """

    ids_LK: Tensor
    weights_LK: Tensor
    log_probs_LK: Tensor


Signal = DenseSignal | SparseSignal | SampledSignal
