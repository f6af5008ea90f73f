"""The records that loaders are measured with, the check that each gives all of them, and what our order costs.

python tools/bench/_loader_checks.py JSON
"""

import json
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
from _loader_common import KEPT, VOCAB, WIDTH, collate, load_records, samples
from numpy.typing import NDArray

from kdtrain.stream.order import Order, OrderConfig, design_effect


def make(request: dict[str, Any]) -> None:
    """Write random records as flat arrays: tokens by Zipf's law, log-probabilities that fall from the first on."""
    rng, rows, directory = np.random.default_rng(0), request["rows"], Path(request["records"])
    inputs, labels = rng.integers(100, 401, rows), rng.integers(10, 41, rows)
    tokens = int(labels.sum())
    log_probs_LK = rng.standard_exponential((tokens, KEPT), np.float32).cumsum(1) * -0.25
    arrays = {
        "input_ids_lengths": inputs,
        "labels_lengths": labels,
        "input_ids": _zipf(rng, int(inputs.sum())),
        "labels": _zipf(rng, tokens),
        "top_ids": _zipf(rng, tokens, KEPT),
        "top_log_probs": log_probs_LK.astype(np.float16),
        "embeddings": rng.standard_normal((rows, WIDTH), np.float32).astype(np.float16),
    }
    directory.mkdir()
    for name, values in arrays.items():
        np.save(directory / f"{name}.npy", values)


def check(request: dict[str, Any]) -> dict[str, float]:
    """Compare an epoch with the records; how well it was shuffled, and how well a permutation of all rows would be.

    Blocks are the runs of records that the files keep together.
    """
    records, kept = load_records(Path(request["records"])), Path(request["kept"])
    keys = np.load(kept / "keys.npy")
    if not np.array_equal(np.sort(keys), np.arange(len(records["embeddings"]))):
        raise AssertionError("an epoch must have every record once")
    for path in kept.glob("*.npz"):
        found = dict(np.load(path))
        expected = collate(list(samples(records, found["keys"].tolist())))
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], np.asarray(values), f"{name} of {path.name}", strict=True)
    blocks = np.searchsorted(request["starts"], keys, side="right")
    return {
        "design_effect": _mean_effect(blocks, request["batch_rows"]),
        "design_effect_permuted": _mean_effect(np.random.default_rng(0).permutation(blocks), request["batch_rows"]),
    }


def order(request: dict[str, Any]) -> dict[str, float]:
    """Seconds and memory that it takes to plan an epoch of many rows, and seconds to go to 90 % of it."""
    size_M = np.full(request["rows"] // 64, 64)
    began = time.perf_counter()
    planned = Order("0" * 16, size_M, OrderConfig(0))
    planned.pass_(0)
    plan_s = time.perf_counter() - began
    planned.digest(0, request["rows"] * 9 // 10)
    digest_s = time.perf_counter() - began - plan_s
    tracemalloc.start()
    Order("0" * 16, size_M, OrderConfig(0)).pass_(0)
    _, peak = tracemalloc.get_traced_memory()
    return {
        "rows": request["rows"],
        "plan_s": round(plan_s, 3),
        "plan_peak_mb": round(peak / 1e6, 1),
        "digest_90_percent_s": round(digest_s, 3),
    }


def _mean_effect(blocks: NDArray[np.int64], batch_rows: int) -> float:
    """Over an epoch's whole batches; nothing where there is none."""
    ends = range(batch_rows, len(blocks) + 1, batch_rows)
    return round(float(np.mean([design_effect(blocks[end - batch_rows : end]) for end in ends])), 3)


def _zipf(rng: np.random.Generator, *shape: int) -> NDArray[np.uint16]:
    """Token ids whose frequency is nearly inverse to their rank."""
    return (VOCAB ** rng.random(shape, np.float32)).clip(max=VOCAB - 1).astype(np.uint16)


if __name__ == "__main__":
    steps = {"make": make, "check": check, "order": order}
    request = json.loads(sys.argv[1])
    print(json.dumps(steps[request["step"]](request)))
