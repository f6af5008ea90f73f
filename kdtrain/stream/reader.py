"""Read groups of blocks into flat arrays, in threads; memory of groups that are done with is used again.

Most of a block's reading (reading, checking and unpacking its chunks) runs without Python's global lock.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from math import prod
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap

import numpy as np
import torch
from numpy.typing import NDArray

from kdstore.schema import ROW_AXIS, Arrays, ArraySpec, Schema
from kdstore.store.reader import Part, Store

_SLACK = 8  # a buffer is an eighth larger than what it is made for, since groups differ a little in size
BlockId = tuple[int, int]
"""(part, block) in a store."""


@dataclass(frozen=True)
class Group:
    """The rows of some blocks as flat arrays by path; ``starts``: where each block's rows begin, int64 [blocks + 1].

    The arrays lie in memory that belongs to the reader: see `GroupReader.release`.
    """

    schema: Schema
    arrays: Arrays
    starts: NDArray[np.int64]
    memory: dict[str, NDArray[np.uint8]]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.starts[-1])


class GroupReader:
    """Reads groups of blocks of one store.

    Parameters
    ----------
    store
        The store to read.
    fields
        Names of the fields to read.
    pinned
        Whether groups lie in page-locked memory, from which a CUDA device copies while it computes.
    """

    def __init__(self, store: Store, fields: Iterable[str], *, pinned: bool = False) -> None:
        self._store, self._pinned = store, pinned
        names = list(fields)
        self.schema = store.schema.subset(names)
        self._columns = store.schema.columns(names)
        self._free: list[dict[str, NDArray[np.uint8]]] = []

    def read(self, blocks: Sequence[BlockId], pool: Executor) -> Group:
        """The rows of ``blocks``, in that order; the threads of ``pool`` read them.

        Raises
        ------
        CorruptStoreError
            A block cannot be read, or a checksum does not match.
        """
        parts = self._opened(blocks, pool)
        starts = _starts(blocks, parts)
        memory = self._free.pop() if self._free else {}
        arrays = {path: self._array(memory, spec, int(starts[spec.axis][-1])) for path, spec in self._columns.items()}

        def fill(index: int) -> None:
            part, block = blocks[index]
            bounds = {axis: slice(*ends[index : index + 2]) for axis, ends in starts.items()}
            out = {path: arrays[path][bounds[spec.axis]] for path, spec in self._columns.items()}
            parts[part].read_arrays(self._columns, block, block + 1, out)

        list(pool.map(fill, range(len(blocks))))  # raises what one of them raises
        return Group(self.schema, arrays, starts[ROW_AXIS], memory)

    def starts(self, blocks: Sequence[BlockId], pool: Executor) -> dict[str, NDArray[np.int64]]:
        """By axis, where the values of each of some blocks would begin in a group of them, int64 [blocks + 1]."""
        return _starts(blocks, self._opened(blocks, pool))

    def release(self, group: Group) -> None:
        """Let the next group have this one's memory; its arrays must not be used any more."""
        self._free.append(group.memory)

    def trim(self) -> None:
        """Give back memory that no group uses."""
        self._free.clear()

    def _opened(self, blocks: Sequence[BlockId], pool: Executor) -> dict[int, Part]:
        """The parts of some blocks by number; opened in threads, since they may be as many as the blocks."""
        opened = pool.map(self._store.part, sorted({part for part, _ in blocks}))
        return {part.index: part for part in opened}

    def _array(self, memory: dict[str, NDArray[np.uint8]], spec: ArraySpec, extent: int) -> NDArray[np.generic]:
        shape = (extent, *spec.shape)
        size = prod(shape) * np.dtype(spec.dtype).itemsize
        if spec.path not in memory or len(memory[spec.path]) < size:
            memory[spec.path] = self._buffer(size + size // _SLACK)
        return memory[spec.path][:size].view(spec.dtype).reshape(shape)

    def _buffer(self, size: int) -> NDArray[np.uint8]:
        if self._pinned:
            return torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy()
        # Mapped, not from the heap: what is given up goes back to the system at once, and peaks are those planned.
        # Private: worker processes that are forked from this one must not write into the same memory.
        return np.frombuffer(mmap(-1, max(1, size), flags=MAP_PRIVATE | MAP_ANONYMOUS), np.uint8)


def _starts(blocks: Sequence[BlockId], parts: Mapping[int, Part]) -> dict[str, NDArray[np.int64]]:
    extents = [parts[part].extents(block) for part, block in blocks]
    return {axis: np.cumsum([0, *(one[axis] for one in extents)]) for axis in extents[0]}
