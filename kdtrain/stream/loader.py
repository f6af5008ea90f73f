"""Stream a store as batches: one group of blocks in memory, and the next one being read."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdstore.codecs import Signal
from kdstore.errors import CapabilityError, EmptyInputError, MismatchError
from kdstore.schema import Block, concatenate
from kdstore.store.reader import Store
from kdtrain.stream import order
from kdtrain.stream.batch import Batch, collate, take

MAX_GROUP_BLOCKS = 16
GROUP_BYTES = 256 << 20  # two groups are in memory at a time


class Loader:
    """Batches of a store, epoch after epoch, resumable at any batch.

    Memory holds at most two groups of blocks, whatever the store's size. The last batch of an epoch is smaller
    when the rows do not divide evenly: nothing is dropped or repeated.

    Parameters
    ----------
    store
        The store to read.
    batch_size
        Rows per batch.
    seed
        Settles the order and the subset.
    with_signal
        Whether batches carry the teacher's signal.
    embeddings
        Encoders whose columns batches carry.
    max_rows
        Size of a fixed, seeded subset; None takes all rows.
    group_blocks
        Blocks that are shuffled together; None takes `group_size`.
    shuffle
        False reads rows in the store's own order, every epoch the same.

    Raises
    ------
    EmptyInputError
        The store has no rows.
    CapabilityError
        A signal is asked for and the store has none.
    """

    def __init__(
        self,
        store: Store,
        batch_size: int,
        seed: int,
        *,
        with_signal: bool,
        embeddings: Sequence[str] = (),
        max_rows: int | None = None,
        group_blocks: int | None = None,
        shuffle: bool = True,
    ) -> None:
        if store.rows == 0:
            raise EmptyInputError(f"Expected rows in {store.root}. Got an empty store. Build one from more rows.")
        if with_signal and store.head.codec is None:
            raise CapabilityError(
                f"Expected a store with a teacher's signal. Got {store.root}, which holds tokens only. "
                "Build it with --teacher, or train on labels alone with --alpha 1."
            )
        self.store = store
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.codec = store.codec() if with_signal else None
        self.fields = ["input_ids", "labels", *["teacher"] * with_signal, *(f"embeddings/{e}" for e in embeddings)]
        self.group_blocks = group_blocks or group_size(store, self.fields)
        self._blocks = store.blocks()
        rows_M = np.asarray([store.block_rows(*block) for block in self._blocks], np.int64)
        fingerprint = store.manifest.fingerprint
        self._rows_M = rows_M if max_rows is None else order.subset(rows_M, max_rows, fingerprint, seed)
        self.epoch = 0
        self.rows_yielded = 0

    @property
    def rows(self) -> int:
        """Rows of one epoch."""
        return int(self._rows_M.sum())

    @property
    def batches(self) -> int:
        """Batches of one epoch."""
        return -(-self.rows // self.batch_size)

    def __iter__(self) -> Generator[Batch, None, None]:
        """Yield what is left of the current epoch; afterwards the state is the start of the next one.

        Raises
        ------
        CorruptStoreError
            A block cannot be read, or a checksum does not match.
        """
        pieces: list[Block] = []
        positions: list[NDArray[np.int64]] = []
        missing = self.batch_size
        for group, positions_RP, rows_R in self._groups():
            start = 0
            while start < len(rows_R):
                stop = min(start + missing, len(rows_R))
                pieces.append(take(group, rows_R[start:stop]))
                positions.append(positions_RP[start:stop])
                missing -= stop - start
                start = stop
                if missing == 0:
                    yield self._batch(pieces, positions)
                    pieces, positions, missing = [], [], self.batch_size
            del group  # before the next one is taken: two are in memory, never three
        if pieces:
            yield self._batch(pieces, positions)
        self.epoch, self.rows_yielded = self.epoch + 1, 0

    def signal(self, batch: Batch, temperature: float) -> Signal | None:
        """The teacher's signal for a batch at ``temperature``; None where it is not read.

        Raises
        ------
        CapabilityError
            The store cannot serve this temperature.
        """
        return self.codec.decode(batch.signal, temperature) if self.codec else None

    def sample_ids(self, batch: Batch) -> list[str]:
        """The ids of a batch's rows, read from the store; for messages."""
        found = []
        for part, block, row in batch.positions_BP.tolist():
            found.append(self.store.part(part).read(block, block + 1, ["id"]).row(row)["id"])
        return found

    def state_dict(self) -> dict[str, Any]:
        """Where the next batch starts, and all that the order depends on."""
        return {**self._identity(), "epoch": self.epoch, "rows_yielded": self.rows_yielded}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state`` was taken.

        Raises
        ------
        MismatchError
            The state belongs to another store, seed, group size, subset or version of the order.
        """
        for name, mine in self._identity().items():
            if state[name] != mine:
                raise MismatchError(
                    f"Expected {name} = {state[name]} as this run was started with. Got {mine}. "
                    "Resume with the same store and settings, or start a new run."
                )
        self.epoch, self.rows_yielded = state["epoch"], state["rows_yielded"]

    def _identity(self) -> dict[str, Any]:
        return {
            "store fingerprint": self.store.manifest.fingerprint,
            "seed": self.seed,
            "batch size": self.batch_size,
            "rows per epoch": self.rows,
            "blocks per group": self.group_blocks,
            "shuffle": self.shuffle,
            "order version": order.ORDER_VERSION,
        }

    def _groups(self) -> Iterator[tuple[Block, NDArray[np.int64], NDArray[np.int64]]]:
        """The groups that are left of the epoch: rows as one block, their positions, and which come when."""
        key = order.Key(self.store.manifest.fingerprint, self.seed, self.epoch) if self.shuffle else None
        blocks = order.block_order(self._rows_M, key)
        starts = order.group_starts(self._rows_M, blocks, self.group_blocks)
        first = int(np.searchsorted(starts, self.rows_yielded, side="right")) - 1
        members = [blocks[i : i + self.group_blocks] for i in range(0, len(blocks), self.group_blocks)]
        if first == len(members):  # a state taken right after the last batch
            return
        with ThreadPoolExecutor(1, "kdtrain-read") as reader:
            waiting = reader.submit(self._read, members[first])
            for index in range(first, len(members)):
                group = waiting.result()
                if index + 1 < len(members):
                    waiting = reader.submit(self._read, members[index + 1])
                slot_R, row_R = order.row_order(self._rows_M[members[index]], index, key)
                done = max(0, self.rows_yielded - int(starts[index])) if index == first else 0
                yield group, *self._locate(members[index], slot_R[done:], row_R[done:])

    def _read(self, members: NDArray[np.int64]) -> Block:
        blocks = [self._blocks[i] for i in members]
        return concatenate([self.store.part(part).read(b, b + 1, self.fields) for part, b in blocks])

    def _locate(
        self, members: NDArray[np.int64], slot_R: NDArray[np.int64], row_R: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positions [R, 3] in the store, and indices [R] into the concatenated blocks."""
        part_block = np.asarray([self._blocks[i] for i in members], np.int64)
        sizes = np.asarray([self.store.block_rows(*self._blocks[i]) for i in members], np.int64)
        offsets = np.cumsum(sizes) - sizes
        return np.column_stack([part_block[slot_R], row_R]), offsets[slot_R] + row_R

    def _batch(self, pieces: list[Block], positions: list[NDArray[np.int64]]) -> Batch:
        batch = collate(concatenate(pieces), np.concatenate(positions), self.store.head.tokenizer.pad_id)
        # Counted before it is handed out: a state taken while this batch is in use does not repeat it.
        self.rows_yielded += batch.rows
        return batch


def group_size(store: Store, fields: Sequence[str]) -> int:
    """Blocks to shuffle together: 16, or as many of a typical size as fit into 256 MiB; at least one.

    A pure function of the store, so that the order never depends on the machine.
    """
    record = store.part(store.manifest.parts[0].index).record
    schema = store.schema.subset(fields)
    values = (
        np.dtype(spec.dtype).itemsize * int(np.prod(spec.shape)) * record.extent(spec.axis)
        for spec in schema.specs().values()
    )
    per_block = sum(values) / (len(record.block_offsets["row"]) - 1)
    return max(1, min(MAX_GROUP_BLOCKS, int(GROUP_BYTES / max(1.0, per_block))))
