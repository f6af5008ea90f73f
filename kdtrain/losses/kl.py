"""Forward Kullback-Leibler divergence from the teacher."""

from typing import ClassVar

from torch import Tensor

from kdstore.codecs import Signal
from kdstore.fidelity.divergence import kl
from kdtrain.losses import LOSSES, Component


@LOSSES.register("kl")
class ForwardKL(Component):
    r"""Forward KL divergence at T, the classic distillation loss.

    .. math:: \sum_{i} T^2 \, \mathrm{KL}(p_T \,\|\, q_T)
              = \sum_{i} T^2 \sum_{v} p_T(v) \bigl(\log p_T(v) - \log q_T(v)\bigr)

    for teacher p and student q, both softened by T. Gradient per token: :math:`T (q_T - p_T)`. On a sparse
    signal v runs over the stored candidates and one category for all other ids. Nats; 0 where q = p.
    """

    name: ClassVar[str] = "kl"
    needs_signal: ClassVar[bool] = True

    def __call__(
        self, student_logits_LV: Tensor, labels_L: Tensor, signal: Signal | None, temperature: float
    ) -> Tensor:
        """See the class."""
        assert signal is not None
        return kl(signal, student_logits_LV, temperature).sum()
