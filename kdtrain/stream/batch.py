"""Gather rows from flat arrays and pad them, by index arithmetic; no Python object per row.

P numbers the coordinates of a row's position: part, block, row within the block.
"""

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdstore.schema import ROW_AXIS, Array, Arrays, Block

IGNORED = -100
"""Label of padding, which no loss counts."""


@dataclass(frozen=True)
class Batch:
    """Rows as padded tensors, and everything that lies along their label tokens, flat.

    Flat entries are in the order of ``labels_BT[labels_BT != IGNORED]``: row by row. ``input_ids_BS``,
    ``attention_mask_BS`` and ``labels_BT`` are int64; ``signal`` holds the codec's arrays [L, ...];
    ``embeddings`` float [B, D] by encoder; ``positions_BP`` int64 [B, 3] says which rows of the store these are.
    """

    input_ids_BS: Tensor
    attention_mask_BS: Tensor
    labels_BT: Tensor
    labels_L: Tensor
    signal: dict[str, Tensor]
    embeddings: dict[str, Tensor]
    positions_BP: NDArray[np.int64]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.positions_BP)

    @property
    def label_tokens(self) -> int:
        """Number of label tokens, padding not counted."""
        return len(self.labels_L)

    def to(self, device: torch.device) -> Self:
        """The same batch with its tensors on ``device``."""
        return type(self)(**{field.name: _moved(getattr(self, field.name), device) for field in fields(self)})


def take(block: Block, rows: NDArray[np.int64]) -> Block:
    """The given rows of a block, in the given order, as a new block."""
    indices = {axis: _value_indices(block, axis, rows) for axis in {ROW_AXIS, *block.schema.axes()}}
    axes = {path: spec.axis for path, spec in block.schema.specs().items()}
    arrays: Arrays = {path: values[indices[axes[path]]] for path, values in block.arrays.items()}
    return Block(block.schema, len(rows), arrays)


def collate(block: Block, positions_BP: NDArray[np.int64], pad_id: int) -> Batch:
    """Pad the rows of a block into one batch; ``positions_BP`` says where they came from."""
    input_ids_BS, mask_BS = _padded(block, "input_ids", pad_id)
    labels_BT, _ = _padded(block, "labels", IGNORED)
    return Batch(
        input_ids_BS=torch.from_numpy(input_ids_BS),
        attention_mask_BS=torch.from_numpy(mask_BS.astype(np.int64)),
        labels_BT=torch.from_numpy(labels_BT),
        labels_L=torch.from_numpy(block.arrays["labels/values"].astype(np.int64)),
        signal=_below(block, "teacher/"),
        embeddings=_below(block, "embeddings/"),
        positions_BP=positions_BP,
    )


def _value_indices(block: Block, axis: str, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the values of ``rows`` lie along ``axis``, in the order of ``rows``."""
    if axis == ROW_AXIS:
        return rows
    offsets = block.offsets(axis)
    starts, lengths = offsets[rows], offsets[rows + 1] - offsets[rows]
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum())


def _padded(block: Block, field: str, fill: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Values as int64 [B, longest] with ``fill`` behind them, and where they are, bool [B, longest]."""
    lengths = block.arrays[f"{field}/lengths"].astype(np.int64)
    filled = np.arange(lengths.max(initial=0)) < lengths[:, None]
    padded = np.full(filled.shape, fill, np.int64)
    padded[filled] = block.arrays[f"{field}/values"]
    return padded, filled


def _below(block: Block, prefix: str) -> dict[str, Tensor]:
    found: dict[str, Array] = {path: values for path, values in block.arrays.items() if path.startswith(prefix)}
    return {path.removeprefix(prefix): torch.from_numpy(values) for path, values in found.items()}


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {name: _moved(item, device) for name, item in value.items()}
    return value
