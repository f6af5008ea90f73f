"""Stream a store as batches, through a window of rows whose size is planned, in an order that nothing disturbs."""

from collections.abc import Generator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info

from kdstore.codecs import Codec, Signal
from kdstore.errors import CapabilityError, EmptyInputError, MismatchError, UsageError
from kdstore.store.reader import Store
from kdtrain.stream.batch import Batch
from kdtrain.stream.config import LoaderConfig
from kdtrain.stream.order import ORDER_VERSION, Order, Run, by_length, share
from kdtrain.stream.plan import Demand, RamPlan, default_group_blocks, make_plan, measure
from kdtrain.stream.reader import BlockId, Group, GroupReader
from kdtrain.stream.shelf import GroupKey, Held, Shelf
from kdtrain.stream.state import check_same, counted
from kdtrain.stream.whole import Whole
from kdtrain.stream.window import Window, join

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class EpochReport:
    """Rows of an epoch over all ranks: trained on, left out, and of padding.

    ``coverage`` is the share of the rows that take part which the epochs so far have seen; where passes are seen in
    part, because epochs draw their rows anew or leave some out, the share expected.
    """

    rows: int
    dropped: int
    padding: int
    coverage: float


class Loader(IterableDataset[Batch]):
    """Batches of a store, epoch after epoch, resumable at any batch and with any number of ranks.

    Iterating gives what is left of the current epoch; afterwards the state is the start of the next one. In a worker
    process of a `torch.utils.data.DataLoader` (``batch_size=None``) it gives every n-th batch, so that n workers
    together give all in order; each reads all groups.

    Parameters
    ----------
    store
        The store to read.
    config
        See `LoaderConfig`.
    device
        Where batches are made.

    Raises
    ------
    EmptyInputError
        The store has no rows.
    CapabilityError
        A signal is asked for and the store has none; or what must be in memory does not fit.
    UsageError
        World size or streams do not divide the batch, or an epoch has no batch.
    """

    def __init__(self, store: Store, config: LoaderConfig, device: torch.device | None = None) -> None:
        if store.rows == 0:
            raise EmptyInputError(f"Expected rows in {store.root}. Got an empty store. Build one from more rows.")
        if config.signal and store.head.codec is None:
            raise CapabilityError(
                f"Expected a store with a teacher's signal. Got {store.root}, which holds tokens only. "
                "Build it with --teacher, or train on labels alone with --alpha 1."
            )
        self.store, self.device = store, device or torch.device("cpu")
        self.codec = store.codec() if config.signal else None
        teacher = ["teacher"] if config.signal else []
        self.fields = ["input_ids", "labels", *teacher, *(f"embeddings/{name}" for name in config.embeddings)]
        sizes = measure(store, self.fields)
        group_blocks = config.order.group_blocks or default_group_blocks(sizes, config.order.streams)
        self.config = replace(config, order=replace(config.order, group_blocks=group_blocks))
        self._home = self.config.home_streams
        demand = Demand(self.fields, self.config.order, -(-config.batch_rows // config.world), len(self._home))
        self.plan: RamPlan = make_plan(
            store, sizes, demand, config.ram_limit, config.residency, config.threads, self.device
        )
        store.keep_open(self.plan.open_parts)
        self._part_M, self._block_M, size_M = store.block_index()
        self.order = Order(store.manifest.fingerprint, size_M, self.config.order, config.max_rows)
        if self.batches == 0:
            raise UsageError(
                f"Expected at least {config.batch_rows} rows per epoch for a batch with --last-batch drop. Got "
                f"{self.rows}. Use uneven or pad, or a smaller --batch-size."
            )
        self._reader = GroupReader(store, self.fields, pinned=self.device.type == "cuda")
        self._side = side_stream(self.device)
        self._whole: Whole | None = None
        self._kept: dict[GroupKey, Held] = {}
        self._turn = 0
        self.epoch = 0
        self.rows_yielded = 0

    def describe(self) -> str:
        """The order and the plan in one line, for people."""
        order = self.config.order
        streams = f" in {order.streams} streams" if order.streams > 1 else ""
        blocks = min(order.group_blocks or 0, len(self._block_M))
        return f"{self.rows:,} rows per epoch, shuffled {blocks} blocks at a time{streams}; {self.plan.describe()}"

    @property
    def rows(self) -> int:
        """Rows of one epoch, over all ranks."""
        return self.order.epoch_rows

    @property
    def batches(self) -> int:
        """Batches of one epoch."""
        whole, rest = divmod(self.rows, self.config.batch_rows)
        return whole + (rest > 0 and self.config.last != "drop")

    def __len__(self) -> int:
        """Batches of one epoch."""
        return self.batches

    def __iter__(self) -> Generator[Batch, None, None]:
        """Yield what is left of the current epoch; afterwards the state is the start of the next one.

        Raises
        ------
        CorruptStoreError
            A block cannot be read, or a checksum does not match.
        """
        worker = get_worker_info()
        workers, mine = (worker.num_workers, worker.id) if worker else (1, 0)
        self._turn += 1
        turn = self._turn
        begin = self.epoch * self.rows
        position, end = begin + self.rows_yielded, begin + self._taken
        with ThreadPoolExecutor(self.plan.threads, "kdtrain-read") as pool, self._shelf(pool, position, end) as shelf:
            if self.plan.residency == "full" and self._whole is None:
                self._make_room(pool)
            for index in count():  # from where this iteration began, as a DataLoader counts its workers' turns
                if position >= end:
                    break
                if turn != self._turn:
                    raise UsageError(
                        "Expected one iteration of a loader at a time. Got another one. Make two loaders."
                    )
                stop = min(position + self.config.batch_rows, end)
                batch = self._batch(shelf, position, stop) if index % workers == mine else None
                position = stop
                # Counted before it is handed out: a state taken while this batch is in use does not repeat it, and
                # who takes as many batches as there are, but never asks for one more, has ended the epoch.
                self.rows_yielded = position - begin
                if position == end:
                    self._end_epoch(shelf)
                if batch is not None:
                    yield batch
        self._reader.trim()

    def _end_epoch(self, shelf: Shelf) -> None:
        self.epoch, self.rows_yielded = self.epoch + 1, 0
        self._kept = shelf.leave(self._first_groups(self.epoch * self.rows))

    def codec_of(self, batch: Batch) -> Codec[Any] | None:
        """What reads the signal of a batch; None where it is not read."""
        return self.codec

    def signal(self, batch: Batch, temperature: float) -> Signal | None:
        """The teacher's signal for a batch at ``temperature``; None where it is not read.

        Raises
        ------
        CapabilityError
            The store cannot serve this temperature.
        """
        return self.codec.decode(batch.signal, temperature) if self.codec else None

    def sample_ids(self, batch: Batch, rows: int | None = None) -> list[str]:
        """The ids of a batch's rows, or of the first of them, read from the store."""
        found = []
        for part, block, row in batch.positions_BP[:rows].tolist():
            found.append(self.store.part(part).read(block, block + 1, ["id"]).row(row)["id"])
        return found

    def report(self, epoch: int) -> EpochReport:
        """What an epoch, counted from 0, comes to."""
        rest = self.rows % self.config.batch_rows
        padding = self.config.batch_rows - rest if rest and self.config.last == "pad" else 0
        return EpochReport(self._taken, self.rows - self._taken, padding, self.order.coverage(epoch, self._taken))

    @property
    def _taken(self) -> int:
        """Rows of one epoch that are handed out."""
        return self.rows - (self.rows % self.config.batch_rows if self.config.last == "drop" else 0)

    def account(self, epoch: int) -> str:
        """What an epoch, counted from 0, comes to, in one line for people."""
        report = self.report(epoch)
        return (
            f"{report.rows:,} rows, {report.dropped:,} left out, {report.padding:,} of padding; "
            f"{100 * report.coverage:.1f} % of the rows that take part seen so far"
        )

    def state_dict(self) -> dict[str, Any]:
        """Where the next batch starts, all that the order depends on, and a digest of the rows of this epoch so far.

        It is the same on every rank.
        """
        return {
            **self._identity(),
            "epoch": self.epoch,
            "rows_yielded": self.rows_yielded,
            "digest": self._digest(self.epoch, self.rows_yielded),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state`` was taken, on any rank of any number of them.

        Raises
        ------
        MismatchError
            The state belongs to another store, seed, order or version of it; what differs is named.
        """
        epoch, rows = counted(state, "epoch"), counted(state, "rows_yielded")
        if rows >= self._taken:
            raise MismatchError(
                f"Expected fewer than {self._taken:,} rows of an epoch in the state of a loader. Got {rows:,}. "
                "Resume with the same settings, or start a new run."
            )
        check_same(state, {**self._identity(), "digest": self._digest(epoch, rows)})
        self._turn += 1
        self.epoch, self.rows_yielded = epoch, rows

    def _identity(self) -> dict[str, Any]:
        order = self.config.order
        return {
            "store fingerprint": self.store.manifest.fingerprint,
            "order version": ORDER_VERSION,
            "seed": order.seed,
            "streams": order.streams,
            "blocks per group": order.group_blocks,
            "shuffle": order.shuffle,
            "sampling": order.sampling,
            "rows that take part": self.order.population,
            "rows per epoch": self.rows,
            "batch size": self.config.batch_rows,
            # Whether padding fills it up is no matter of order: several processes need it, one does not.
            "last batch": "dropped" if self.config.last == "drop" else "kept",
            "rows grouped by length": self._run_rows if self.config.length_grouped else 0,
        }

    def _digest(self, epoch: int, rows: int) -> int:
        begin = epoch * self.rows
        return self.order.digest(begin, begin + rows)

    @property
    def _run_rows(self) -> int:
        """Rows of a stream in a batch."""
        return -(-self.config.batch_rows // self.config.order.streams)

    def _shelf(self, pool: Executor, position: int, end: int) -> Shelf:
        def load(key: GroupKey) -> Held:
            return self._load(key, pool)

        upcoming = self._upcoming(position, end)
        kept, self._kept = self._kept, {}
        return Shelf(load, self._drop, upcoming, self.plan.ahead, kept)

    def _first_groups(self, position: int) -> list[GroupKey]:
        """The groups that go on in the next epoch; none where that begins another pass."""
        if position % self.order.pass_rows == 0:
            return []
        runs = self.order.runs(position, position + self.config.batch_rows)
        return [key for run in runs for key, _ in self._pieces(run)[:1]]

    def _upcoming(self, position: int, end: int) -> list[list[GroupKey]]:
        """The groups that this rank will need of its own streams, by stream."""
        keys: dict[int, list[GroupKey]] = {stream: [] for stream in self._home}
        for run in self.order.runs(position, end):
            if run.stream in keys:
                keys[run.stream] += [key for key, _ in self._pieces(run)]
        return list(keys.values())

    def _batch(self, shelf: Shelf, first: int, last: int) -> Batch | None:
        """This rank's rows of a batch; None where there are none."""
        config, rows = self.config, last - first
        runs = self.order.runs(first, last)
        if config.world > 1:
            runs = share(runs, config.rank * rows // config.world, (config.rank + 1) * rows // config.world)
        pieces = [piece for run in runs for piece in self._pieces(run)]
        kept = sum(inside.stop - inside.start for _, inside in pieces)
        masked = config.batch_rows // config.world - kept if config.last == "pad" else 0
        if not kept and not masked:
            return None
        pad_id = self.store.head.tokenizer.pad_id
        if len(pieces) == 1:
            held, inside = shelf.get(pieces[0][0]), pieces[0][1]
            return held.window.collate(held.rows_R[inside], held.positions_RP[inside], pad_id, masked)
        # Copied at once: the next group may take the place of this one.
        taken = [] if pieces else [Window.empty(self._reader.schema, self.device)]
        positions = [np.zeros((0, 3), np.int64)]
        for key, inside in pieces:
            held = shelf.get(key)
            taken.append(held.window.take(held.rows_R[inside]))
            positions.append(held.positions_RP[inside])
        joined = join(taken)
        del taken
        return joined.collate(np.arange(kept), np.concatenate(positions), pad_id, masked)

    def _pieces(self, run: Run) -> list[tuple[GroupKey, slice]]:
        """The groups that a run lies in, and which of their rows it takes."""
        rows = self.order.pass_(run.pass_)
        found = []
        for group, start, stop in rows.pieces(run.stream, run.start, run.stop):
            begin = int(rows.starts[run.stream][group])
            found.append((GroupKey(run.pass_, run.stream, group), slice(start - begin, stop - begin)))
        return found

    def _load(self, key: GroupKey, pool: Executor) -> Held:
        rows = self.order.pass_(key.pass_)
        blocks = rows.members(key.stream, key.group)
        slot_R, row_R = rows.row_order(key.stream, key.group)
        window, starts, group = self._window(blocks, pool)
        rows_R, block_R = starts[slot_R] + row_R, blocks[slot_R]
        positions_RP = np.column_stack([self._part_M[block_R], self._block_M[block_R], row_R])
        if self.config.length_grouped and rows.key:
            lengths_R = window.offsets["input_ids"][rows_R + 1] - window.offsets["input_ids"][rows_R]
            order = by_length(lengths_R, self._run_rows, rows.key, key.stream, key.group)
            rows_R, positions_RP = rows_R[order], positions_RP[order]
        return Held(window, rows_R, positions_RP, group)

    def _window(self, blocks: Indices, pool: Executor) -> tuple[Window, Indices, Group | None]:
        """A window with the rows of some blocks, where each block begins in it, and the memory that it needs."""
        if self._whole:
            return self._whole.window, self._whole.ensure(blocks, pool), None
        group = self._reader.read(self._named(blocks), pool)
        window, starts = Window.of(group, self.device, self._side), group.starts[:-1]
        if self._side is None:
            return window, starts, group
        self._reader.release(group)
        return window, starts, None

    def _named(self, blocks: Indices) -> list[BlockId]:
        return list(zip(self._part_M[blocks].tolist(), self._block_M[blocks].tolist(), strict=True))

    def _make_room(self, pool: Executor) -> None:
        """Have a place for the rows of all blocks that take part."""
        blocks = self._named(np.arange(len(self._block_M)))
        self._whole = Whole(self._reader, blocks, self.order.size_M > 0, self.device, self._side, pool)

    def _drop(self, held: Held) -> None:
        if self._whole:
            return
        held.window.retire()
        if held.group:
            self._reader.release(held.group)


def side_stream(device: torch.device) -> "torch.cuda.Stream | None":
    """A stream for copies that run beside the training step; None where a device has none."""
    if device.type != "cuda":
        return None
    stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return stream
