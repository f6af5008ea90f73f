"""Zarr v3 arrays of one shard, so one file, each: written by zarr-python, read by `kdstore.store.shard`."""

import asyncio
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec
from zarr.core.sync import sync

from kdstore.errors import CorruptStoreError
from kdstore.schema import ROW_AXIS, Array, ArraySpec, Block
from kdstore.store.files import read_bounded
from kdstore.store.shard import Shard

# Level 16 takes a tenth off quantised coefficients, at 0.02 ms per token; full logits would wait minutes for it.
_LEVEL, _FAST_LEVEL, _WIDE_ENTRY = 16, 5, 4096


def write_arrays(directory: Path, block: Block, block_offsets: Mapping[str, list[int]]) -> None:
    """Write every array of ``block`` below ``directory``, which becomes a Zarr group.

    zarr-python's own pipeline is used: it writes the chunks of a shard in a fixed order, so that equal rows
    give equal bytes.
    """
    with writing():
        root = zarr.create_group(directory, zarr_format=3)
        for path, spec in block.schema.specs().items():
            for depth in range(1, path.count("/") + 1):
                root.require_group("/".join(path.split("/")[:depth]))
            write_array(root, path, block.arrays[path], chunk_length(spec, block_offsets[spec.axis]))


@contextmanager
def writing() -> Iterator[None]:
    """Write with zarr: when the block fails, or a signal ends it, zarr's own threads are waited for.

    They would go on in a directory that is being removed, and make it again.
    """
    try:
        yield
    except BaseException:
        sync(_all_else())
        raise


async def _all_else() -> None:
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)


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


def open_array(directory: Path, spec: ArraySpec, extent: int, sums: bytes | None = None) -> Shard:
    """Open one array after checking that its metadata says what schema and part record say; ``sums``: see `Shard`.

    Raises
    ------
    CorruptStoreError
        It is not the array that the schema and the part record ask for.
    """
    chunk = check_metadata(directory / spec.path / "zarr.json", spec, extent)
    return Shard(directory / shard_file(spec), spec, extent, chunk, sums)


def check_metadata(path: Path, spec: ArraySpec, extent: int) -> int:
    """Check an array's ``zarr.json``, where only chunk length and zstd level are free; the chunk length.

    Raises
    ------
    CorruptStoreError
        It is not the document that the schema and the part record ask for.
    """
    chunk, good = 0, False
    with suppress(ValueError, KeyError, IndexError, TypeError, OverflowError, RecursionError, FileNotFoundError):
        found = json.loads(read_bounded(path, 1 << 20), object_pairs_hook=_object)
        sharding = found["codecs"][0]["configuration"]
        chunk, shard = sharding["chunk_shape"][0], found["chunk_grid"]["configuration"]["chunk_shape"][0]
        level = sharding["codecs"][1]["configuration"]["level"]
        integers = all(type(number) is int for number in (chunk, shard, level))
        good = integers and chunk > 0 and shard == chunk * max(1, math.ceil(extent / chunk))
        # As text, in which 1, 1.0 and true differ.
        texts = [json.dumps(one, sort_keys=True) for one in (found, _metadata(spec, extent, chunk, shard, level))]
        good = good and texts[0] == texts[1]
    if not good:
        raise CorruptStoreError(
            f"Expected {path} to describe an array of shape {(extent, *spec.shape)} and dtype {spec.dtype} in one "
            "shard of zstd chunks with checksums. Got another description. Mend the store with `kdstore repair`."
        )
    return chunk


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a key occurs twice")
    return found


def array_files(spec: ArraySpec, extent: int) -> set[str]:
    """Paths in a part of an array's metadata and, unless it is empty, of its shard."""
    return {f"{spec.path}/zarr.json"} | ({shard_file(spec)} if extent else set())


def shard_file(spec: ArraySpec) -> str:
    """Path in a part of an array's shard."""
    return "/".join([spec.path, "c", "0", *("0" for _ in spec.shape)])


def _metadata(spec: ArraySpec, extent: int, chunk: int, shard: int, level: int) -> dict[str, Any]:
    """The ``zarr.json`` that `write_arrays` gives an array."""
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    plain = little if np.dtype(spec.dtype).itemsize > 1 else {"name": "bytes"}
    sharding = {
        "chunk_shape": [chunk, *spec.shape],
        "codecs": [plain, {"name": "zstd", "configuration": {"level": level, "checksum": True}}],
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
        "fill_value": np.zeros((), spec.dtype).item(),
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "attributes": {},
        "storage_transformers": [],
    }
