"""Inner products of rows."""

import torch
from torch import Tensor


def dot(a_LC: Tensor, b_LC: Tensor) -> Tensor:
    """The inner product of each row of ``a`` with that of ``b``, float [L]; no array of products is made."""
    return torch.bmm(a_LC[:, None], b_LC[:, :, None])[:, 0, 0]
