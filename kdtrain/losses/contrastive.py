"""InfoNCE: each input's state must find its own reference among those of its batch."""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from kdtrain.losses import LOSSES, EncoderLoss

_SAME = 1 - 1e-5


@LOSSES.register("contrastive")
class Contrastive(EncoderLoss):
    r"""InfoNCE (van den Oord et al. 2018, arXiv:1807.03748, equation 4) with in-batch negatives.

    .. math:: \sum_{b} -\log \frac{e^{\cos(s_b, e_b) / \tau}}{\sum_{c \in B_b} e^{\cos(s_b, e_c) / \tau}},
              \qquad s_b = A \bar h_b + b

    for the mean :math:`\bar h` of the student's encoder states over the input, a learned linear map A, b, and the
    stored embeddings e of the references of the batch. :math:`B_b` is the batch without other rows of the same
    reference, which would be negatives that are none. Nats per row, at most the log of the batch size at chance.
    Needs an embedding column, no signal, and at least two rows; it alone depends on how rows are cut into batches.
    :math:`\tau` is 0.1 by default.
    """

    name: ClassVar[str] = "contrastive"
    options: ClassVar[tuple[str, ...]] = ("temperature",)

    def __init__(self, width: int, embedding_width: int, temperature: float = 0.1) -> None:
        super().__init__(width, embedding_width)
        self.temperature = temperature

    def forward(self, pooled_BD: Tensor, embedding_BE: Tensor) -> Tensor:
        """See `EncoderLoss`."""
        state_BE = functional.normalize(self.projection(pooled_BD), dim=-1)
        gold_BE = functional.normalize(embedding_BE.to(state_BE.dtype), dim=-1)
        own_B = torch.arange(len(gold_BE), device=gold_BE.device)
        same_BB = (gold_BE @ gold_BE.T > _SAME) & (own_B[:, None] != own_B)
        scores_BB = (state_BE @ gold_BE.T / self.temperature).masked_fill(same_BB, -torch.inf)
        return functional.cross_entropy(scores_BB, own_B, reduction="sum")
