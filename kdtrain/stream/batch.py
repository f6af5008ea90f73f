"""What the loader yields: rows as padded tensors.

P numbers the coordinates of a row's position: part, block, row within the block.
"""

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

IGNORED = -100
"""Label of padding, which no loss counts."""


@dataclass(frozen=True)
class Batch:
    """Rows as padded tensors, and everything that lies along their label tokens, flat.

    Flat entries are in the order of ``labels_BT[labels_BT != IGNORED]``: row by row. ``input_ids_BS``,
    ``attention_mask_BS`` and ``labels_BT`` are int64; ``signal`` holds the codec's arrays [L, ...];
    ``embeddings`` float [B, D] by encoder; ``positions_BP`` int64 [rows, 3] says which rows of the store these are.
    Behind them stand rows of padding where ``--last-batch pad`` fills up a batch. ``source`` tells the stores of a
    mixture apart.
    """

    input_ids_BS: Tensor
    attention_mask_BS: Tensor
    labels_BT: Tensor
    labels_L: Tensor
    signal: dict[str, Tensor]
    embeddings: dict[str, Tensor]
    positions_BP: NDArray[np.int64]
    source: int = 0

    @property
    def rows(self) -> int:
        """Number of rows, those of padding not counted."""
        return len(self.positions_BP)

    @property
    def label_tokens(self) -> int:
        """Number of label tokens, padding not counted."""
        return len(self.labels_L)

    def model_inputs(self) -> dict[str, Tensor]:
        """What a Hugging Face seq2seq model takes, by the names of its arguments."""
        return {
            "input_ids": self.input_ids_BS,
            "attention_mask": self.attention_mask_BS,
            "labels": self.labels_BT,
        }

    def to(self, device: torch.device | str) -> Self:
        """The same batch with its tensors on ``device``."""
        return type(self)(**{field.name: _moved(getattr(self, field.name), device) for field in fields(self)})


def _moved(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {name: _moved(item, device) for name, item in value.items()}
    return value
