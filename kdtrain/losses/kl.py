"""Forward Kullback-Leibler divergence from the teacher."""

from typing import ClassVar

import torch
from torch import Tensor

from kdstore.codecs import SampledSignal
from kdtrain.losses import LOSSES, Divergence
from kdtrain.losses._dot import dot


@LOSSES.register("kl")
class ForwardKL(Divergence):
    r"""Forward KL divergence at T, the classic distillation loss (Hinton et al. 2015, arXiv:1503.02531).

    .. math:: \sum_{i} T^2 \, \mathrm{KL}(p_T \,\|\, q_T)
              = \sum_{i} T^2 \sum_{v} p_T(v) \bigl(\log p_T(v) - \log q_T(v)\bigr)

    for teacher p and student q, both softened by T. Gradient per token: :math:`T (q_T - p_T)`. On a sparse
    signal v runs over the stored candidates and one category for all other ids; on draws with weights w the sum is
    :math:`\sum_v w_v (\log p_T(v) - \log q_T(v))`, its gradient :math:`T ((\sum_v w_v) q_T - w)`. Nats; zero
    where q = p.
    """

    name: ClassVar[str] = "kl"

    def __call__(self, p_LC: Tensor, q_LC: Tensor, log_ratio_LC: Tensor, out_LC: Tensor) -> Tensor:
        """See `Divergence`."""
        torch.sub(q_LC, p_LC, out=out_LC)
        return dot(p_LC, log_ratio_LC)

    def of_draws(self, signal: SampledSignal, log_q_LV: Tensor, out_LV: Tensor) -> Tensor:
        """See `Divergence`."""
        weights_LK = signal.weights_LK.to(log_q_LV.dtype)
        torch.exp(log_q_LV, out=out_LV).mul_(weights_LK.sum(-1, keepdim=True))
        out_LV.scatter_add_(-1, signal.ids_LK, -weights_LK)
        return (weights_LK * (signal.log_probs_LK - log_q_LV.gather(-1, signal.ids_LK))).sum(-1)
