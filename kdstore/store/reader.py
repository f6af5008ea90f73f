"""Open a store and read blocks of rows from it, checking everything before it is used."""

import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kdstore.errors import CorruptStoreError
from kdstore.schema import ROW_AXIS, Array, Arrays, ArraySpec, Block, Schema, TeacherSignal
from kdstore.store import layout
from kdstore.store.containers import CONTAINERS
from kdstore.store.files import FileRecord, check_files, sha256_file
from kdstore.store.manifest import Head, Manifest, PartRecord, PartRef, read_manifest
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
        self._open: OrderedDict[int, Part] = OrderedDict()
        self._most_open = OPEN_PARTS

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

    def part(self, index: int) -> "Part":
        """A part, opened; those used last stay open, see `keep_open`. Any number of threads may ask.

        Raises
        ------
        CorruptStoreError
            See `Part`.
        """
        # Single steps that threads cannot divide; at worst a part is opened twice.
        found = self._open.pop(index, None) or Part(self.root, self._refs[index], self.head)
        self._open[index] = found
        while len(self._open) > self._most_open:
            self._open.popitem(last=False)
        return found

    def keep_open(self, parts: int) -> None:
        """Let so many parts stay open, with their indexes in memory; `OPEN_PARTS` unless told."""
        self._most_open = max(parts, OPEN_PARTS)

    def block_index(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Part, block and number of rows of every block of the store, in the order they were written, int64 [M]."""
        rows = np.asarray([ref.rows for ref in self.manifest.parts], np.int64)
        size = self.head.block_rows
        blocks = -(-rows // size)
        part_M = np.repeat([ref.index for ref in self.manifest.parts], blocks)
        block_M = np.arange(blocks.sum()) - np.repeat(np.cumsum(blocks) - blocks, blocks)
        return part_M, block_M, np.minimum(size, np.repeat(rows, blocks) - block_M * size)

    def blocks(self) -> list[tuple[int, int]]:
        """Every block of the store as (part, block), in the order they were written."""
        part_M, block_M, _ = self.block_index()
        return list(zip(part_M.tolist(), block_M.tolist(), strict=True))

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


class Part:
    """One part, opened after its files were checked to exist with the recorded sizes and metadata.

    Raises
    ------
    CorruptStoreError
        A file is missing, has another size, or metadata do not match.
    """

    def __init__(self, root: Path, ref: PartRef, head: Head) -> None:
        self.path, self.rows = layout.part_path(root, ref.index), ref.rows
        self.schema, self._head, self._ref = head.schema_, head, ref
        self._vocabularies = vocabularies(head)
        record = self.record
        check_files(self.path, record.files, checksums=False)
        self._container = CONTAINERS.get(head.container)(self.path, self.schema, record)

    @property
    def index(self) -> int:
        """The part's number."""
        return self._ref.index

    @property
    def record(self) -> PartRecord:
        """The part's record, read and checked each time: it is not kept."""
        record = read_part_record(self.path)
        if sha256_file(self.path / layout.PART_JSON) != self._ref.sha256:
            raise CorruptStoreError(
                f"Expected {self.path / layout.PART_JSON} to match the manifest's checksum. Got another content."
            )
        check_record(self.path, record, self._head)
        if (record.index, record.rows) != (self._ref.index, self._ref.rows):
            raise CorruptStoreError(
                f"Expected part {self._ref.index} with {self._ref.rows} rows in {self.path}. Got part {record.index} "
                f"with {record.rows} rows. Mend the store with `kdstore repair`."
            )
        return record

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return len(self._container.offsets[ROW_AXIS]) - 1

    def extents(self, block: int) -> dict[str, int]:
        """Number of values of one block along every axis."""
        return {axis: starts[block + 1] - starts[block] for axis, starts in self._container.offsets.items()}

    def read(self, first: int, stop: int, fields: Iterable[str] | None = None) -> Block:
        """Blocks [first, stop) as one block of rows; only ``fields`` where given.

        Raises
        ------
        CorruptStoreError
            A chunk does not match its checksum, or lengths do not add up to the recorded offsets.
        """
        schema = self.schema if fields is None else self.schema.subset(fields)
        columns = self.schema.columns(field.name for field in schema.fields)
        starts = self._container.offsets[ROW_AXIS]
        return Block(schema, starts[stop] - starts[first], self.read_arrays(columns, first, stop))

    def read_arrays(
        self, columns: Mapping[str, ArraySpec], first: int, stop: int, out: Arrays | None = None
    ) -> Arrays:
        """Blocks [first, stop) of some arrays, see `Schema.columns`; written into ``out`` where it is given.

        Raises
        ------
        CorruptStoreError
            As for `read`; ``out`` may then hold anything.
        """
        arrays = self._container.read(columns, first, stop, out)
        # Before any offsets are made of them: those of a nested axis are looked up at its parent's.
        for axis, starts in self._container.offsets.items():
            lengths = arrays.get(f"{axis}/lengths")
            if lengths is not None and not _counts(lengths, starts[stop] - starts[first]):
                raise CorruptStoreError(
                    f"Expected the lengths along {axis!r} in {self.path} to be counts that sum to "
                    f"{starts[stop] - starts[first]:,}. Got others. Mend the store with `kdstore repair`."
                )
        for path, size in self._vocabularies.items():
            largest = arrays[path].max(initial=0) if path in arrays else 0
            if largest >= size:
                raise CorruptStoreError(f"Expected ids below {size} in {self.path / path}. Got {largest}.")
        return arrays


def vocabularies(head: Head) -> dict[str, int]:
    """Number of possible ids of the arrays that hold ids."""
    return {
        "input_ids/values": head.tokenizer.vocab_size,
        "labels/values": head.tokenizer.vocab_size,
        "teacher/ids": head.vocab_size,
    }


def _below(files: dict[str, FileRecord], prefix: str) -> dict[str, FileRecord]:
    return {path: record for path, record in files.items() if path.startswith(f"{prefix}/")}


def _counts(lengths: Array, total: int) -> bool:
    return lengths.ndim == 1 and lengths.dtype.kind == "u" and int(lengths.sum(dtype="uint64")) == total
