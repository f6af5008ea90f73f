"""Numbers on few bits: two to a byte, and steps whose promise survives their own rounding."""

import torch
from torch import Tensor


def pack_nibbles(values_LD: Tensor) -> Tensor:
    """Whole numbers 0 to 15, two per byte, the first in the low half: uint8 [L, (D + 1) // 2], an odd end padded."""
    even_LD = torch.nn.functional.pad(values_LD.to(torch.uint8), (0, values_LD.shape[-1] % 2))
    return even_LD[..., ::2] | (even_LD[..., 1::2] << 4)


def unpack_nibbles(packed_LP: Tensor, width: int) -> Tensor:
    """The inverse of `pack_nibbles`: uint8 [L, D] for D = ``width``."""
    return torch.stack([packed_LP & 15, packed_LP >> 4], dim=-1).flatten(-2)[..., :width]


def half_not_below(values: Tensor) -> Tensor:
    """The least float16 that is not below each of ``values``, which are not negative.

    A step that was rounded down would leave the largest numbers outside the range that its levels cover.
    """
    near = values.half()
    above = (near.view(torch.int16) + 1).view(torch.float16)  # bits of floats above zero are in their order
    return torch.where(near.float() < values, above, near)
