"""A whole store in memory, which fills as its rows are asked for: the first batch waits for its own group alone."""

from collections.abc import Sequence
from concurrent.futures import Executor
from itertools import compress

import numpy as np
import torch
from numpy.typing import NDArray

from kdstore.schema import ROW_AXIS
from kdtrain.stream.reader import BlockId, GroupReader
from kdtrain.stream.window import Window

STAGED_BLOCKS = 8  # are read before they are put in their place


class Whole:
    """All rows of a store in one window.

    Parameters
    ----------
    reader
        Reads the blocks.
    blocks
        Those of the store, in its order.
    taken_M
        Which of them are to have a place, bool [blocks].
    device
        Where the rows are wanted.
    stream
        Where copies to a CUDA device run.
    pool
        Its threads open the parts, which say how large everything is.
    """

    def __init__(
        self,
        reader: GroupReader,
        blocks: Sequence[BlockId],
        taken_M: NDArray[np.bool_],
        device: torch.device,
        stream: "torch.cuda.Stream | None",
        pool: Executor,
    ) -> None:
        self._reader, self._stream = reader, stream
        self._blocks = list(compress(blocks, taken_M))
        self._place_M = np.cumsum(taken_M) - 1
        self._starts = reader.starts(self._blocks, pool)
        self._there = np.zeros(len(self._blocks), bool)
        arrays = {
            spec.path: torch.empty(
                (int(self._starts[spec.axis][-1]), *spec.shape), dtype=_torch_dtype(spec.dtype), device=device
            )
            for spec in reader.schema.specs().values()
        }
        rows = int(self._starts[ROW_AXIS][-1])
        offsets = {axis: np.zeros(rows + 1, np.int64) for axis in reader.schema.axes()}
        self.window = Window(reader.schema, arrays, offsets)

    def ensure(self, blocks_M: NDArray[np.int64], pool: Executor) -> NDArray[np.int64]:
        """Read those of some of the store's blocks that are not there yet; where the rows of each begin.

        Raises
        ------
        CorruptStoreError
            A block cannot be read.
        """
        indices = self._place_M[blocks_M]
        missing = indices[~self._there[indices]]
        for start in range(0, len(missing), STAGED_BLOCKS):
            staged = missing[start : start + STAGED_BLOCKS]
            group = self._reader.read([self._blocks[index] for index in staged], pool)
            window = Window.of(group, self.window.device, self._stream)
            with torch.cuda.stream(self._stream):  # does nothing where there is none
                for index, row in zip(staged.tolist(), group.starts.tolist(), strict=False):
                    self._put(index, window, row)
            if self._stream:
                self._stream.synchronize()
            self._reader.release(group)
            self._there[staged] = True
        starts: NDArray[np.int64] = self._starts[ROW_AXIS][indices]
        return starts

    def _put(self, index: int, staged: Window, row: int) -> None:
        """Copy a block, whose rows begin at ``row`` of what is staged, into its place."""
        first, last = self._starts[ROW_AXIS][index : index + 2].tolist()
        for axis, offsets in staged.offsets.items():
            begin = self._starts[axis][index]
            theirs = offsets[row : row + last - first + 1]
            self.window.offsets[axis][first : last + 1] = theirs - theirs[0] + begin
        for path, spec in staged.schema.specs().items():
            begin, end = self._starts[spec.axis][index : index + 2].tolist()
            source = int(staged.offsets[spec.axis][row])
            self.window.arrays[path][begin:end].copy_(staged.arrays[path][source : source + end - begin])


def _torch_dtype(name: str) -> torch.dtype:
    return torch.from_numpy(np.empty(0, name)).dtype
