"""Open a store and read blocks of rows from it, checking everything before it is used."""

from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import zarr

from kdstore.errors import CorruptStoreError
from kdstore.schema import ArraySpec, Block, Schema
from kdstore.store import layout
from kdstore.store.manifest import FileRecord, Head, Manifest, PartRef, read_manifest, sha256_file
from kdstore.store.writer import read_part_record
from kdstore.store.zarr_part import open_array, read_range

OPEN_PARTS = 8  # array handles and shard indexes are small, but not free


class Store:
    """A finished store, opened for reading.

    Parameters
    ----------
    root
        The store's directory.

    Raises
    ------
    StoreError
        ``root`` is not a finished store.
    CorruptStoreError
        The manifest is damaged.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self.manifest: Manifest = read_manifest(self.root)
        self.part = lru_cache(OPEN_PARTS)(self._open_part)

    @property
    def head(self) -> Head:
        """What was settled before the first part was written."""
        return self.manifest.head

    @property
    def schema(self) -> Schema:
        """The fields of a row."""
        return self.manifest.head.schema_

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.manifest.rows

    @property
    def tokenizer_path(self) -> Path:
        """Directory of the tokenizer that made the ids; checked against the manifest first.

        Raises
        ------
        CorruptStoreError
            A tokenizer file is missing or changed.
        """
        check_files(self.root, _below(self.manifest.shared_files, layout.TOKENIZER), checksums=True)
        return self.root / layout.TOKENIZER

    def blocks(self) -> list[tuple[int, int]]:
        """Every block of the store as (part, block), in the order they were written."""
        per_part = self.head.block_rows
        return [(p.index, b) for p in self.manifest.parts for b in range(-(-p.rows // per_part))]

    def block_rows(self, part: int, block: int) -> int:
        """Rows of one block, without opening its part."""
        size = self.head.block_rows
        return min(size, self.manifest.parts[part].rows - block * size)

    def scan(self, fields: Iterable[str] | None = None, limit: int | None = None) -> Iterator[Block]:
        """Yield all blocks in order, one in memory at a time; only ``fields`` where given, ``limit`` rows at most."""
        left = self.rows if limit is None else limit
        names = None if fields is None else list(fields)
        for part, block in self.blocks():
            if left <= 0:
                return
            result = self.part(part).read(block, block + 1, names)
            left -= result.rows
            yield result

    def _open_part(self, index: int) -> "Part":
        return Part(self.root, self.manifest.parts[index], self.schema)


class Part:
    """One part, opened after its files were checked to exist with the recorded sizes and metadata.

    Raises
    ------
    CorruptStoreError
        A file is missing, has another size, or metadata do not match.
    """

    def __init__(self, root: Path, ref: PartRef, schema: Schema) -> None:
        self.path = layout.part_path(root, ref.index)
        self.schema = schema
        self.record = read_part_record(self.path)
        if sha256_file(self.path / layout.PART_JSON) != ref.sha256:
            raise CorruptStoreError(
                f"Expected {self.path / layout.PART_JSON} to match the manifest's checksum. Got another content."
            )
        _check_offsets(self.path, self.record.block_offsets, schema, ref)
        check_files(self.path, self.record.files, checksums=False)
        check_files(self.path, _metadata_files(self.record.files), checksums=True)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.record.rows

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return len(self.record.block_offsets["row"]) - 1

    @cached_property
    def _arrays(self) -> dict[str, "zarr.Array[Any]"]:
        return {
            path: open_array(self.path, spec, self.record.extent(spec.axis))
            for path, spec in self.schema.specs().items()
        }

    def read(self, first: int, stop: int, fields: Iterable[str] | None = None) -> Block:
        """Blocks [first, stop) as one block of rows; only ``fields`` where given.

        Raises
        ------
        CorruptStoreError
            A chunk does not match its checksum, or lengths do not add up to the recorded offsets.
        """
        schema = self.schema if fields is None else self.schema.subset(fields)
        offsets = self.record.block_offsets
        arrays = {}
        for path, spec in _with_lengths(self.schema, schema).items():
            start, end = offsets[spec.axis][first], offsets[spec.axis][stop]
            arrays[path] = read_range(self._arrays[path], start, end, str(self.path / path))
        result = Block(schema, offsets["row"][stop] - offsets["row"][first], arrays)
        for axis in schema.axes():
            if result.offsets(axis)[-1] != offsets[axis][stop] - offsets[axis][first]:
                raise CorruptStoreError(
                    f"Expected the lengths along {axis!r} in {self.path} to sum to "
                    f"{offsets[axis][stop] - offsets[axis][first]:,}. Got {result.offsets(axis)[-1]:,}."
                )
        return result


def check_files(root: Path, files: dict[str, FileRecord], *, checksums: bool) -> None:
    """Check that every file exists with its recorded size, and its checksum when asked.

    Raises
    ------
    CorruptStoreError
        The first file that does not match. (Zarr itself reads a missing shard as zeros.)
    """
    for name, record in files.items():
        path = root / name
        if not path.is_file() or path.is_symlink():
            raise CorruptStoreError(
                f"Expected the file {path} of {record.bytes:,} bytes. Got none. Build the store again."
            )
        size = path.stat().st_size
        if size != record.bytes:
            raise CorruptStoreError(
                f"Expected {record.bytes:,} bytes in {path}. Got {size:,}. Build the store again."
            )
        if checksums and sha256_file(path) != record.sha256:
            raise CorruptStoreError(
                f"Expected {path} to match its recorded checksum. Got another content. Build the store again."
            )


def _metadata_files(files: dict[str, FileRecord]) -> dict[str, FileRecord]:
    return {path: record for path, record in files.items() if path.endswith("zarr.json")}


def _below(files: dict[str, FileRecord], prefix: str) -> dict[str, FileRecord]:
    return {path: record for path, record in files.items() if path.startswith(f"{prefix}/")}


def _with_lengths(whole: Schema, wanted: Schema) -> dict[str, ArraySpec]:
    """Arrays of the wanted fields, and the lengths of the axes they lie along."""
    specs = whole.specs()
    needed = [f"{axis}/lengths" for axis in wanted.axes() if axis != "row"]
    return {**wanted.specs(), **{path: specs[path] for path in needed}}


def _check_offsets(path: Path, offsets: dict[str, list[int]], schema: Schema, ref: PartRef) -> None:
    counts = {len(starts) for starts in offsets.values()}
    ordered = all(starts == sorted(starts) and starts[:1] == [0] for starts in offsets.values())
    if set(offsets) != set(schema.axes()) or len(counts) != 1 or not ordered or offsets["row"][-1] != ref.rows:
        raise CorruptStoreError(
            f"Expected ascending block offsets from 0 for the axes {schema.axes()} ending at {ref.rows} rows in "
            f"{path / layout.PART_JSON}. Got others."
        )
