"""Divergences between a teacher's signal and a student, per position; what losses sum and fidelity differentiates."""

import math
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from kdstore.codecs import SampledSignal, Signal, SparseSignal

# Stands for log 0 in a teacher's log-probabilities: exp of it is exactly 0, and 0 times it is 0, not NaN.
LOG_ZERO: Final = -1e4

Divergence = Callable[[Signal, Tensor, float], Tensor]


def kl(signal: Signal, student_logits_LV: Tensor, temperature: float) -> Tensor:
    r"""Forward KL of each position in nats, float [L]: :math:`T^2 \mathrm{KL}(p_T \| q_T)`, teacher p, student q.

    Its gradient at the student's logits is :math:`T (q_T - p_T)`; over a sampled signal
    :math:`T ((\sum_v w_v) q_T - w)`, an unbiased estimate (Random Sampling KD, Anshumann et al. 2025,
    arXiv:2503.16870).
    """
    if isinstance(signal, SampledSignal):
        log_q_LV = torch.log_softmax(student_logits_LV / temperature, dim=-1)
        difference_LK = signal.log_probs_LK - log_q_LV.gather(-1, signal.ids_LK)
        return temperature**2 * (signal.weights_LK * difference_LK).sum(-1)
    log_p_LC, log_q_LC = aligned_log_probs(signal, student_logits_LV, temperature)
    return temperature**2 * relative_entropy(log_p_LC, log_q_LC)


def jsd(signal: Signal, student_logits_LV: Tensor, temperature: float) -> Tensor:
    r"""Jensen-Shannon divergence of each position in nats, float [L].

    :math:`\tfrac{T^2}{2} (\mathrm{KL}(p_T \| m) + \mathrm{KL}(q_T \| m))`, m the mean of p and q; log m is taken by
    logaddexp, never through probabilities.
    """
    log_p_LC, log_q_LC = aligned_log_probs(signal, student_logits_LV, temperature)
    log_m_LC = torch.logaddexp(log_p_LC, log_q_LC) - math.log(2)
    both_L = relative_entropy(log_p_LC, log_m_LC) + relative_entropy(log_q_LC, log_m_LC)
    return temperature**2 / 2 * both_L


def reverse_kl(signal: Signal, student_logits_LV: Tensor, temperature: float) -> Tensor:
    r"""Reverse KL of each position in nats, float [L]: :math:`T^2 \mathrm{KL}(q_T \| p_T)`, teacher p, student q."""
    log_p_LC, log_q_LC = aligned_log_probs(signal, student_logits_LV, temperature)
    return temperature**2 * relative_entropy(log_q_LC, log_p_LC)


DIVERGENCES: Final[dict[str, Divergence]] = {"kl": kl, "jsd": jsd, "reverse_kl": reverse_kl}


def relative_entropy(log_p_LC: Tensor, log_q_LC: Tensor) -> Tensor:
    """KL(p || q) of each position in nats, float [L]; both arguments are log-probabilities [L, C]."""
    return (log_p_LC.exp() * (log_p_LC - log_q_LC)).sum(dim=-1)


def aligned_log_probs(signal: Signal, logits_LV: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """log p_T of a signal, and of a row of logits, over the same categories, float [L, C] each.

    C is the vocabulary for a `DenseSignal`. For a `SparseSignal` it is the K stored candidates and one more for
    all other ids, whose mass under the logits is summed exactly: divergences over it are those of the
    coarse-grained distributions, a lower bound of the full ones.
    """
    assert not isinstance(signal, SampledSignal), "draws are no distribution; `Codec.check_divergence` refuses"
    scaled_LV = logits_LV / temperature
    if isinstance(signal, SparseSignal):
        return _coarse(signal, scaled_LV)
    return signal.log_probs(temperature).clamp(min=LOG_ZERO), torch.log_softmax(scaled_LV, dim=-1)


def _coarse(signal: SparseSignal, scaled_LV: Tensor) -> tuple[Tensor, Tensor]:
    head_LK = scaled_LV.gather(-1, signal.ids_LK)
    if signal.ids_LK.shape[1] == scaled_LV.shape[1]:  # every id is a candidate: nothing is left for the tail
        return signal.log_probs_LK.clamp(min=LOG_ZERO), torch.log_softmax(head_LK, dim=-1)
    # Ids that only fill a list up are no categories: their mass is the tail's.
    filling_LK = torch.isneginf(signal.log_probs_LK)
    log_p_LC = torch.cat([signal.log_probs_LK, signal.log_tail_L[:, None]], dim=-1)
    # All other ids together act as one more logit, the logsumexp of theirs.
    rest_LV = scaled_LV.scatter(-1, signal.ids_LK, head_LK.masked_fill(~filling_LK, -torch.inf))
    tail_L1 = torch.logsumexp(rest_LV, dim=-1, keepdim=True)
    log_q_LC = torch.log_softmax(torch.cat([head_LK.masked_fill(filling_LK, -torch.inf), tail_L1], dim=-1), dim=-1)
    return log_p_LC.clamp(min=LOG_ZERO), log_q_LC.clamp(min=LOG_ZERO)
