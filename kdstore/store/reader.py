"""Open a store and read blocks of rows from it, checking everything before it is used."""

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdstore.errors import CorruptStoreError
from kdstore.schema import ROW_AXIS, Arrays, ArraySpec, Block, Schema, TeacherSignal
from kdstore.store import layout
from kdstore.store.containers import CONTAINERS
from kdstore.store.manifest import (
    FileRecord,
    Head,
    Manifest,
    PartRef,
    check_files,
    read_manifest,
    sha256_file,
)
from kdstore.store.part_record import check_record, read_part_record
from kdstore.store.shared import read_shared

if TYPE_CHECKING:
    from kdstore.codecs import Codec

_SHARED_WIDTH = 8192  # most values per id in a shared array: no hidden state is wider
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
        self._refs = {ref.index: ref for ref in self.manifest.parts}
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

    def codec(self) -> "Codec[Any] | None":
        """The codec that decodes the teacher's signal; None for a store of tokens.

        Raises
        ------
        CorruptStoreError
            The codec keeps other arrays than the schema has.
        UnknownNameError
            No such codec is installed.
        """
        from kdstore.codecs import build_codec  # imports torch, which opening a store must not

        record = self.head.codec
        if record is None:
            return None
        codec = build_codec(record.name, record.config, self.head.vocab_size, self.shared_arrays())
        signals = [field for field in self.schema.fields if isinstance(field, TeacherSignal)]
        if [signal.arrays for signal in signals] != [codec.arrays()]:
            raise CorruptStoreError(
                f"Expected the arrays of the codec {codec.name!r} in the schema of {self.root}. Got others. "
                "Build the store again."
            )
        return codec

    def shared_arrays(self) -> Arrays:
        """What the codec keeps once for the whole store, by name; nothing for a store of tokens.

        Raises
        ------
        CorruptStoreError
            An array is missing, changed, of another codec, or larger than any codec's.
        UnknownNameError
            No such codec is installed.
        """
        from kdstore.codecs import CODECS, MASK  # imports torch, which opening a store must not

        record = self.head.codec
        if record is None:
            return {}
        known = {*CODECS.get(record.name).shared_names, MASK}
        largest = max((math.prod(array.shape) for array in record.shared.values()), default=0)
        if not set(record.shared) <= known or largest > self.head.vocab_size * _SHARED_WIDTH:
            raise CorruptStoreError(
                f"Expected the shared arrays of the codec {record.name!r} in {self.root}. Got others. "
                "Build the store again."
            )
        check_files(self.root, _below(self.manifest.shared_files, layout.SHARED), checksums=True)
        return read_shared(self.root, record.shared)

    def blocks(self) -> list[tuple[int, int]]:
        """Every block of the store as (part, block), in the order they were written."""
        per_part = self.head.block_rows
        return [(p.index, b) for p in self.manifest.parts for b in range(-(-p.rows // per_part))]

    def block_rows(self, part: int, block: int) -> int:
        """Rows of one block, without opening its part."""
        size = self.head.block_rows
        return min(size, self._refs[part].rows - block * size)

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
        return Part(self.root, self._refs[index], self.head)


class Part:
    """One part, opened after its files were checked to exist with the recorded sizes and metadata.

    Raises
    ------
    CorruptStoreError
        A file is missing, has another size, or metadata do not match.
    """

    def __init__(self, root: Path, ref: PartRef, head: Head) -> None:
        self.path = layout.part_path(root, ref.index)
        self.schema = head.schema_
        self._vocabularies = vocabularies(head)
        self.record = read_part_record(self.path)
        if sha256_file(self.path / layout.PART_JSON) != ref.sha256:
            raise CorruptStoreError(
                f"Expected {self.path / layout.PART_JSON} to match the manifest's checksum. Got another content."
            )
        check_record(self.path, self.record, head)
        if (self.record.index, self.record.rows) != (ref.index, ref.rows):
            raise CorruptStoreError(
                f"Expected part {ref.index} with {ref.rows} rows in {self.path}. Got part {self.record.index} with "
                f"{self.record.rows} rows. Mend the store with `kdstore repair`."
            )
        check_files(self.path, self.record.files, checksums=False)
        self._container = CONTAINERS.get(head.container)(self.path, self.schema, self.record)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.record.rows

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return len(self.record.block_offsets["row"]) - 1

    def read(self, first: int, stop: int, fields: Iterable[str] | None = None) -> Block:
        """Blocks [first, stop) as one block of rows; only ``fields`` where given.

        Raises
        ------
        CorruptStoreError
            A chunk does not match its checksum, or lengths do not add up to the recorded offsets.
        """
        schema = self.schema if fields is None else self.schema.subset(fields)
        offsets = self.record.block_offsets
        arrays = self._container.read(_with_lengths(self.schema, schema), first, stop)
        # Before any offsets are made of them: those of a nested axis are looked up at its parent's.
        for axis in [axis for axis in self.schema.axes() if f"{axis}/lengths" in arrays]:
            lengths, expected = arrays[f"{axis}/lengths"], offsets[axis][stop] - offsets[axis][first]
            if lengths.ndim != 1 or lengths.dtype.kind != "u" or lengths.sum(dtype="uint64") != expected:
                raise CorruptStoreError(
                    f"Expected the lengths along {axis!r} in {self.path} to be counts that sum to {expected:,}. "
                    "Got others. Mend the store with `kdstore repair`."
                )
        for path, size in self._vocabularies.items():
            largest = arrays[path].max(initial=0) if path in arrays else 0
            if largest >= size:
                raise CorruptStoreError(f"Expected ids below {size} in {self.path / path}. Got {largest}.")
        return Block(schema, offsets["row"][stop] - offsets["row"][first], arrays)


def vocabularies(head: Head) -> dict[str, int]:
    """Number of possible ids of the arrays that hold ids."""
    return {
        "input_ids/values": head.tokenizer.vocab_size,
        "labels/values": head.tokenizer.vocab_size,
        "teacher/ids": head.vocab_size,
    }


def _below(files: dict[str, FileRecord], prefix: str) -> dict[str, FileRecord]:
    return {path: record for path, record in files.items() if path.startswith(f"{prefix}/")}


def _with_lengths(whole: Schema, wanted: Schema) -> dict[str, ArraySpec]:
    """Arrays of the wanted fields, and the lengths of the axes they lie along, and of the axes of those."""
    specs, needed = whole.specs(), dict(wanted.specs())
    for axis in wanted.axes():
        while axis != ROW_AXIS:
            needed[f"{axis}/lengths"] = specs[f"{axis}/lengths"]
            axis = whole.parent(axis)
    return needed
