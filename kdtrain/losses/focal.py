"""Focal loss: cross-entropy that cares less for labels which are already likely."""

from typing import ClassVar

import torch
from torch import Tensor

from kdtrain.losses import LOSSES, LabelLoss


@LOSSES.register("focal")
class Focal(LabelLoss):
    r"""Focal loss (Lin et al. 2017, arXiv:1708.02002, equation 5), always at T = 1.

    .. math:: \sum_i -\alpha (1 - q_i)^\gamma \log q_i, \qquad q_i = q_1(y_i)

    for student probabilities q and labels y. Its derivative by log q is
    :math:`-\alpha (1 - q)^{\gamma - 1} (1 - q - \gamma q \log q)`, so that a label's gradient is cross-entropy's,
    :math:`q_1 - e_y`, times the negative of that. Nats times alpha; needs no signal. Token weights multiply the
    terms.

    Parameters
    ----------
    gamma
        How much less likely labels count; 0 gives alpha times cross-entropy.
    alpha
        Multiplies it.
    """

    name: ClassVar[str] = "focal"
    options: ClassVar[tuple[str, ...]] = ("gamma", "alpha")

    def __init__(self, gamma: float = 2.0, alpha: float = 0.25) -> None:
        self.gamma, self.alpha = gamma, alpha

    def __call__(self, log_q_L: Tensor) -> tuple[Tensor, Tensor]:
        """See `LabelLoss`."""
        q_L = log_q_L.exp()
        miss_L = -log_q_L.expm1()  # 1 - q, exact where q is nearly 1
        value_L = -self.alpha * miss_L**self.gamma * log_q_L
        # (1 - q)^gamma - gamma (1 - q)^(gamma - 1) q log q; q log q / (1 - q) goes to -1 where q goes to 1.
        slope_L = -self.alpha * miss_L**self.gamma
        if self.gamma:
            ratio_L = torch.where(miss_L > 0, q_L * log_q_L / miss_L, -1.0)
            slope_L = slope_L * (1 - self.gamma * ratio_L)
        return value_L, slope_L
