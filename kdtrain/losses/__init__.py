"""What a student is trained on: one loss component per file, found by its file name.

A component maps student logits to the *sum* of a loss over label tokens; the trainer divides by the label
tokens of the whole optimizer step, so that padding, batch size and accumulation change nothing.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from kdstore.codecs import DenseSignal, Signal, SparseSignal
from kdstore.registry import Registry

# Stands for log 0 in a teacher's log-probabilities: exp of it is exactly 0, and 0 times it is 0, not NaN.
_LOG_ZERO = -1e4


class Component(ABC):
    """Base of the loss components."""

    name: ClassVar[str]
    needs_signal: ClassVar[bool]

    @abstractmethod
    def __call__(
        self, student_logits_LV: Tensor, labels_L: Tensor, signal: Signal | None, temperature: float
    ) -> Tensor:
        """The loss summed over label tokens, a scalar in nats, differentiable in the student's logits.

        Parameters
        ----------
        student_logits_LV
            Float [L, V], at T = 1.
        labels_L
            int64 [L].
        signal
            The teacher's signal of the same tokens, decoded at ``temperature``; None where no component of the
            run needs it.
        temperature
            T of the distributions compared; token losses ignore it.
        """


LOSSES: Registry[type[Component]] = Registry("loss component", "kdtrain.losses")


def aligned_log_probs(student_logits_LV: Tensor, signal: Signal, temperature: float) -> tuple[Tensor, Tensor]:
    """Teacher's and student's log-probabilities at T over the same categories, float [L, C] each.

    C is the vocabulary for a `DenseSignal`. For a `SparseSignal` it is the K stored candidates and one more for
    all other ids, whose student mass is summed exactly: divergences over it are those of the coarse-grained
    distributions, a lower bound of the full ones.
    """
    scaled_LV = student_logits_LV / temperature
    if isinstance(signal, DenseSignal):
        return signal.log_probs(temperature).clamp(min=_LOG_ZERO), torch.log_softmax(scaled_LV, dim=-1)
    return _coarse(scaled_LV, signal)


def _coarse(scaled_LV: Tensor, signal: SparseSignal) -> tuple[Tensor, Tensor]:
    head_LK = scaled_LV.gather(-1, signal.ids_LK)
    if signal.ids_LK.shape[1] == scaled_LV.shape[1]:  # every id is a candidate: nothing is left for the tail
        return signal.log_probs_LK.clamp(min=_LOG_ZERO), torch.log_softmax(head_LK, dim=-1)
    log_p_LC = torch.cat([signal.log_probs_LK, signal.log_tail_L[:, None]], dim=-1)
    # All other ids together act as one more logit, the logsumexp of theirs.
    tail_L1 = torch.logsumexp(scaled_LV.scatter(-1, signal.ids_LK, -torch.inf), dim=-1, keepdim=True)
    log_q_LC = torch.log_softmax(torch.cat([head_LK, tail_L1], dim=-1), dim=-1)
    return log_p_LC.clamp(min=_LOG_ZERO), log_q_LC


def divergence(log_p_LC: Tensor, log_q_LC: Tensor) -> Tensor:
    """KL(p || q) of each position in nats, float [L]; both arguments are log-probabilities [L, C]."""
    return (log_p_LC.exp() * (log_p_LC - log_q_LC)).sum(dim=-1)
