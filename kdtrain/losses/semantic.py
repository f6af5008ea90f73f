"""Cosine distance between what the encoder understands and the meaning of the reference."""

from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from kdtrain.losses import LOSSES, EncoderLoss


@LOSSES.register("semantic")
class Semantic(EncoderLoss):
    r"""Cosine distance to the stored sentence embedding of the reference.

    .. math:: \sum_{\text{rows}} 1 - \cos(A \bar h + b, e)

    for the mean :math:`\bar h` of the student's *encoder* states over the input, a learned linear map A, b, and the
    embedding e of the reference, stored when the store was built. Decoder states would not do: teacher-forced, they
    have read the answer. In [0, 2] per row; 0 where the directions agree. Needs an embedding column, no signal; its
    weight is multiplied by ``--semantic-loss-scale``.
    """

    name: ClassVar[str] = "semantic"

    def forward(self, pooled_BD: Tensor, embedding_BE: Tensor) -> Tensor:
        """See `EncoderLoss`."""
        return (1 - functional.cosine_similarity(self.projection(pooled_BD), embedding_BE, dim=-1)).sum()
