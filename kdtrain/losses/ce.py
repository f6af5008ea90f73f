"""Cross-entropy with the reference."""

from typing import ClassVar

import torch
from torch import Tensor

from kdtrain.losses import LOSSES, LabelLoss


@LOSSES.register("ce")
class CrossEntropy(LabelLoss):
    r"""Cross-entropy with the labels, always at T = 1.

    .. math:: \sum_{i} -\log q_1(y_i), \qquad q_1 = \mathrm{softmax}(z)

    for student logits z and labels y. Gradient per token: :math:`q_1 - e_{y}`. Nats; needs no signal. Token weights
    multiply the terms.
    """

    name: ClassVar[str] = "ce"

    def __call__(self, log_q_L: Tensor) -> tuple[Tensor, Tensor]:
        """See `LabelLoss`."""
        return -log_q_L, -torch.ones_like(log_q_L)
