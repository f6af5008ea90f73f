"""Between flat arrays, in which every position has as many entries as it needs, and rows of a fixed width."""

import torch
from torch import Tensor


def places(lengths_L: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Where the entries of each position lie in a flat array, int64 [L, K], and which of the K are entries, bool.

    Behind a position's own entries its last one is repeated. K is ``width``, whatever the lengths: so what is
    decoded has the same shape however positions are cut into chunks, and a GPU need not be asked for the longest.
    """
    lengths_L1 = lengths_L.long()[:, None]
    starts_L1 = lengths_L1.cumsum(0) - lengths_L1
    slots_K = torch.arange(width, device=lengths_L.device)
    return starts_L1 + torch.minimum(slots_K, lengths_L1 - 1), slots_K < lengths_L1
