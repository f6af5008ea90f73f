"""Compare every field of two stores of the same rows: tar files read by stock webdataset, arrays by zarr.

Run as a script where none of our packages can be imported: ``stock_webdataset.py WEBDATASET_STORE ZARR_STORE``. It
prints the number of different keys.
"""

import json
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import webdataset
import zarr

SUFFIX = {"ragged_text": ".txt", "tree": ".npz", "teacher_signal": ".npz"}


def bounds(lengths: np.ndarray) -> np.ndarray:
    """Where each row starts, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def rows(part: zarr.Group, field: dict[str, Any]) -> Iterator[Any]:
    """The values of one field in every row: an array, or arrays by name."""
    name, kind = field["name"], field["kind"]

    def read(path: str) -> np.ndarray:
        return np.asarray(part[path][:])

    def cut(values: np.ndarray, starts: np.ndarray) -> list[np.ndarray]:
        return [values[start:stop] for start, stop in pairwise(starts)]

    if kind in ("ragged_text", "ragged_tokens"):
        yield from cut(read(f"{name}/values"), bounds(read(f"{name}/lengths")))
    elif kind == "tree":
        starts = bounds(read(f"{name}/lengths"))
        for values, parents in zip(
            *(cut(read(f"{name}/{key}"), starts) for key in ("values", "parents")), strict=True
        ):
            yield {"values": values, "parents": parents}
    elif kind == "teacher_signal":
        starts = bounds(read(f"{field['along']}/lengths"))
        arrays = {array["name"]: (read(f"{name}/{array['name']}"), array["most"]) for array in field["arrays"]}
        if any(most for _, most in arrays.values()):
            arrays["kept/lengths"] = (read(f"{name}/kept/lengths"), None)
            kept = bounds(arrays["kept/lengths"][0])[starts]
        columns = {key: cut(values, kept if most else starts) for key, (values, most) in arrays.items()}
        for row in range(len(starts) - 1):
            yield {key: column[row] for key, column in columns.items()}
    elif field.get("along", "row") == "row":
        yield from read(name)
    else:
        yield from cut(read(name), bounds(read(f"{field['along']}/lengths")))


def check(found: Any, expected: Any) -> None:
    """Equal to the bit."""
    if isinstance(expected, dict):
        assert set(found) == set(expected), (set(found), set(expected))
        for key, values in expected.items():
            check(found[key], values)
    elif isinstance(found, str):
        assert found.encode() == expected.tobytes()
    else:
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert found.tobytes() == expected.tobytes()


tars, arrays = map(Path, sys.argv[1:])
fields = json.loads((tars / "manifest.json").read_text(encoding="utf-8"))["head"]["schema"]["fields"]
numbers = sorted(path.name for path in (arrays / "parts").iterdir() if path.is_dir())
pattern = f"parts/{{{numbers[0]}..{numbers[-1]}}}/rows.tar"
samples = iter(webdataset.WebDataset(f"{tars}/{pattern}", shardshuffle=False).decode())
group = zarr.open_group(arrays, mode="r")
keys = set()
for number in numbers:
    for row in zip(*(rows(group[f"parts/{number}"], field) for field in fields), strict=True):
        sample = next(samples)
        keys.add(sample["__key__"])
        for field, expected in zip(fields, row, strict=True):
            # Stock readers make names small.
            name = field["name"].replace("/", ".").lower() + SUFFIX.get(field["kind"], ".npy")
            check(sample.pop(name), expected)
        assert all(name.startswith("__") for name in sample), sample.keys()
assert next(samples, None) is None
print(len(keys))
