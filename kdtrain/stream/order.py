r"""In which order the rows of a store are read: pure functions, no I/O.

One *pass* brings every row of M blocks once. Its order is settled by a key (store fingerprint, seed, pass):

1. the blocks are permuted, :math:`\pi` = permutation(key, "blocks");
2. they are dealt to C *streams*, :math:`\pi_0, \pi_1, ...` each to the stream with the fewest rows so far, the first
   of them on a tie; so streams differ by at most the rows of one block;
3. each stream cuts its blocks into the fewest *groups* of at most G, as equal as can be, since a small one would be
   shuffled badly, and permutes the rows of a group together, permutation(key, "rows", stream, group). Row i of
   stream c is the i-th of its concatenated groups;
4. the pass takes the pairs (i, c) in ascending order: one row of every stream in turn, and a stream that has ended is
   passed over. With stream lengths :math:`N_c`, the rows before (i, 0) are :math:`\sum_c \min(N_c, i)`, which has a
   closed inverse: no position needs those before it.

The passes one after the other are the *endless order*. Epoch e takes positions [eN, (e + 1)N) of it, where N is by
default the number of rows; epochs of fewer rows go on where the last one ended.

A *batch* takes B consecutive positions: while no stream has ended, B / C rows of each when C divides B, wherever it
starts. Its rows are put stream after stream, and rank w of W takes rows [wB / W, (w + 1)B / W) of that: the sequence
of batches never depends on W, and when W divides C a rank meets only C / W streams.

Random numbers are the raw words of Philox, a counter-based generator, keyed by the SHA-256 of the key, and a
permutation is the order of such words: both are the same on every machine and in every version of numpy.

`by_length` makes rows of like length neighbours within their group, for batches with little padding.

C counts streams, M blocks, R rows of a group or of a run.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from heapq import heapify, heapreplace
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

ORDER_VERSION = 2
"""Raised when the same key would give another order; part of the loader's state."""
GROUP_BLOCKS = 256

Indices = NDArray[np.int64]
Words = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Key:
    """What the order of a pass depends on."""

    fingerprint: str
    seed: int
    pass_: int

    def permutation(self, length: int, *purpose: str | int) -> Indices:
        """A permutation of ``range(length)``, int64 [length].

        The indices stand in the low bits of random words, so that no two are equal and any way to sort them gives
        the same.
        """
        low = np.uint64((1 << max(1, length - 1).bit_length()) - 1)
        words = self._philox(*purpose).random_raw(length) & ~low | np.arange(length, dtype=np.uint64)
        words.sort()
        return (words & low).astype(np.int64)

    def generator(self, *purpose: str | int) -> np.random.Generator:
        """A generator of other distributions; their values may change with the version of numpy."""
        return np.random.Generator(self._philox(*purpose))

    def _philox(self, *purpose: str | int) -> np.random.Philox:
        text = repr((ORDER_VERSION, self.fingerprint, self.seed, self.pass_, *purpose))
        return np.random.Philox(key=np.frombuffer(hashlib.sha256(text.encode()).digest(), "<u8")[:2])


@dataclass(frozen=True)
class OrderConfig:
    """All that the order depends on, beside the store.

    Parameters
    ----------
    seed
        Settles order and draws.
    streams
        C.
    group_blocks
        G; None takes 256.
    shuffle
        False: the store's own order, every pass the same; one stream.
    epoch_rows
        N; None takes one pass.
    sampling
        ``order``: epochs are runs of the endless order, so that M / N of them see every row. ``rows``: every epoch
        draws its rows anew from all, in which case a pass has only N rows, and N is at most their number.
    """

    seed: int
    streams: int = 1
    group_blocks: int | None = None
    shuffle: bool = True
    epoch_rows: int | None = None
    sampling: Literal["order", "rows"] = "order"


@dataclass(frozen=True, slots=True)
class Run:
    """Rows [start, stop) of a stream in a pass."""

    pass_: int
    stream: int
    start: int
    stop: int


@dataclass(frozen=True)
class Pass:
    """One pass: ``rows_M`` rows take part of each block, ``blocks`` by stream in the order of reading.

    ``cuts``: by stream, the first block of each group, and their number; ``starts``: the first row of each group, and
    their number.
    """

    key: Key | None
    size_M: Indices
    rows_M: Indices
    blocks: list[Indices]
    cuts: list[Indices]
    starts: list[Indices]

    @cached_property
    def stream_rows(self) -> Indices:
        """Rows of each stream, int64 [C]."""
        return np.asarray([starts[-1] for starts in self.starts], np.int64)

    @cached_property
    def shortest(self) -> int:
        """Rows of the shortest stream."""
        return int(self.stream_rows.min())

    def members(self, stream: int, group: int) -> Indices:
        """The blocks of a group, at most G."""
        return self.blocks[stream][slice(*self.cuts[stream][group : group + 2])]

    def pieces(self, stream: int, start: int, stop: int) -> list[tuple[int, int, int]]:
        """Rows [start, stop) of a stream, cut where groups end: group, start and stop of each piece."""
        starts = self.starts[stream]
        group = int(np.searchsorted(starts, start, side="right")) - 1
        found = []
        while start < stop:
            end = min(stop, int(starts[group + 1]))
            found.append((group, start, end))
            group, start = group + 1, end
        return found

    def taken(self, position: int) -> list[int]:
        """How many rows of each stream come before a position of the pass."""
        streams = len(self.blocks)
        if position <= streams * self.shortest:
            turns, rest = divmod(position, streams)
            return [turns + (stream < rest) for stream in range(streams)]
        return list(map(int, rows_before(self.stream_rows, position)))

    def row_order(self, stream: int, group: int) -> tuple[Indices, Indices]:
        """The rows of a group in reading order, as (index among its blocks, row within the block), int64 [R] each."""
        members = self.members(stream, group)
        size, taken = self.size_M[members], self.rows_M[members]
        slot_R = np.repeat(np.arange(len(members)), size)
        row_R = np.arange(len(slot_R)) - np.repeat(np.cumsum(size) - size, size)
        if self.key is None:
            kept = row_R < taken[slot_R]
            return slot_R[kept], row_R[kept]
        order = self.key.permutation(len(slot_R), "rows", stream, group)
        if (taken < size).any():
            order = order[_rank_within(slot_R[order]) < taken[slot_R[order]]]
        return slot_R[order], row_R[order]


class Order:
    """The endless order of a store's rows.

    Parameters
    ----------
    fingerprint
        Of the store.
    size_M
        Rows of every block.
    config
        See `OrderConfig`.
    subset_rows
        Size of a fixed random subset of the rows; the rest never takes part.
    """

    def __init__(
        self, fingerprint: str, size_M: Indices, config: OrderConfig, subset_rows: int | None = None
    ) -> None:
        self.fingerprint, self.config = fingerprint, config
        self.size_M = size_M if subset_rows is None else subset(size_M, subset_rows, fingerprint, config.seed)
        self.population = int(self.size_M.sum())
        self.epoch_rows = config.epoch_rows or self.population
        if config.sampling == "rows":
            self.epoch_rows = min(self.epoch_rows, self.population)
        self.pass_rows = self.epoch_rows if config.sampling == "rows" else self.population
        self._passes: dict[int, Pass] = {}

    def pass_(self, index: int) -> Pass:
        """A pass; the last two that were asked for are kept."""
        found = self._passes.get(index)
        if found is None:
            found = self._pass(index)
            self._passes = {**dict(list(self._passes.items())[-1:]), index: found}
        return found

    def runs(self, first: int, last: int) -> list[Run]:
        """Positions [first, last) of the endless order, as runs: pass after pass, in each stream after stream."""
        found = []
        for pass_, begin, end in self.spans(first, last):
            rows = self.pass_(pass_)
            streams = enumerate(zip(rows.taken(begin), rows.taken(end), strict=True))
            found += [Run(pass_, stream, start, stop) for stream, (start, stop) in streams if start < stop]
        return found

    def digest(self, first: int, last: int) -> int:
        """A hash of which row stands at every position of [first, last).

        It is a sum modulo 2^64 of one mixed word for each position, so that the digests of pieces add up.
        """
        total = 0
        for run in self.runs(first, last):
            for start, block_R, row_R in self._rows(run):
                index_R = np.arange(start, start + len(row_R))
                total += _digest(run.pass_, run.stream, index_R, block_R, row_R)
        return total % (1 << 64)

    def blocks(self, first: int, last: int) -> Indices:
        """The block of each row at positions [first, last), in the order of `runs`, int64."""
        found = [block_R for run in self.runs(first, last) for _, block_R, _ in self._rows(run)]
        return np.concatenate([np.zeros(0, np.int64), *found])

    def coverage(self, epoch: int, rows: int) -> float:
        """The share of the rows seen after an epoch, when each takes its first ``rows``.

        Where passes are seen in part, other rows of each, it is the share expected.
        """
        by_pass: Counter[int] = Counter()
        for first in range(0, (epoch + 1) * self.epoch_rows, self.epoch_rows):
            for pass_, begin, end in self.spans(first, first + rows):
                by_pass[pass_] += end - begin
        return 1 - prod(1 - seen / self.population for seen in by_pass.values())

    def spans(self, first: int, last: int) -> Iterator[tuple[int, int, int]]:
        """Positions [first, last), cut where passes end: the pass, and from where to where in it."""
        while first < last:
            pass_, begin = divmod(first, self.pass_rows)
            end = min(self.pass_rows, begin + last - first)
            yield pass_, begin, end
            first += end - begin

    def _rows(self, run: Run) -> Iterator[tuple[int, Indices, Indices]]:
        """The rows of a run, group by group: index of the first in its stream, blocks, and rows within them."""
        rows = self.pass_(run.pass_)
        for group, start, stop in rows.pieces(run.stream, run.start, run.stop):
            slot_R, row_R = rows.row_order(run.stream, group)
            begin = int(rows.starts[run.stream][group])
            inside = slice(start - begin, stop - begin)
            yield start, rows.members(run.stream, group)[slot_R[inside]], row_R[inside]

    def _pass(self, index: int) -> Pass:
        config, size_M = self.config, self.size_M
        group_blocks = config.group_blocks or GROUP_BLOCKS
        key = Key(self.fingerprint, config.seed, index) if config.shuffle else None
        rows_M = size_M
        if key and config.sampling == "rows" and self.epoch_rows < self.population:
            generator = key.generator("draw")
            rows_M = generator.multivariate_hypergeometric(size_M, self.epoch_rows, method="marginals")
        blocks = np.arange(len(rows_M)) if key is None else key.permutation(len(rows_M), "blocks")
        streams = deal(rows_M, blocks[rows_M[blocks] > 0], config.streams if key else 1)
        cuts = [group_cuts(len(members), group_blocks) for members in streams]
        starts = [
            np.concatenate([[0], np.cumsum(rows_M[members])])[cut] for members, cut in zip(streams, cuts, strict=True)
        ]
        return Pass(key, size_M, rows_M, streams, cuts, starts)


def deal(rows_M: Indices, blocks: Indices, streams: int) -> list[Indices]:
    """Deal blocks in their order, each to the stream with the fewest rows so far; int64 by stream."""
    if streams == 1:
        return [blocks]
    dealt: list[list[int]] = [[] for _ in range(streams)]
    heap = [(0, stream) for stream in range(streams)]
    heapify(heap)
    for block, rows in zip(blocks.tolist(), rows_M[blocks].tolist(), strict=True):
        held, stream = heap[0]
        dealt[stream].append(block)
        heapreplace(heap, (held + rows, stream))
    return [np.asarray(members, np.int64) for members in dealt]


def group_cuts(blocks: int, group_blocks: int) -> Indices:
    """The first of so many blocks that belongs to each group, and their number, int64 [groups + 1]."""
    groups = -(-blocks // group_blocks)
    return np.arange(groups + 1) * blocks // max(1, groups)


def rows_before(lengths_C: Indices, position: int) -> Indices:
    """How many rows of each stream come before a position of the pass, int64 [C]."""
    ends = np.sort(lengths_C)
    # Rows before the turn in which the k-th shortest stream has ended.
    before = np.concatenate([[0], np.cumsum(np.diff(ends, prepend=0) * np.arange(len(ends), 0, -1))])
    ended = min(int(np.searchsorted(before, position, side="right")) - 1, len(ends) - 1)
    turns, rest = divmod(position - int(before[ended]), len(ends) - ended)
    turn = turns + (int(ends[ended - 1]) if ended else 0)
    going = lengths_C > turn
    return np.minimum(lengths_C, turn) + (going & (np.cumsum(going) <= rest))


def share(runs: Iterable[Run], first: int, last: int) -> list[Run]:
    """Rows [first, last) of the concatenated runs."""
    found, at = [], 0
    for run in runs:
        start, stop = run.start + max(0, first - at), run.start + min(run.stop - run.start, last - at)
        if start < stop:
            found.append(Run(run.pass_, run.stream, start, stop))
        at += run.stop - run.start
    return found


def by_length(lengths_R: Indices, rows: int, key: Key, stream: int, group: int) -> Indices:
    """Another order of a group's R rows, int64 [R]: sorted by length, cut into runs of ``rows``, these permuted."""
    order = np.argsort(lengths_R, kind="stable")
    cuts = key.permutation(-(-len(order) // rows), "lengths", stream, group)
    return np.concatenate([order[:0], *(order[cut * rows : (cut + 1) * rows] for cut in cuts.tolist())])


def subset(size_M: Indices, limit: int, fingerprint: str, seed: int) -> Indices:
    """How many rows of each block belong to a fixed random subset of ``limit`` rows, int64 [M].

    Blocks are taken whole in a seeded order, the last one in part (its first rows). A store keeps its rows in a
    permuted order, so that a sample of blocks is a sample of rows.
    """
    order = Key(fingerprint, seed, -1).permutation(len(size_M), "subset")
    before = np.cumsum(size_M[order]) - size_M[order]
    kept = np.zeros_like(size_M)
    kept[order] = np.clip(limit - before, 0, size_M[order])
    return kept


def design_effect(blocks: Indices) -> float:
    """Variance of a batch's mean over that of as many independent rows, for what only blocks differ in.

    ``blocks`` says which block each row of the batch comes from. With c_m rows of block m among B it is
    :math:`\\sum_m c_m^2 / B`: 1 when all are of different blocks, B when all are of one. Real features lie between.
    """
    _, counts = np.unique(blocks, return_counts=True)
    return float((counts.astype(np.float64) ** 2).sum() / len(blocks))


def _digest(pass_: int, stream: int, index_R: Indices, block_R: Indices, row_R: Indices) -> int:
    word = index_R.astype(np.uint64) ^ np.uint64((pass_ << 40 ^ stream << 32) % (1 << 64))
    for value_R in (block_R, row_R):
        word = _mixed(word) ^ value_R.astype(np.uint64)
    return int(_mixed(word).sum(dtype=np.uint64))


def _mixed(word: Words) -> Words:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


def _rank_within(values: Indices) -> Indices:
    """How many earlier entries have the same value, for every entry."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    first = np.searchsorted(ordered, ordered, side="left")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(values)) - first
    return rank
