"""Cross-entropy with the reference."""

from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from kdstore.codecs import Signal
from kdtrain.losses import LOSSES, Component


@LOSSES.register("ce")
class CrossEntropy(Component):
    r"""Cross-entropy with the labels, always at T = 1.

    .. math:: \sum_{i} -\log q_1(y_i), \qquad q_1 = \mathrm{softmax}(z)

    for student logits z and labels y. Gradient per token: :math:`q_1 - e_{y}`. Nats; needs no signal.
    """

    name: ClassVar[str] = "ce"
    needs_signal: ClassVar[bool] = False

    def __call__(
        self, student_logits_LV: Tensor, labels_L: Tensor, signal: Signal | None, temperature: float
    ) -> Tensor:
        """See the class."""
        return functional.cross_entropy(student_logits_LV, labels_L, reduction="sum")
