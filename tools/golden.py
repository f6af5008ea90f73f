"""Write the golden stores of the present format version, and what every later release must read from them.

    python tools/golden.py

writes tests/golden/stores/vN anew. Do that for a new version only, or before the first release of one.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from kdstore.codecs import Codec, DenseSignal, Signal, SparseSignal  # noqa: E402
from kdstore.schema import RaggedText, RaggedTokens, Schema  # noqa: E402
from kdstore.store.manifest import FORMAT_VERSION, Head, Limits, Segment, TokenizerRecord  # noqa: E402
from kdstore.store.writer import begin, finalize, prepare, write_part  # noqa: E402
from tests.codec_tools import fitted  # noqa: E402
from tests.small_store import VOCAB, Written, write_store  # noqa: E402

TARGET = ROOT / f"tests/golden/stores/v{FORMAT_VERSION}"
EXPECTED = "expected.json"
TOKENS = Schema(
    fields=(
        RaggedText(name="id"),
        RaggedTokens(name="input_ids", dtype="uint32"),
        RaggedTokens(name="labels", dtype="uint32"),
        RaggedText(name="text/reference"),
    )
)


def write_all(target: Path) -> None:
    """Write all stores and the record of what went into them below ``target``."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    lowrank, topk = fitted("lowrank", VOCAB, {"rank": 4}), fitted("topk", VOCAB, {"k": 8})
    expected = {
        "zarr-lowrank": _expected(write_store(target / "zarr-lowrank", "lowrank", rank=4), lowrank),
        "zarr-topk": _expected(write_store(target / "zarr-topk", "topk", part_rows=12, k=8), topk),
        "webdataset-topk": _expected(
            write_store(target / "webdataset-topk", "topk", container="webdataset", k=8), topk
        ),
        "zarr-tokens": _expected(_write_tokens(target / "zarr-tokens"), None),
    }
    (target / EXPECTED).write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")


def _write_tokens(root: Path) -> Written:
    """A store without a signal, of a build and an append; some rows are empty, and one part is not full."""
    rows = [_row(index) for index in range(9)]
    for sizes in ((5,), (5, 4)):
        head = Head(
            task="java_assertion", template="{x}", schema=TOKENS, vocab_size=70_000, codec=None, teacher=None,
            tokenizer=TokenizerRecord(sha256="0" * 64, vocab_size=70_000, pad_id=0, eos_id=1, decoder_start_id=0),
            encoders={}, limits=Limits(max_input_tokens=8, max_output_tokens=8, overlong="truncate"),
            split="all", seed=3, part_rows=5, block_rows=3,
            segments=tuple(Segment(source_sha256="0" * 64, rows=n, scan={"kept": n}, versions={}) for n in sizes),
        )  # fmt: skip
        begin(root, head)
        prepare(root)
        start = sum(sizes[:-1])
        first = -(-start // head.part_rows)
        for index, low in enumerate(range(start, sum(sizes), head.part_rows), first):
            high = min(low + head.part_rows, sum(sizes))
            write_part(root, head, index, TOKENS.pack(rows[low:high]))
        finalize(root, head)
    return Written(root, TOKENS, rows, [], 3)


def _row(index: int) -> dict[str, Any]:
    rng = np.random.default_rng(index)
    return {
        "id": f"row-{index}-日本",
        "input_ids": rng.integers(0, 70_000, index % 4),
        "labels": rng.integers(0, 70_000, (index + 1) % 3),
        "text/reference": "" if index % 4 == 0 else f"größe({index});" * index,
    }


def _expected(store: Written, codec: Codec | None) -> dict[str, Any]:
    """What went in: ids and labels as they are, a digest of every field, and what the signal of each row says."""
    found: dict[str, Any] = {
        "ids": [row["id"] for row in store.rows],
        "labels": [np.asarray(row["labels"]).tolist() for row in store.rows],
        "fields": {
            field.name: digest([values(row[field.name]) for row in store.rows], field.model_dump(mode="json"))
            for field in store.schema.fields
        },
    }
    if codec:
        signals = [codec.decode(tensors(row["teacher"]), temperature=1.0) for row in store.rows]
        found["likeliest"] = [pair for signal in signals for pair in likeliest(signal)]
    return found


def tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """A codec's arrays as it decodes them."""
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def likeliest(signal: Signal) -> list[tuple[int, float]]:
    """The likeliest id of every position, and its log-probability."""
    if isinstance(signal, DenseSignal):
        log_probs_L, ids_L = torch.log_softmax(signal.logits_LV, -1).max(-1)
    else:
        assert isinstance(signal, SparseSignal)
        log_probs_L, places_L = signal.log_probs_LK.max(-1)
        ids_L = signal.ids_LK.gather(-1, places_L[:, None])[:, 0]
    return list(zip(ids_L.tolist(), [round(value, 4) for value in log_probs_L.tolist()], strict=True))


def values(value: object) -> list[Any]:
    """A field's value in one row as flat lists of numbers or texts."""
    if isinstance(value, Mapping):
        return [item for key in sorted(value) for item in (key, *values(value[key]))]
    if isinstance(value, tuple):
        return [item for part in value for item in values(part)]
    return [value] if isinstance(value, str) else np.asarray(value).ravel().tolist()


def digest(rows: Sequence[Sequence[Any]], field: Mapping[str, Any]) -> str:
    """SHA-256 of a field's values, rounded to what its dtype keeps, as JSON."""
    dtype = str(field.get("dtype", "float32"))
    exact = np.dtype(dtype) if dtype.startswith("float") else np.dtype("float64")
    plain = [[item if isinstance(item, str) else float(exact.type(item)) for item in row] for row in rows]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()


def main() -> None:
    """Write the stores of the present version."""
    write_all(TARGET)
    size = sum(path.stat().st_size for path in TARGET.rglob("*") if path.is_file())
    print(f"{TARGET.relative_to(ROOT)}: {size:,} bytes")


if __name__ == "__main__":
    main()
