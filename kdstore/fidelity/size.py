"""How many bytes a signal takes on disk, found by writing it."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from kdstore.codecs import Codec
from kdstore.schema import RaggedTokens, Schema, TeacherSignal
from kdstore.store.containers import CONTAINERS
from kdstore.store.writer import block_offsets


@dataclass(frozen=True)
class Layout:
    """Rows per block and per part of the store to come, and its container: they settle what a token costs on disk."""

    block_rows: int
    part_rows: int
    container: str = "zarr"


def signal_bytes_per_token(
    codec: Codec[Any], arrays: Mapping[str, Tensor], lengths: Sequence[int], layout: Layout
) -> float:
    """Bytes under ``teacher/`` per label token, in parts of rows like these.

    They are written as a store writes them, and counted. Metadata, which a part has once however many rows it holds,
    are spread over a whole part.

    Parameters
    ----------
    codec, arrays
        The codec, and what it gave for all label tokens of some rows.
    lengths
        Label tokens of each row.
    layout
        Of the store to come.
    """
    signal = TeacherSignal(name="teacher", arrays=codec.arrays())
    schema = Schema(fields=(RaggedTokens(name="labels", dtype="uint16"), signal))
    rows = signal.split({name: values.cpu().numpy() for name, values in arrays.items()}, lengths)
    block = schema.pack([{"labels": [0] * n, "teacher": row} for n, row in zip(lengths, rows, strict=True)])
    offsets = {axis: block_offsets(block, axis, layout.block_rows) for axis in schema.axes()}
    tokens = max(1, sum(lengths))
    with tempfile.TemporaryDirectory(prefix="kdstore-size-") as directory:
        tar = CONTAINERS.get(layout.container).write(Path(directory), 0, block, offsets)
        if tar:
            return tar.field_bytes["teacher"] / tokens
        files = [path for path in (Path(directory) / "teacher").rglob("*") if path.is_file()]
        metadata = sum(path.stat().st_size for path in files if path.name == "zarr.json")
        chunks = sum(path.stat().st_size for path in files if path.name != "zarr.json")
    return chunks / tokens + metadata / (tokens * max(1.0, layout.part_rows / max(1, len(lengths))))
