"""Write and read the arrays of one part as Zarr v3 arrays: one shard, so one file, per array."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from kdstore.errors import CorruptStoreError
from kdstore.schema import ROW_AXIS, Array, ArraySpec, Block
from kdstore.store.manifest import read_bounded

# Level 16 takes a tenth off quantised coefficients, at 0.02 ms per token; full logits would wait minutes for it.
_LEVEL, _FAST_LEVEL, _WIDE_ENTRY = 16, 5, 4096
_ZARRS = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}


def write_arrays(directory: Path, block: Block, block_offsets: dict[str, list[int]]) -> None:
    """Write every array of ``block`` below ``directory``, which becomes a Zarr group.

    zarr-python's own pipeline is used: it writes the chunks of a shard in a fixed order, so that equal rows
    give equal bytes.
    """
    root = zarr.create_group(directory, zarr_format=3)
    for path, spec in block.schema.specs().items():
        for depth in range(1, path.count("/") + 1):
            root.require_group("/".join(path.split("/")[:depth]))
        write_array(root, path, block.arrays[path], chunk_length(spec, block_offsets[spec.axis]))


def write_array(group: zarr.Group, path: str, values: Array, chunk: int) -> None:
    """Write one array below ``group`` as one shard with ``chunk`` entries per chunk."""
    wide = values.dtype.itemsize * math.prod(values.shape[1:]) > _WIDE_ENTRY
    array = group.create_array(
        path,
        shape=values.shape,
        dtype=values.dtype,
        chunks=(chunk, *values.shape[1:]),
        # One shard for the whole axis: one file per array.
        shards=(chunk * max(1, math.ceil(len(values) / chunk)), *values.shape[1:]),
        compressors=[ZstdCodec(level=_FAST_LEVEL if wide else _LEVEL, checksum=True)],
        fill_value=0,
        # An array of fill values would otherwise write no file, and look like a missing one.
        config={"write_empty_chunks": True},
    )
    array[...] = values


def chunk_length(spec: ArraySpec, offsets: list[int]) -> int:
    """Values per chunk along the axis.

    Lengths and scalars of rows take one chunk per part. All else takes at most half of a typical block, so that
    reading one block reads less than twice its values.
    """
    extent, blocks = offsets[-1], max(1, len(offsets) - 1)
    if spec.axis == ROW_AXIS and not spec.shape:
        return max(1, extent)
    half_block = extent / blocks / 2
    return max(1, int(half_block))


def open_array(directory: Path, spec: ArraySpec, extent: int) -> "zarr.Array[Any]":
    """Open one array after checking that its metadata says what schema and part record say.

    Raises
    ------
    CorruptStoreError
        It is not the array that the schema and the part record ask for.
    """
    check_metadata(directory / spec.path / "zarr.json", spec, extent)
    with zarr.config.set(_ZARRS):
        return zarr.open_array(directory / spec.path, mode="r", zarr_format=3)


def check_metadata(path: Path, spec: ArraySpec, extent: int) -> None:
    """Check an array's ``zarr.json`` before zarr acts on it: only chunk length and zstd level are free.

    Raises
    ------
    CorruptStoreError
        It is not the document that the schema and the part record ask for.
    """
    try:
        found = json.loads(read_bounded(path, 1 << 20))
        sharding = found["codecs"][0]["configuration"]
        chunk, shard = sharding["chunk_shape"][0], found["chunk_grid"]["configuration"]["chunk_shape"][0]
        level = sharding["codecs"][1]["configuration"]["level"]
        expected = _metadata(spec, extent, chunk, shard, level)
        good = found == expected and 0 < chunk <= shard < extent + chunk + 1 and shard % chunk == 0 <= shard - extent
    except (ValueError, KeyError, IndexError, TypeError, ZeroDivisionError, RecursionError):
        good = False
    if not good:
        raise CorruptStoreError(
            f"Expected {path} to describe an array of shape {(extent, *spec.shape)} and dtype {spec.dtype} in one "
            "shard of zstd chunks with checksums. Got another description. Build the store again."
        )


def array_files(spec: ArraySpec, extent: int) -> set[str]:
    """Paths in a part of an array's metadata and, unless it is empty, of its shard."""
    shard = "/".join(["c", "0", *("0" for _ in spec.shape)])
    return {f"{spec.path}/zarr.json"} | ({f"{spec.path}/{shard}"} if extent else set())


def _metadata(spec: ArraySpec, extent: int, chunk: int, shard: int, level: int) -> dict[str, Any]:
    """The ``zarr.json`` that `write_arrays` gives an array."""
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    plain = little if np.dtype(spec.dtype).itemsize > 1 else {"name": "bytes"}
    sharding = {
        "chunk_shape": [chunk, *spec.shape],
        "codecs": [plain, {"name": "zstd", "configuration": {"level": int(level), "checksum": True}}],
        "index_codecs": [little, {"name": "crc32c"}],
        "index_location": "end",
    }
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [extent, *spec.shape],
        "data_type": spec.dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [shard, *spec.shape]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "attributes": {},
        "storage_transformers": [],
    }


def read_range(array: "zarr.Array[Any]", start: int, stop: int, where: str) -> Array:
    """Values [start, stop) along the axis, checksums verified.

    Raises
    ------
    CorruptStoreError
        A chunk cannot be decoded; ``where`` names the array.
    """
    try:
        return np.asarray(array[start:stop])
    except Exception as error:  # both pipelines raise bare RuntimeError, ValueError or OSError for bad chunks
        raise CorruptStoreError(
            f"Expected values {start:,} to {stop:,} of {where} to match their checksums. Got {error}."
        ) from None
