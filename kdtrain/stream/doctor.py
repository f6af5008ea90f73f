"""Measure what each stage of streaming can do, and say which one bounds it and how well rows are mixed."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from kdstore.store.reader import Part, Store
from kdtrain.stream.loader import Loader, side_stream
from kdtrain.stream.order import design_effect
from kdtrain.stream.reader import Group, GroupReader
from kdtrain.stream.window import Window

_READ_BYTES = 256 << 20
_BATCHES = 100
_MIXED_BATCHES = 500
_TOGETHER_ROWS = 20_000


@dataclass(frozen=True)
class Stage:
    """One stage by itself: what it does, rows per second, and what would make it faster."""

    name: str
    rows_per_s: float
    advice: str


@dataclass(frozen=True)
class Diagnosis:
    """What streaming a store comes to.

    ``stages`` one by one; ``together`` is the loader itself over whole epochs, opening included, and its first batch
    came after ``first_batch_s``. ``effect_mean`` and ``effect_worst`` are over an epoch's full batches, 500 of them
    where there are more: `kdtrain.stream.order.design_effect` as a multiple of a perfect shuffle's. ``cold``: the
    system was asked to read files from the disk, not from its cache.
    """

    stages: list[Stage]
    together: float
    first_batch_s: float
    effect_mean: float
    effect_worst: float
    cold: bool

    @property
    def bound(self) -> Stage:
        """The slowest stage."""
        return min(self.stages, key=lambda stage: stage.rows_per_s)


def diagnose(loader: Loader) -> Diagnosis:
    """Measure a fresh loader.

    Raises
    ------
    CorruptStoreError
        The store cannot be read.
    """
    read_rate, cold = _read_rate(loader.store, loader.fields)
    stages = [
        Stage("read", read_rate, "a faster disk, or more memory for the system's file cache"),
        *_stages(loader),
    ]
    first_batch_s, together = _together(loader, _TOGETHER_ROWS)
    effects = _effects(loader)
    return Diagnosis(stages, together, first_batch_s, float(effects.mean()), float(effects.max()), cold)


def _stages(loader: Loader) -> list[Stage]:
    """What is done with the first group; its memory is given back, since the loader is to have what its plan says."""
    part_M, block_M, _ = loader.store.block_index()
    blocks = [(int(part_M[m]), int(block_M[m])) for m in loader.order.pass_(0).members(0, 0)]
    reader = GroupReader(loader.store, loader.fields, pinned=loader.device.type == "cuda")
    with ThreadPoolExecutor(loader.plan.threads) as pool:
        decode_s = _fastest(lambda: reader.release(reader.read(blocks, pool)))
        group = reader.read(blocks, pool)
    gather_s, gathered = _gather(loader, group)
    stages = [
        Stage("decode", group.rows / decode_s, _decode_advice(loader)),
        Stage("gather", gathered / gather_s, "larger batches (--batch-size), or --length-grouped"),
    ]
    if loader.device.type == "cuda":
        copy_s = _fastest(lambda: Window.of(group, loader.device, side_stream(loader.device)))
        stages.append(Stage("copy", group.rows / copy_s, "a store of fewer bytes per token"))
    return stages


def _read_rate(store: Store, fields: list[str]) -> tuple[float, bool]:
    """Rows per second of plain reads of the files of some parts, and whether they came from the disk."""
    rows, size, seconds, cold = 0, 0, 0.0, True
    for ref in store.manifest.parts:
        part = store.part(ref.index)
        files = _files(part, fields)
        cold = all(map(_forget, files)) and cold
        start = time.perf_counter()
        size += sum(map(_read, files))
        rows, seconds = rows + part.rows, seconds + time.perf_counter() - start
        if size > _READ_BYTES:
            break
    return rows / seconds, cold


def _files(part: Part, fields: list[str]) -> list[Path]:
    """Files of a part that hold some of the fields; all of them where rows are kept together."""
    files = part.record.files
    columns = {path for path in files if any(path.startswith(f"{field}/") for field in fields)}
    return [part.path / path for path in columns or files]


def _read(path: Path) -> int:
    """Read a file in pieces; its size."""
    buffer = bytearray(1 << 20)
    with path.open("rb", buffering=0) as file:
        return sum(iter(lambda: file.readinto(buffer) or 0, 0))


def _forget(path: Path) -> bool:
    """Ask the system to drop a file from its cache; whether it can be asked."""
    if not hasattr(os, "posix_fadvise"):
        return False
    file = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(file)
    return True


def _gather(loader: Loader, group: Group) -> tuple[float, int]:
    """Seconds that batches from a group in memory take, and their rows."""
    window = Window.of(group, loader.device, side_stream(loader.device))
    rows = np.random.default_rng(0).permutation(group.rows)
    size = min(loader.config.batch_rows, len(rows))
    cuts = [rows[i : i + size] for i in range(0, len(rows) - size + 1, size)][:_BATCHES]
    positions = np.zeros((size, 3), np.int64)
    pad_id = loader.store.head.tokenizer.pad_id

    def collate() -> None:
        for cut in cuts:
            window.collate(cut, positions, pad_id, 0)
        if loader.device.type == "cuda":
            torch.cuda.synchronize(loader.device)

    return _fastest(collate), size * len(cuts)


def _decode_advice(loader: Loader) -> str:
    threads = f"more --read-threads than {loader.plan.threads}"
    return threads if loader.plan.residency == "full" else f"{threads}, or --residency full where --ram-limit allows"


def _together(loader: Loader, rows: int) -> tuple[float, float]:
    """Seconds to the first batch, and rows per second of whole epochs with so many rows, opening included."""
    start = time.perf_counter()
    first, seen = 0.0, 0
    while seen < rows:
        for batch in loader:
            first = first or time.perf_counter()
            seen += batch.rows
    return first - start, seen / max(time.perf_counter() - start, 1e-9)


def _effects(loader: Loader) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Design effects of batches, evenly spread over the first epoch, as multiples of those of a perfect shuffle.

    That puts any row of the N anywhere: 1 + (B - 1) sum_m n_m (n_m - 1) / (N (N - 1)) for blocks of n_m rows.
    """
    size = min(loader.config.batch_rows, loader.rows)
    full = loader.rows // size
    chosen = np.unique(np.linspace(0, full - 1, min(full, _MIXED_BATCHES)).astype(int)).tolist()
    found = np.asarray([design_effect(loader.order.blocks(i * size, (i + 1) * size)) for i in chosen])
    rows_M, total = loader.order.size_M.astype(float), float(loader.order.population)
    perfect = 1 + (size - 1) * (rows_M * (rows_M - 1)).sum() / max(1.0, total * (total - 1))
    return found / float(perfect)


def _fastest(action: Callable[[], object]) -> float:
    """Seconds of the fastest of three runs, so that memory is there and files are in the system's cache."""
    return min(_seconds(action) for _ in range(3))


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return max(time.perf_counter() - start, 1e-9)
