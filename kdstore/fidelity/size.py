"""How many bytes a signal takes on disk, found by writing it."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from kdstore.codecs import Codec
from kdstore.schema import RaggedTokens, Schema, TeacherSignal
from kdstore.store.writer import block_offsets
from kdstore.store.zarr_part import write_arrays


def signal_bytes_per_token(
    codec: Codec[Any], arrays: Mapping[str, Tensor], lengths: Sequence[int], block_rows: int, part_rows: int
) -> float:
    """Bytes of all files under ``teacher/`` per label token, in parts of ``part_rows`` rows like these.

    Chunks are written as a store writes them, and their files counted. Metadata, which a part has once however many
    rows it holds, are spread over a whole part.

    Parameters
    ----------
    codec, arrays
        The codec, and what it gave for all label tokens of some rows.
    lengths
        Label tokens of each row.
    block_rows, part_rows
        Rows per block and per part of the store to come.
    """
    signal = TeacherSignal(name="teacher", arrays=codec.arrays())
    schema = Schema(fields=(RaggedTokens(name="labels", dtype="uint16"), signal))
    rows = signal.split({name: values.cpu().numpy() for name, values in arrays.items()}, lengths)
    block = schema.pack([{"labels": [0] * n, "teacher": row} for n, row in zip(lengths, rows, strict=True)])
    with tempfile.TemporaryDirectory(prefix="kdstore-size-") as directory:
        write_arrays(Path(directory), block, {axis: block_offsets(block, axis, block_rows) for axis in schema.axes()})
        files = [path for path in (Path(directory) / "teacher").rglob("*") if path.is_file()]
        metadata = sum(path.stat().st_size for path in files if path.name == "zarr.json")
        chunks = sum(path.stat().st_size for path in files if path.name != "zarr.json")
    tokens = max(1, sum(lengths))
    return chunks / tokens + metadata / (tokens * max(1.0, part_rows / max(1, len(lengths))))
