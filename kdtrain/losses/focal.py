"""Focal loss: cross-entropy that cares less for labels which are already likely."""

from typing import ClassVar

from torch import Tensor

from kdtrain.losses import LOSSES, LabelLoss

GAMMA, ALPHA = 2.0, 0.25


@LOSSES.register("focal")
class Focal(LabelLoss):
    r"""Focal loss (Lin et al. 2017, arXiv:1708.02002, equation 5), always at T = 1.

    .. math:: \sum_i -\alpha (1 - q_i)^\gamma \log q_i, \qquad q_i = q_1(y_i), \gamma = 2, \alpha = 0.25

    for student probabilities q and labels y. Its derivative by log q is
    :math:`-\alpha (1 - q)^{\gamma - 1} (1 - q - \gamma q \log q)`, so that a label's gradient is cross-entropy's,
    :math:`q_1 - e_y`, times the negative of that. Nats times alpha; needs no signal. Token weights multiply the
    terms.
    """

    name: ClassVar[str] = "focal"

    def __call__(self, log_q_L: Tensor) -> tuple[Tensor, Tensor]:
        """See `LabelLoss`."""
        q_L = log_q_L.exp()
        miss_L = -log_q_L.expm1()  # 1 - q, exact where q is nearly 1
        value_L = -ALPHA * miss_L**GAMMA * log_q_L
        return value_L, -ALPHA * miss_L ** (GAMMA - 1) * (miss_L - GAMMA * q_L * log_q_L)
