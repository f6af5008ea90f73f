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

ZSTD_LEVEL = 5  # 9 saves 1 % on token ids and log-probs at half the speed
_KNOWN_CODECS = {"sharding_indexed", "bytes", "zstd", "crc32c"}
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
        values = block.arrays[path]
        chunk = chunk_length(spec, block_offsets[spec.axis])
        array = root.create_array(
            path,
            shape=values.shape,
            dtype=values.dtype,
            chunks=(chunk, *spec.shape),
            # One shard for the whole axis: one file per array.
            shards=(chunk * max(1, math.ceil(len(values) / chunk)), *spec.shape),
            compressors=[ZstdCodec(level=ZSTD_LEVEL, checksum=True)],
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
    return max(1, 1 << int(math.log2(half_block))) if half_block >= 1 else 1


def open_array(directory: Path, spec: ArraySpec, extent: int) -> "zarr.Array[Any]":
    """Open one array after checking that its metadata says what schema and part record say.

    Raises
    ------
    CorruptStoreError
        Another shape, dtype or codec than the store's own.
    """
    check_metadata(directory / spec.path / "zarr.json", spec, extent)
    with zarr.config.set(_ZARRS):
        return zarr.open_array(directory / spec.path, mode="r", zarr_format=3)


def check_metadata(path: Path, spec: ArraySpec, extent: int) -> None:
    """Check an array's ``zarr.json`` before zarr acts on it; nothing in it is trusted.

    Raises
    ------
    CorruptStoreError
        Another shape, dtype or codec than the store's own.
    """
    try:
        metadata = json.loads(read_bounded(path, 1 << 20))
        found = (tuple(metadata["shape"]), metadata["data_type"], metadata["node_type"])
        codecs = set(_codec_names(metadata["codecs"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptStoreError(f"Expected array metadata in {path}. Got {error!r}.") from None
    expected = ((extent, *spec.shape), spec.dtype, "array")
    if found != expected or not codecs <= _KNOWN_CODECS:
        raise CorruptStoreError(
            f"Expected shape, dtype and kind {expected} with codecs among {sorted(_KNOWN_CODECS)} in {path}. "
            f"Got {found} with {sorted(codecs)}."
        )


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


def _codec_names(codecs: list[dict[str, Any]]) -> list[str]:
    names = []
    for codec in codecs:
        names.append(codec["name"])
        inner = codec.get("configuration", {})
        names += _codec_names(inner.get("codecs", []) + inner.get("index_codecs", []))
    return names
