r"""In which order the rows of a store are read: pure functions, no I/O.

The order of one epoch is settled by a key, (store fingerprint, seed, epoch), and by how many rows of each block
take part:

1. the blocks are permuted, :math:`\pi` = permutation(key, "blocks");
2. consecutive permuted blocks form groups of G; group g holds the blocks :math:`\pi_{gG}, ..., \pi_{gG+G-1}`;
3. the rows of each group are permuted together, permutation(key, "rows", g).

Position t of the epoch is the t-th row of the concatenated groups, so every row comes exactly once, and only
one group must be in memory at a time. Random numbers come from Philox, a counter-based generator, seeded by the
SHA-256 of the key: the order is the same on every machine, and group g needs no other group's numbers.

M counts blocks, R the rows of one group.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ORDER_VERSION = 1
"""Raised when the same key would give another order; part of the loader's state."""

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Key:
    """What the order of an epoch depends on."""

    fingerprint: str
    seed: int
    epoch: int

    def permutation(self, length: int, *purpose: str | int) -> Indices:
        """A permutation of ``range(length)``, int64 [length]; another one for each ``purpose``."""
        text = repr((ORDER_VERSION, self.fingerprint, self.seed, self.epoch, *purpose))
        words = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint64)
        return np.random.Generator(np.random.Philox(key=words[:2])).permutation(length).astype(np.int64)


def subset(rows_M: Indices, limit: int, fingerprint: str, seed: int) -> Indices:
    """How many rows of each block belong to a fixed random subset of ``limit`` rows, int64 [M].

    Blocks are taken whole in a seeded order, the last one in part (its first rows). A store keeps its rows in a
    permuted order, so that a sample of blocks is a sample of rows.
    """
    order = Key(fingerprint, seed, -1).permutation(len(rows_M), "subset")
    before = np.cumsum(rows_M[order]) - rows_M[order]
    taken = np.zeros_like(rows_M)
    taken[order] = np.clip(limit - before, 0, rows_M[order])
    return taken


def block_order(rows_M: Indices, key: Key | None) -> Indices:
    """The blocks that take part, permuted; in the store's own order without a key. int64 [at most M]."""
    order = np.arange(len(rows_M)) if key is None else key.permutation(len(rows_M), "blocks")
    return order[rows_M[order] > 0]


def group_starts(rows_M: Indices, blocks: Indices, group_blocks: int) -> Indices:
    """Position in the epoch of each group's first row, and of the end, int64 [groups + 1]."""
    ends: Indices = np.concatenate([[0], np.cumsum(rows_M[blocks])])
    starts: Indices = ends[np.append(np.arange(0, len(blocks), group_blocks), len(blocks))]
    return starts


def row_order(rows: Indices, group: int, key: Key | None) -> tuple[Indices, Indices]:
    """The rows of one group in reading order, as (block within the group, row within the block), int64 [R] each.

    ``rows`` counts the rows that each of the group's blocks contributes.
    """
    slot_R = np.repeat(np.arange(len(rows)), rows)
    row_R = np.arange(rows.sum()) - np.repeat(np.cumsum(rows) - rows, rows)
    if key is None:
        return slot_R, row_R
    order = key.permutation(len(slot_R), "rows", group)
    return slot_R[order], row_R[order]
