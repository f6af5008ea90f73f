"""The measurement of a loader, and what all loaders measured have in common: records in, padded tensors out.

It runs under the Python of the libraries compared too, which has no kdstore: numpy, psutil and torch are enough.
B counts rows of a batch, S input tokens, T label tokens of a row, L those of all rows, K ids kept of each.
"""

import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

VOCAB, KEPT, WIDTH = 32_100, 32, 768
PAD, IGNORED = 0, -100

Arrays = dict[str, NDArray[Any]]
Batch = dict[str, Any]
"""Tensors by name, as `pad` makes them, and ``keys``: which records these are, int64 [B]."""

PER_ROW = ("input_ids", "labels", "top_ids", "top_log_probs")
_MB = 1e6


@dataclass(frozen=True)
class Open:
    """A loader that is open: all batches of an epoch counted from 0, and the memory it says it takes, if it does."""

    batches: Callable[[int], Iterator[Batch]]
    planned_bytes: int | None = None


@dataclass(frozen=True)
class Loader:
    """How records become files, and files batches.

    ``write`` puts the flat records into an empty directory. ``open`` takes the directory and the rows of a batch, as
    ``resume`` does, which gives seconds from a state at 90 % of an epoch to the batch after it. ``starts`` says which
    record is the first of each run that the files keep together, given the directory and the number of records.
    """

    version: str
    write: Callable[[Arrays, Path], None]
    open: Callable[[Path, int], Open]
    starts: Callable[[Path, int], Sequence[int]]
    resume: Callable[[Path, int], float] | None = None


def main(loaders: Mapping[str, Callable[[], Loader]]) -> None:
    """Do what the JSON on the command line asks for, and print the result as JSON on the last line.

    The functions in ``loaders`` import what a loader needs.
    """
    request = json.loads(sys.argv[1])
    try:
        loader = loaders[request["loader"]]()
    except ImportError as error:
        answer: dict[str, Any] = {"absent": str(error)}
    else:
        steps = {"write": _write, "warm": _warm, "cold": _cold}
        answer = steps[request["step"]](loader, Path(request["directory"]), request)
    print("\n" + json.dumps(answer), flush=True)


def load_records(directory: Path) -> Arrays:
    """The records as flat arrays, mapped into memory."""
    return {path.stem: np.load(path, mmap_mode="r") for path in directory.glob("*.npy")}


def samples(records: Arrays, keys: Sequence[int] | None = None) -> Iterator[dict[str, Any]]:
    """Records one by one, as most libraries take them: those with some keys, or all."""
    counts = {name: records[f"{name}_lengths"] for name in ("input_ids", "labels")}
    ends = {name: np.cumsum(lengths) for name, lengths in counts.items()}
    for key in range(len(records["embeddings"])) if keys is None else keys:
        spans = {name: slice(ends[name][key] - counts[name][key], ends[name][key]) for name in counts}
        yield {
            "key": int(key),
            **{name: np.array(records[name][spans.get(name, spans["labels"])]) for name in PER_ROW},
            "embedding": np.array(records["embeddings"][key]),
        }


def collate(rows: Sequence[Mapping[str, Any]]) -> Batch:
    """Rows as `samples` gives them, as a batch."""
    flat = {name: np.concatenate([row[name] for row in rows]) for name in PER_ROW}
    lengths = {name: np.array([len(row[name]) for row in rows]) for name in ("input_ids", "labels")}
    return pad(flat, lengths, np.stack([row["embedding"] for row in rows]), np.array([row["key"] for row in rows]))


def pad(flat: Arrays, lengths: Arrays, embeddings_BD: NDArray[Any], keys_B: NDArray[np.int64]) -> Batch:
    """Flat arrays of some rows, and how many tokens each has, as a batch."""
    input_ids_BS, filled_BS = _padded(flat["input_ids"], lengths["input_ids"], PAD)
    labels_BT, _ = _padded(flat["labels"], lengths["labels"], IGNORED)
    arrays = {
        "input_ids": input_ids_BS,
        "attention_mask": filled_BS.astype(np.int64),
        "labels": labels_BT,
        "label_tokens": flat["labels"].astype(np.int64),
        "top_ids": flat["top_ids"],
        "top_log_probs": flat["top_log_probs"],
        "embeddings": embeddings_BD,
    }
    return {**{name: torch.from_numpy(values) for name, values in arrays.items()}, "keys": keys_B}


def _padded(values: NDArray[Any], lengths_B: NDArray[Any], fill: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    filled_BT = np.arange(lengths_B.max()) < lengths_B[:, None]
    padded_BT = np.full(filled_BT.shape, fill, np.int64)
    padded_BT[filled_BT] = values
    return padded_BT, filled_BT


def _write(loader: Loader, directory: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    records = load_records(Path(request["records"]))
    if not directory.is_dir():
        directory.mkdir()
        loader.write(records, directory)
    sizes = [path.stat().st_size for path in directory.rglob("*") if path.is_file()]
    starts = list(loader.starts(directory, len(records["embeddings"])))
    return {"version": loader.version, "starts": starts, "bytes_on_disk": sum(sizes)}


def _warm(loader: Loader, directory: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    """One epoch that is kept for a check, then some that are timed, until ``seconds`` are over.

    Where the first alone takes longer than that, it counts.
    """
    imported = psutil.Process().memory_info().rss
    began, busy = time.perf_counter(), time.process_time()
    opened = loader.open(directory, request["batch_rows"])
    first = _keep(opened.batches(0), Path(request["kept"]), request["last_batch"], began)
    seconds = [time.perf_counter() - began]
    if seconds[0] < request["seconds"]:
        seconds, busy = [], time.process_time()
        while len(seconds) < request["epochs"] and sum(seconds) < request["seconds"]:
            seconds.append(_time(opened.batches(len(seconds) + 1)))
    busy = time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "rows_per_s": round(request["rows"] / min(seconds)),
        "rows_per_s_median": round(request["rows"] / statistics.median(seconds)),
        "rows_per_cpu_s": round(request["rows"] * len(seconds) / busy),
        "peak_rss_mb": round(peak / _MB, 1),
        "import_rss_mb": round(imported / _MB, 1),
        "planned_mb": round(opened.planned_bytes / _MB, 1) if opened.planned_bytes else None,
        "first_batch_s": round(first, 4),
        "resume_first_batch_s": round(loader.resume(directory, request["batch_rows"]), 4) if loader.resume else None,
    }


def _cold(loader: Loader, directory: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    """An epoch whose files come from the disk; what stood in the way where they do not."""
    if not hasattr(os, "posix_fadvise"):
        return {"rows_per_s_cold": None, "cold": "this system has no posix_fadvise"}
    _evict(directory)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_inblock
    seconds = _time(loader.open(directory, request["batch_rows"]).batches(0))
    read = 512 * (resource.getrusage(resource.RUSAGE_SELF).ru_inblock - before)
    if read < request["bytes_on_disk"] / 2:
        return {"rows_per_s_cold": None, "cold": f"only {read / _MB:.0f} MB were read from the disk"}
    return {"rows_per_s_cold": round(request["rows"] / seconds)}


def _evict(directory: Path) -> None:
    """Ask the system to forget what it holds of the files."""
    for path in directory.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _keep(batches: Iterator[Batch], directory: Path, last: int, began: float) -> float:
    """Go through an epoch, keep all keys and a few whole batches in ``directory``; seconds until the first batch."""
    directory.mkdir()
    keys, first = [], 0.0
    for index, batch in enumerate(batches):
        first = first or time.perf_counter() - began
        keys.append(batch["keys"])
        if index in (0, last // 2, last):
            arrays: dict[str, Any] = {name: np.asarray(values) for name, values in batch.items()}
            np.savez(directory / str(index), **arrays)
    np.save(directory / "keys.npy", np.concatenate(keys))
    return first


def _time(batches: Iterator[Batch]) -> float:
    """Seconds that an epoch takes."""
    began = time.perf_counter()
    for _ in batches:
        pass
    return time.perf_counter() - began
