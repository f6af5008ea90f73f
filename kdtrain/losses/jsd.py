"""Jensen-Shannon divergence between teacher and student."""

from typing import ClassVar

from torch import Tensor

from kdstore.codecs import Signal
from kdstore.fidelity.divergence import jsd
from kdtrain.losses import LOSSES, Component


@LOSSES.register("jsd")
class JensenShannon(Component):
    r"""Jensen-Shannon divergence at T: symmetric and bounded.

    .. math:: \sum_{i} \tfrac{T^2}{2} \bigl(\mathrm{KL}(p_T \,\|\, m) + \mathrm{KL}(q_T \,\|\, m)\bigr),
              \qquad m = \tfrac{1}{2} (p_T + q_T)

    for teacher p and student q, both softened by T; log m is taken by logaddexp, never through probabilities.
    On a sparse signal categories are as for ``kl``. Nats, at most :math:`T^2 \log 2` per token; 0 where q = p.
    """

    name: ClassVar[str] = "jsd"
    needs_signal: ClassVar[bool] = True

    def __call__(
        self, student_logits_LV: Tensor, labels_L: Tensor, signal: Signal | None, temperature: float
    ) -> Tensor:
        """See the class."""
        assert signal is not None
        return jsd(signal, student_logits_LV, temperature).sum()
