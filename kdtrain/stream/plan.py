"""Plan memory before the first read: what stays resident, what is read ahead, and how many threads read.

None of it changes the order of rows, which is settled by `kdtrain.stream.order.OrderConfig`.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np
import torch

from kdstore.errors import CapabilityError
from kdstore.schema import ROW_AXIS
from kdstore.store.manifest import SUM_BYTES
from kdstore.store.reader import Store
from kdtrain.stream.memory import available_bytes
from kdtrain.stream.order import GROUP_BLOCKS, OrderConfig
from kdtrain.stream.whole import STAGED_BLOCKS

Residency = Literal["auto", "window", "full"]

GROUP_BYTES = 64 << 20  # of the groups of all streams together; as many again are being read

_SHARE = 4  # of the available memory is taken unless a limit is named
_SAMPLED_PARTS = 8
_SLACK = 9 / 8  # buffers are larger than what they hold
_ORDER_BYTES = 64  # per row of a group: its place in the order, and sorting that
_BLOCK_BYTES = 256  # per block of the store: the order of blocks
_PART_BYTES = 2 << 10  # per part in the manifest
_OPEN_BYTES = 32 << 10  # of an open part, beside its index
_CHUNK_BYTES = 32  # of one chunk in an open part's index
_THREAD_BYTES = 8 << 20  # of a thread: its stack, what it unpacks, and the allocator's own
_BASE_BYTES = 32 << 20  # what libraries take at their first use
_BATCHES = 4  # at a time: in use, its pieces from two groups, these joined, and the next one
_TOKEN_BYTES = 25  # per padded token: id, mask, index and their conditions


@dataclass(frozen=True)
class RamPlan:
    """What a loader keeps in memory.

    ``residency``: ``full`` when the whole store stays decoded on the device, ``window`` when groups come and go.
    ``ahead``: groups of each stream that are read while one is in use. ``open_parts``: parts whose index is kept.
    ``expected_peak`` bytes are what all this takes at most, above what the process had before.
    """

    limit: int
    residency: Literal["window", "full"]
    ahead: int
    threads: int
    open_parts: int
    group_bytes: int
    expected_peak: int

    def describe(self) -> str:
        """The plan in one line, for people."""
        kept = "the whole store" if self.residency == "full" else f"groups of {_mib(self.group_bytes)}"
        ahead = f", {self.ahead} read ahead" if self.residency == "window" else ""
        return (
            f"{kept} in memory{ahead}, reading threads: {self.threads}; at most {_mib(self.expected_peak)} of the "
            f"{_mib(self.limit)} that --ram-limit leaves it"
        )


@dataclass(frozen=True)
class Demand:
    """What is to be read: names of fields, the order, rows of a rank's batch, and how many streams the rank meets."""

    fields: Sequence[str]
    order: OrderConfig
    batch_rows: int
    streams: int


@dataclass(frozen=True)
class Sizes:
    """Bytes of a full block, decoded, and of what an open part keeps."""

    block: float
    index: float


def measure(store: Store, fields: Sequence[str]) -> Sizes:
    """Estimated from those parts whose rows take the most bytes on disk."""
    columns = store.schema.columns(fields)
    axes = {spec.axis for spec in columns.values()}
    heaviest = sorted(store.manifest.parts, key=lambda ref: -ref.bytes / ref.rows)[:_SAMPLED_PARTS]
    found = []
    for part in (store.part(ref.index) for ref in heaviest):
        record = part.record
        values = (
            prod(spec.shape) * np.dtype(spec.dtype).itemsize * record.extent(spec.axis) for spec in columns.values()
        )
        offsets = 8 * len(axes) * record.extent(ROW_AXIS)
        chunks = sum(len(sums) for sums in record.chunks.values()) // SUM_BYTES
        full_blocks = part.rows / store.head.block_rows
        found.append(Sizes((sum(values) + offsets) / full_blocks, _OPEN_BYTES + chunks * _CHUNK_BYTES))
    return Sizes(max(one.block for one in found), max(one.index for one in found))


def make_plan(
    store: Store,
    sizes: Sizes,
    demand: Demand,
    limit: int | None,
    residency: Residency,
    threads: int | None,
    device: torch.device,
) -> RamPlan:
    """Settle what a loader keeps in memory.

    Parameters
    ----------
    store
        The store to read.
    sizes
        Of its blocks, see `measure`.
    demand
        What of it, and in which order.
    limit
        Bytes that the loader may take; None: a quarter of what is available now.
    residency
        ``auto`` keeps the whole store where that fits.
    threads
        How many read; None: half of the cores.
    device
        Where batches are wanted.

    Raises
    ------
    CapabilityError
        It does not fit into the limit; the largest group that would is named.
    """
    limit = default_limit() if limit is None else limit
    threads = threads or max(1, _cores() // 2)
    parts, blocks = len(store.manifest.parts), len(store.block_index()[0])
    block_rows, streams = store.head.block_rows, demand.streams
    group_blocks = min(demand.order.group_blocks or GROUP_BLOCKS, -(-blocks // demand.order.streams))
    group_bytes = int(group_blocks * (sizes.block * _SLACK + block_rows * _ORDER_BYTES))
    rest = _rest_bytes(store, sizes, demand.batch_rows, threads)
    least_open = int(min(parts, max(_SAMPLED_PARTS, group_blocks * streams)) * sizes.index)
    whole = int((blocks + min(blocks, STAGED_BLOCKS) * _SLACK) * sizes.block)
    whole += 2 * group_blocks * block_rows * _ORDER_BYTES

    def planned(kind: Literal["window", "full"], ahead: int, held: int) -> RamPlan | None:
        left = limit - rest - held
        if left < least_open:
            return None
        open_parts = min(parts, int(left / sizes.index))
        peak = rest + held + int(min(parts * sizes.index, left))
        return RamPlan(limit, kind, ahead, threads, open_parts, group_bytes, peak)

    if residency != "window" and _fits_device(whole, device) and (plan := planned("full", 1, whole)):
        return plan
    if residency == "full":
        raise _whole_does_not_fit(store, limit, rest + whole, device)
    for ahead in (1, 0):
        if plan := planned("window", ahead, (1 + ahead) * streams * group_bytes):
            return plan
    raise _groups_do_not_fit(limit, rest + least_open, group_blocks, group_bytes, streams)


def _whole_does_not_fit(store: Store, limit: int, needed: int, device: torch.device) -> CapabilityError:
    also = ", and into a quarter of the memory of the device" if device.type == "cuda" else ""
    return CapabilityError(
        f"Expected the whole store {store.root} to fit into the {_mib(limit)} that --ram-limit leaves it{also}. Got "
        f"{_mib(needed)} decoded. Use --residency window, or allow more."
    )


def _groups_do_not_fit(limit: int, rest: int, group_blocks: int, group_bytes: int, streams: int) -> CapabilityError:
    most = (limit - rest) * group_blocks // (streams * group_bytes)
    way = f"or use --group-blocks {most} or less" if most > 0 else "since no group is small enough"
    return CapabilityError(
        f"Expected groups of {group_blocks} blocks, of {streams} streams, to fit into the {_mib(limit)} that "
        f"--ram-limit leaves them. Got {_mib(rest + streams * group_bytes)}. Allow more, {way}."
    )


def default_limit() -> int:
    """Bytes that a loader may take unless told: a quarter of what is available now."""
    return available_bytes() // _SHARE


def default_group_blocks(sizes: Sizes, streams: int) -> int:
    """Blocks that a stream shuffles together: of all streams 256, or as many as 64 MiB hold; at least one.

    A pure function of the store, so that the order never depends on the machine.
    """
    fitting = int(GROUP_BYTES / max(1.0, sizes.block))
    return max(1, min(GROUP_BLOCKS, fitting) // streams)


def _rest_bytes(store: Store, sizes: Sizes, batch_rows: int, threads: int) -> int:
    """What is needed beside groups and open parts."""
    return (
        _BASE_BYTES
        + threads * (_THREAD_BYTES + int(sizes.block))
        + len(store.block_index()[0]) * _BLOCK_BYTES
        + len(store.manifest.parts) * _PART_BYTES
        + _batch_bytes(store, sizes, batch_rows)
    )


def _batch_bytes(store: Store, sizes: Sizes, rows: int) -> int:
    limits = store.head.limits
    padded = (limits.max_input_tokens + limits.max_output_tokens) * _TOKEN_BYTES
    return int(_BATCHES * rows * (padded + sizes.block / store.head.block_rows))


def _fits_device(size: int, device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return size <= free // _SHARE


def _cores() -> int:
    # What a job scheduler allows; macOS has no such thing.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _mib(size: float) -> str:
    return f"{size / 2**20:,.0f} MiB"
