"""Write what DistillKit's capture writes: its parquet columns and its coding of log-probabilities, in numpy."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

Config = dict[str, Any]

EXACT: Config = {"d": 401, "k": 8, "exact_k": 8, "residual_bins": []}
POLYNOMIAL: Config = {
    "d": 401, "k": 24, "exact_k": 4, "polynomial_terms": [0, 1, 2, "sqrt"], "normalize_t": True,
    "residual_bins": [
        {"scale_dtype": "float16", "element_bits": 7, "num_elements": 9},
        {"scale_dtype": "float32", "element_bits": 1, "num_elements": 5},
    ],
}  # fmt: skip
HALF: Config = {
    "d": 401, "k": 12, "exact_k": 2, "exact_dtype": "float16", "polynomial_terms": [0, 1, 2], "delta_encoding": False,
    "residual_bins": [{"scale_dtype": "float32", "element_bits": 8, "num_elements": 10}],
}  # fmt: skip


def pack(values: list[int], bits: int) -> bytes:
    """Integers one after the other, the highest bit first, zeros at the end."""
    text = "".join(f"{value:0{bits}b}" for value in values)
    text += "0" * (-len(text) % 8)
    return bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8))


def terms_at(names: list[int | str], count: int, normalize: bool) -> np.ndarray:
    t = np.linspace(0, 1, count) if normalize else np.arange(count)
    return np.stack([getattr(np, name)(t) if isinstance(name, str) else t**name for name in names], -1)


def code(log_probs: np.ndarray, config: Config) -> tuple[bytes, np.ndarray]:
    """Sorted log-probabilities [k] of one position, and what a reader must make of their bytes."""
    values = log_probs.astype(np.float64)
    if config.get("delta_encoding", True):
        values = np.diff(values, prepend=0.0)
    head, rest = values[: config["exact_k"]].astype(config.get("exact_dtype", "float32")), values[config["exact_k"] :]
    data, seen = head.tobytes(), np.zeros(len(rest))
    if names := config.get("polynomial_terms"):
        matrix = terms_at(names, len(rest), config.get("normalize_t", False))
        coefficients = np.linalg.lstsq(matrix, rest, rcond=None)[0].astype(np.float32)
        data += coefficients.tobytes()
        seen += matrix @ coefficients
    start = 0
    for part in config["residual_bins"]:
        bits, where = part["element_bits"], slice(start, start + part["num_elements"])
        left, start = (rest - seen)[where], where.stop
        low, high, most = (0, 1, 1.0) if bits == 1 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, 2.0 ** (bits - 1))
        scale = np.array([np.abs(left).max() / most or 1.0]).astype(part["scale_dtype"])
        levels = np.clip(np.round(left / float(scale[0])), low, high)
        data += scale.tobytes() + pack((levels - low).astype(int).tolist(), bits)
        seen[where] += (levels * 2 - 1 if bits == 1 else levels) * float(scale[0])
    seen = np.concatenate([head, seen])
    return data, np.cumsum(seen) if config.get("delta_encoding", True) else seen


def row(input_ids: list[int], logits: np.ndarray, config: Config) -> tuple[dict[str, Any], list[dict[int, float]]]:
    """A row of ids [n] and logits [n - 1, d], those of all tokens but the first; and its candidates as coded."""
    bits = int(np.ceil(np.log2(config["d"])))
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    order = np.argsort(-log_probs, axis=-1)[:, : config["k"]]
    coded = [code(line[ids], config) for line, ids in zip(log_probs, order, strict=True)]
    columns = {
        "input_ids": input_ids,
        "compressed_logprobs": [list(data) for data, _ in coded],
        "bytepacked_indices": [list(pack(ids.tolist(), bits)) for ids in order],
    }
    return columns, [dict(zip(ids.tolist(), seen, strict=True)) for ids, (_, seen) in zip(order, coded, strict=True)]


def write(directory: Path, rows: list[dict[str, Any]], config: Config) -> Path:
    """The directory of a capture."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "compression_config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    schema = pa.schema(
        [
            pa.field("input_ids", pa.list_(pa.uint64())),
            pa.field("compressed_logprobs", pa.list_(pa.list_(pa.uint8()))),
            pa.field("bytepacked_indices", pa.list_(pa.list_(pa.uint8()))),
        ]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), directory / "data_0.parquet")
    return directory
