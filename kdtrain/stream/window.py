"""Rows in the memory of a device, from which batches are gathered and padded there by index arithmetic.

All values lie in flat tensors; where a row's values begin along each axis is known on the host too, so that no shape
has to be asked of the device. The same code runs on every device.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdstore.schema import Block, Schema
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
        starts, lengths = self._spans(rows_B)
        indices = {axis: _flat(starts[axis], lengths[axis], self.device) for axis in starts}
        specs = self.schema.specs()
        arrays = {path: gather(values, indices[specs[path].axis]) for path, values in self.arrays.items()}
        offsets = {axis: np.concatenate([[0], np.cumsum(length)]) for axis, length in lengths.items()}
        return Window(self.schema, arrays, offsets)

    def _spans(self, rows_B: Indices) -> tuple[dict[str, Indices], dict[str, Indices]]:
        """Where each row's values begin along every axis, and how many there are."""
        starts = {axis: offsets[rows_B] for axis, offsets in self.offsets.items()}
        return starts, {axis: offsets[rows_B + 1] - starts[axis] for axis, offsets in self.offsets.items()}

    def collate(self, rows_B: Indices, positions_BP: Indices, pad_id: int, masked: int) -> Batch:
        """Pad some rows into a batch, with ``masked`` rows of padding behind them that no loss counts.

        ``positions_BP`` says where the rows come from.
        """
        starts, lengths = self._spans(rows_B)
        indices = {axis: _flat(starts[axis], lengths[axis], self.device) for axis in starts}
        specs = self.schema.specs()

        def flat(path: str) -> Tensor:
            return gather(self.arrays[path], indices[specs[path].axis])

        def padded(field: str, fill: int) -> tuple[Tensor, Tensor]:
            tokens = np.pad(starts[field], (0, masked)), np.pad(lengths[field], (0, masked))
            return _padded(self.arrays[f"{field}/values"], *tokens, fill)

        input_ids_BS, filled_BS = padded("input_ids", pad_id)
        labels_BT, _ = padded("labels", IGNORED)
        attention_mask_BS = filled_BS.to(torch.int64)
        if masked:  # attention over nothing at all is not a number in some kernels
            attention_mask_BS[-masked:, 0] = 1
        return Batch(
            input_ids_BS=input_ids_BS,
            attention_mask_BS=attention_mask_BS,
            labels_BT=labels_BT,
            labels_L=flat("labels/values").to(torch.int64),
            signal={path.removeprefix("teacher/"): flat(path) for path in specs if path.startswith("teacher/")},
            embeddings={
                path.removeprefix("embeddings/"): _with_zeros(flat(path), masked)
                for path in specs
                if path.startswith("embeddings/")
            },
            positions_BP=positions_BP,
        )


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


def _padded(values: Tensor, starts_B: Indices, lengths_B: Indices, fill: int) -> tuple[Tensor, Tensor]:
    """Values as int64 [B, longest] with ``fill`` behind them, and where they are, bool [B, longest]."""
    longest = max(1, int(lengths_B.max(initial=0)))
    starts_B1, lengths_B1 = _moved(np.stack([starts_B, lengths_B])[:, :, None], values.device)
    steps_T = torch.arange(longest, device=values.device)
    filled_BT = steps_T < lengths_B1
    if not len(values):
        return torch.full(filled_BT.shape, fill, dtype=torch.int64, device=values.device), filled_BT
    index_BT = (starts_B1 + steps_T).clamp_(max=len(values) - 1)
    found_BT = gather(values, index_BT.view(-1)).to(torch.int64).view_as(filled_BT)
    return found_BT.masked_fill_(~filled_BT, fill), filled_BT


def _flat(starts_B: Indices, lengths_B: Indices, device: torch.device) -> Tensor:
    """Where the values of some rows lie, row after row, int64 [X]."""
    total = int(lengths_B.sum())
    before_B = np.cumsum(lengths_B) - lengths_B
    if total == len(lengths_B) and (lengths_B == 1).all():
        return _moved(starts_B, device)
    shift_B, count_B = _moved(np.stack([starts_B - before_B, lengths_B]), device)
    steps_X = torch.arange(total, device=device)
    return steps_X.add_(torch.repeat_interleave(shift_B, count_B, output_size=total))


def _moved(values: NDArray[np.int64], device: torch.device) -> Tensor:
    return torch.from_numpy(values).to(device, non_blocking=True)


def _with_zeros(values_BD: Tensor, rows: int) -> Tensor:
    return torch.cat([values_BD, values_BD.new_zeros(rows, *values_BD.shape[1:])]) if rows else values_BD


def _joined(offsets: Sequence[Indices]) -> Indices:
    shifts = np.cumsum([0, *(int(one[-1]) for one in offsets)])
    return np.concatenate([shifts[:1], *(one[1:] + shift for one, shift in zip(offsets, shifts, strict=False))])
