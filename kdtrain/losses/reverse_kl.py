"""Reverse Kullback-Leibler divergence: what the student says, judged by the teacher."""

from typing import ClassVar

import torch
from torch import Tensor

from kdtrain.losses import LOSSES, Divergence
from kdtrain.losses._dot import dot


@LOSSES.register("reverse_kl")
class ReverseKL(Divergence):
    r"""Reverse KL divergence at T: the student may leave modes out, but not make any up (MiniLLM, arXiv:2306.08543).

    .. math:: \sum_i T^2 \, \mathrm{KL}(q_T \,\|\, p_T) = \sum_i T^2 d_i, \qquad
              d_i = \sum_v q_T(v) \bigl(\log q_T(v) - \log p_T(v)\bigr)

    for teacher p and student q, both softened by T. Gradient per token:
    :math:`T \, q_T (\log q_T - \log p_T - d_i)`. On a sparse signal categories are as for ``kl``; where the teacher
    gives nothing at all, log p counts as -10,000. Nats; zero where q = p.
    """

    name: ClassVar[str] = "reverse_kl"

    def __call__(self, p_LC: Tensor, q_LC: Tensor, log_ratio_LC: Tensor, out_LC: Tensor) -> Tensor:
        """See `Divergence`."""
        value_L = -dot(q_LC, log_ratio_LC)
        torch.add(log_ratio_LC, value_L[:, None], out=out_LC).neg_().mul_(q_LC)
        return value_L
