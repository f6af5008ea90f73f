"""Jensen-Shannon divergence between teacher and student."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from kdtrain.losses import LOSSES, Divergence
from kdtrain.losses._dot import dot


@LOSSES.register("jsd")
class JensenShannon(Divergence):
    r"""Jensen-Shannon divergence at T: symmetric and bounded.

    .. math:: \sum_{i} \tfrac{T^2}{2} \bigl(\mathrm{KL}(p_T \,\|\, m) + \mathrm{KL}(q_T \,\|\, m)\bigr),
              \qquad m = \tfrac{1}{2} (p_T + q_T)

    for teacher p and student q, both softened by T. With :math:`\delta = \log p_T - \log q_T` and
    :math:`r = \log q_T - \log m = \log 2 - \log(1 + e^\delta)` it is
    :math:`\tfrac{T^2}{2} \sum_v (p_T + q_T) r + p_T \delta`, and its gradient per token
    :math:`\tfrac{T}{2} \, q_T (r - \sum_v q_T r)`; m is never formed, so that nothing is divided by or taken the log
    of what may be 0. On a sparse signal categories are as for ``kl``. Nats, at most :math:`T^2 \log 2` per token; 0
    where q = p.
    """

    name: ClassVar[str] = "jsd"

    def __call__(self, p_LC: Tensor, q_LC: Tensor, log_ratio_LC: Tensor, out_LC: Tensor) -> Tensor:
        """See `Divergence`."""
        torch.logaddexp(log_ratio_LC, log_ratio_LC.new_zeros(()), out=out_LC)
        out_LC.neg_().add_(math.log(2))
        mean_L = dot(q_LC, out_LC)
        value_L = (dot(p_LC, out_LC) + dot(p_LC, log_ratio_LC) + mean_L) / 2
        out_LC.sub_(mean_L[:, None]).mul_(q_LC).div_(2)
        return value_L
