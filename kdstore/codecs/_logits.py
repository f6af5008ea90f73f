"""What all codecs do with rows of logits before they keep anything of them."""

import torch
from torch import Tensor

from kdstore.errors import InputError


def check_finite(logits_LV: Tensor, mask_V: Tensor | None) -> None:
    """Raise `InputError` naming the first position and id whose logit is not finite and not masked."""
    finite_LV = torch.isfinite(logits_LV)
    if mask_V is not None:
        finite_LV |= mask_V
    if not finite_LV.all():
        position, token = (~finite_LV).nonzero()[0].tolist()
        raise InputError(
            f"Expected finite logits, or an id that is never emitted. Got {logits_LV[position, token].item()} at "
            f"label position {position}, id {token}. Check the teacher's weights and dtype."
        )


def centre(logits_LV: Tensor) -> Tensor:
    """Logits minus their row's mean over emitted ids, float32 [L, V]; 0 for ids never emitted (-inf).

    Softmax does not see the shift, and centred values are small, which is where few bits go far.
    """
    emitted_LV = torch.isfinite(logits_LV)
    filled_LV = torch.where(emitted_LV, logits_LV, 0)
    mean_L1 = filled_LV.sum(-1, keepdim=True) / emitted_LV.sum(-1, keepdim=True)
    return torch.where(emitted_LV, filled_LV - mean_L1, 0)
