"""Rows in the memory of a device, from which batches are gathered and padded there by index arithmetic.

All values lie in flat tensors; where a row's values begin along each axis is known on the host too, so that no shape
has to be asked of the device. The same code runs on every device.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdstore.schema import ROW_AXIS, Block, Schema
from kdtrain.stream.batch import IGNORED, Batch
from kdtrain.stream.reader import Group

Indices = NDArray[np.int64]

# torch indexes no unsigned integers but bytes: they are looked at as signed ones of their width meanwhile.
_SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32}


@dataclass(frozen=True)
class Window:
    """Rows as flat tensors by path; ``offsets`` by axis, where each row begins and the last one ends, on the host."""

    schema: Schema
    arrays: dict[str, Tensor]
    offsets: dict[str, Indices]

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return next(iter(self.arrays.values())).device

    @classmethod
    def of(cls, group: Group, device: torch.device, stream: "torch.cuda.Stream | None" = None) -> "Window":
        """The rows of a group on a device; on the CPU they are the group's own memory.

        On CUDA the copy runs in ``stream``, beside what is computed in others, and is over when this returns.
        """
        block = Block(group.schema, group.rows, group.arrays)
        offsets = {axis: block.offsets(axis) for axis in block.schema.axes()}
        with torch.cuda.stream(stream):  # does nothing where there is none
            arrays = {
                path: torch.from_numpy(group.arrays[path]).to(device, non_blocking=True)
                for path in block.schema.specs()
            }
        if stream:
            stream.synchronize()
        return cls(group.schema, arrays, offsets)

    @classmethod
    def empty(cls, schema: Schema, device: torch.device) -> "Window":
        """No rows."""
        block = schema.pack([])
        group = Group(schema, block.arrays, np.zeros(1, np.int64), {})
        return cls.of(group, device)

    def retire(self) -> None:
        """Say that nothing more will be gathered from here: memory on CUDA is used again after what is under way."""
        if self.device.type == "cuda":
            for values in self.arrays.values():
                values.record_stream(torch.cuda.current_stream(self.device))

    def take(self, rows_B: Indices) -> "Window":
        """Copies of some rows, in their order."""
        lengths, indices = self._lookup(rows_B)
        arrays = {path: gather(values, indices[self._axes[path]]) for path, values in self.arrays.items()}
        offsets = {axis: np.concatenate([[0], np.cumsum(length_B)]) for axis, length_B in lengths.items()}
        return Window(self.schema, arrays, offsets)

    def collate(self, rows_B: Indices, positions_BP: Indices, pad_id: int, masked: int) -> Batch:
        """Pad some rows into a batch, with ``masked`` rows of padding behind them that no loss counts.

        ``positions_BP`` says where the rows come from.
        """
        lengths, indices = self._lookup(rows_B)
        found = {path: gather(self.arrays[path], indices[axis]) for path, axis in self._axes.items()}
        input_ids_S, labels_L = (found[f"{field}/values"].to(torch.int64) for field in ("input_ids", "labels"))
        filled_BS = self._filled(lengths["input_ids"], masked)
        filled_BT = self._filled(lengths["labels"], masked)
        attention_mask_BS = filled_BS.to(torch.int64)
        if masked:  # attention over nothing at all is not a number in some kernels
            attention_mask_BS[-masked:, 0] = 1
        return Batch(
            input_ids_BS=_padded(input_ids_S, filled_BS, pad_id),
            attention_mask_BS=attention_mask_BS,
            labels_BT=_padded(labels_L, filled_BT, IGNORED),
            labels_L=labels_L,
            signal=_below("teacher/", found),
            embeddings={name: _with_zeros(rows_BD, masked) for name, rows_BD in _below("embeddings/", found).items()},
            positions_BP=positions_BP,
        )

    @cached_property
    def _axes(self) -> dict[str, str]:
        """The axis of each array."""
        return {path: spec.axis for path, spec in self.schema.specs().items()}

    def _lookup(self, rows_B: Indices) -> tuple[dict[str, Indices], dict[str, Tensor]]:
        """By axis: how many values each row has, and where they lie, row after row, int64 [X] on the device.

        Indices are made on the host, which knows all sizes, so that nothing waits for the device.
        """
        lengths, indices = {}, {}
        for axis, offsets in self.offsets.items():
            starts_B = offsets[rows_B]
            lengths[axis] = offsets[rows_B + 1] - starts_B
            index_X = starts_B if axis == ROW_AXIS else _ranges(starts_B, lengths[axis])
            indices[axis] = torch.from_numpy(index_X).to(self.device, non_blocking=True)
        return lengths, indices

    def _filled(self, lengths_B: Indices, masked: int) -> Tensor:
        """Where padded rows hold values, bool [B, longest], at least one column; none in ``masked`` rows more."""
        lengths_B1 = np.concatenate([lengths_B, np.zeros(masked, np.int64)])[:, None]
        filled_BT = np.arange(max(1, lengths_B.max(initial=0))) < lengths_B1
        return torch.from_numpy(filled_BT).to(self.device, non_blocking=True)


def join(windows: Sequence[Window]) -> Window:
    """The rows of several windows as one; at least one window."""
    if len(windows) == 1:
        return windows[0]
    arrays = {path: torch.cat([window.arrays[path] for window in windows]) for path in windows[0].arrays}
    offsets = {axis: _joined([window.offsets[axis] for window in windows]) for axis in windows[0].offsets}
    return Window(windows[0].schema, arrays, offsets)


def gather(values: Tensor, indices: Tensor) -> Tensor:
    """The entries of ``values`` [X, ...] at ``indices`` [Y], whatever their dtype."""
    signed = _SIGNED.get(values.dtype)
    if signed is None:
        return values.index_select(0, indices)
    return values.view(signed).index_select(0, indices).view(values.dtype)


def _padded(values_X: Tensor, filled_BT: Tensor, fill: int) -> Tensor:
    """Values, row after row, as int64 [B, longest] with ``fill`` behind each row's."""
    padded_BT = torch.full(filled_BT.shape, fill, dtype=torch.int64, device=values_X.device)
    return padded_BT.masked_scatter_(filled_BT, values_X)


def _ranges(starts_B: Indices, lengths_B: Indices) -> Indices:
    """``start, ..., start + length - 1`` of every row, row after row, int64 [X]."""
    before_B = np.cumsum(lengths_B) - lengths_B
    index_X = np.repeat(starts_B - before_B, lengths_B)
    index_X += np.arange(len(index_X))
    return index_X


def _below(prefix: str, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {path.removeprefix(prefix): values for path, values in found.items() if path.startswith(prefix)}


def _with_zeros(values_BD: Tensor, rows: int) -> Tensor:
    return torch.cat([values_BD, values_BD.new_zeros(rows, *values_BD.shape[1:])]) if rows else values_BD


def _joined(offsets: Sequence[Indices]) -> Indices:
    shifts = np.cumsum([0, *(int(one[-1]) for one in offsets)])
    return np.concatenate([shifts[:1], *(one[1:] + shift for one, shift in zip(offsets, shifts, strict=False))])
