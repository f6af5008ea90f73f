"""A sample of a store's rows, read block by block from all over it, so that a large store is not read whole."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kdstore.schema import Block
from kdstore.store.reader import Store

_ROWS = 4096
BlockId = tuple[int, int]


@dataclass(frozen=True)
class Sample:
    """Lengths of input and labels of some rows, int64 [N], where each row is, int64 [N, 3] (part, block, row), and
    the teacher's log-probabilities of their labels, float64 [L]; empty where none are stored.
    """

    store: Store
    input_N: NDArray[np.int64]
    label_N: NDArray[np.int64]
    positions_NP: NDArray[np.int64]
    log_prob_L: NDArray[np.float64]


def take(store: Store) -> Sample:
    """A few thousand rows.

    Raises
    ------
    CorruptStoreError
        A block cannot be read.
    """
    kept = "label_logprob"
    known = kept in {field.name for field in store.schema.fields}
    inputs, labels, positions, log_probs = [], [], [], [np.zeros(0)]
    for (part, block), rows in read(store, spread(store, _ROWS), ["input_ids", "labels", *([kept] if known else [])]):
        inputs.append(np.diff(rows.offsets("input_ids")))
        labels.append(np.diff(rows.offsets("labels")))
        positions.append(np.column_stack([np.full((rows.rows, 2), (part, block)), np.arange(rows.rows)]))
        if known:
            log_probs.append(rows.arrays[kept].astype(np.float64))
    return Sample(
        store, np.concatenate(inputs), np.concatenate(labels), np.concatenate(positions), np.concatenate(log_probs)
    )


def spread(store: Store, rows: int) -> list[BlockId]:
    """Blocks at equal distances that hold about so many rows; all of them where the store has no more."""
    blocks = store.blocks()
    wanted = min(len(blocks), max(1, rows // store.head.block_rows))
    return [blocks[index] for index in np.unique(np.linspace(0, len(blocks) - 1, wanted).astype(int))]


def read(store: Store, blocks: Sequence[BlockId], fields: Sequence[str]) -> Iterator[tuple[BlockId, Block]]:
    """Some fields of some blocks, one block in memory at a time."""
    for part, block in blocks:
        yield (part, block), store.part(part).read(block, block + 1, fields)
