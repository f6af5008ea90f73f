"""A part as a tar file that the webdataset library reads with its own decoders: one sample per row.

A sample has a file for every field: ``.txt`` for text, ``.npy`` for what is one array, ``.npz`` for what is several
by name. Lengths of rows are not kept: the size of a file says them.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import TypeVar

import numpy as np

from kdstore.errors import CapabilityError, CorruptStoreError
from kdstore.schema import (
    ROW_AXIS,
    Array,
    Arrays,
    ArraySpec,
    Block,
    FieldKind,
    RaggedText,
    RaggedTokens,
    Schema,
    TeacherSignal,
    Tree,
)
from kdstore.store.containers import CONTAINERS, Container, _npy, _tar
from kdstore.store.manifest import PartRecord, TarIndex

ROWS = "rows.tar"
_KEY_BYTES = 24  # of the longest key and the dot behind it
_HIDDEN = "__"  # stock decoders leave alone what starts so

S = TypeVar("S")
T = TypeVar("T")


@CONTAINERS.register("webdataset")
class WebDatasetPart(Container):
    """All fields of a row together: whole rows are read at once, or streamed by tools that know nothing of stores."""

    def __init__(self, directory: Path, schema: Schema, record: PartRecord) -> None:
        super().__init__(directory, schema, record)
        self._path, self._members, self._index = directory / ROWS, _members(schema), _index(record)
        end = self._bytes(self._index.offsets[-1], record.files[ROWS].bytes)
        if end != _tar.END:
            raise CorruptStoreError(
                f"Expected {len(_tar.END):,} zeros at the end of {self._path}. Got something else. "
                "Mend the store with `kdstore repair`."
            )

    @staticmethod
    def check(schema: Schema) -> None:
        """See `Container.check`: names must differ, for tools that ignore case and read '/' as '.'."""
        taken: dict[str, str] = {}
        for member in _members(schema):
            name, suffix = member.field, member.suffix
            other = taken.setdefault(suffix.lower(), name)
            if other != name:
                raise CapabilityError(
                    f"Expected fields that have names of their own in webdataset parts. Got {other!r} and {name!r}, "
                    f"both {suffix}. Rename one, or use --container zarr."
                )
            if suffix.startswith(_HIDDEN) or len(suffix.encode()) > _tar.LONGEST_NAME - _KEY_BYTES:
                raise CapabilityError(
                    f"Expected field names of at most {_tar.LONGEST_NAME - _KEY_BYTES - len('.npy')} bytes that do "
                    f"not start with {_HIDDEN} in webdataset parts. Got {name!r}. Rename it, or use --container zarr."
                )

    @staticmethod
    def write(directory: Path, index: int, block: Block, offsets: Mapping[str, list[int]]) -> TarIndex:
        """See `Container.write`."""
        members = _members(block.schema)
        bounds = {axis: block.offsets(axis) for axis in block.schema.axes()}
        starts, digests, field_bytes = [0], [], Counter({member.field: 0 for member in members})
        with (directory / ROWS).open("wb") as file:
            for first, stop in pairwise(offsets[ROW_AXIS]):
                digest = hashlib.sha256()
                for row, member in product(range(first, stop), members):
                    arrays = {spec.path: _row(block, spec, bounds, row) for spec in member.specs}
                    data = _tar.member(member.name(index, row), member.content(arrays))
                    field_bytes[member.field] += len(data)
                    digest.update(data)
                    file.write(data)
                starts.append(file.tell())
                digests.append(digest.hexdigest())
            file.write(_tar.END)
        return TarIndex(offsets=starts, sha256=digests, field_bytes=dict(field_bytes))

    @staticmethod
    def files(schema: Schema, record: PartRecord) -> set[str]:
        """The tar file; raises `CorruptStoreError` where the index in the record cannot be that of this file."""
        if ROWS in record.files:
            _check_index(schema, record)
        return {ROWS}

    @staticmethod
    def stored_bytes(record: PartRecord, schema: Schema) -> dict[str, int]:
        """Bytes of each field's members, tar headers and padding included."""
        return dict(_index(record).field_bytes)

    def read(self, wanted: Mapping[str, ArraySpec], first: int, stop: int, out: Arrays | None = None) -> Arrays:
        """See `Container.read`; only the bytes of these blocks are read, and only wanted arrays are decoded."""
        pieces = [self._read_block(wanted, block) for block in range(first, stop)]
        return {
            path: np.concatenate(
                [np.zeros((0, *spec.shape), spec.dtype), *(piece[path] for piece in pieces)],
                out=out[path] if out else None,
            )
            for path, spec in wanted.items()
        }

    def _read_block(self, wanted: Mapping[str, ArraySpec], block: int) -> Arrays:
        start, stop = self._index.offsets[block : block + 2]
        data = self._bytes(start, stop)
        if hashlib.sha256(data).hexdigest() != self._index.sha256[block]:
            raise CorruptStoreError(
                f"Expected block {block} of {self._path} to match its checksum. Got another content. "
                "Mend the store with `kdstore repair`."
            )
        extents = {axis: starts[block + 1] - starts[block] for axis, starts in self.offsets.items()}
        rows = range(*self.offsets[ROW_AXIS][block : block + 2])
        samples = _Samples(memoryview(data), self._path, self.index, rows, self._members, self.schema, extents)
        return {path: samples.array(path) for path in wanted}

    def _bytes(self, start: int, stop: int) -> bytes:
        try:
            with self._path.open("rb") as file:
                file.seek(start)
                return file.read(stop - start)
        except FileNotFoundError:
            raise CorruptStoreError(
                f"Expected the file {self._path}. Got none. Mend the store with `kdstore repair`."
            ) from None


@dataclass(frozen=True)
class _Member:
    """The file of one field in every sample.

    ``suffix`` is its name behind the row's key, ``specs`` are the arrays in it. ``counted``: the size of the file
    gives the lengths along the axis that the field adds.
    """

    field: str
    suffix: str
    specs: tuple[ArraySpec, ...]
    counted: bool

    def name(self, part: int, row: int) -> bytes:
        """Name in the tar file: a key that no other row of the store has, a dot, and the suffix."""
        return f"{part:05d}-{row:06d}.{self.suffix}".encode()

    @property
    def kind(self) -> str:
        """The last part of the suffix, by which decoders are chosen."""
        return self.suffix.rpartition(".")[2]

    def content(self, arrays: Arrays) -> bytes:
        """The file, given the row's arrays by path."""
        if self.kind == "npz":
            return _npy.npz({self.short(spec): arrays[spec.path] for spec in self.specs})
        (values,) = arrays.values()
        return values.tobytes() if self.kind == "txt" else _npy.npy(values)

    def short(self, spec: ArraySpec) -> str:
        """Name of an array in an ``.npz``."""
        return spec.path.removeprefix(f"{self.field}/")

    def opened(self, file: memoryview) -> "_Content":
        """A file's bytes, or the members of an ``.npz`` by the arrays' paths; raises ValueError."""
        if self.kind != "npz":
            return file
        found = _npy.npz_members(file, [self.short(spec) for spec in self.specs])
        return {spec.path: found[self.short(spec)] for spec in self.specs}

    def entries(self, content: "_Content") -> int:
        """Entries of a row along the axis that the field adds, as sizes say; raises ValueError."""
        spec = self.specs[0]
        if self.kind == "txt":
            return len(content)
        size = content[spec.path].size if isinstance(content, dict) else len(content)
        return _npy.npy_entries(size, spec.dtype, spec.shape)

    def body(self, content: "_Content", spec: ArraySpec, entries: int) -> memoryview:
        """The bytes of one array's values; raises ValueError where there are not so many entries of it."""
        shape = spec.shape if spec.axis == ROW_AXIS else (entries, *spec.shape)
        if isinstance(content, dict):
            content = content[spec.path].unpacked(_npy.npy_size(spec.dtype, shape))
        return content if self.kind == "txt" else _npy.npy_body(content, spec.dtype, shape)


_Content = memoryview | dict[str, _npy.Packed]


class _Samples:
    """The rows of one block, whose bytes have been read; arrays are decoded when they are asked for.

    Parameters
    ----------
    data
        The block's bytes.
    path, part, rows
        Where they lie: file, index of the part, rows in the part.
    members, schema
        What a sample holds.
    extents
        Values of the block along each axis, as the part's record says.

    Raises
    ------
    CorruptStoreError
        The members are not exactly those of these rows. Methods raise it where one has another content.
    """

    def __init__(
        self,
        data: memoryview,
        path: Path,
        part: int,
        rows: range,
        members: list[_Member],
        schema: Schema,
        extents: Mapping[str, int],
    ) -> None:
        self._path, self._part, self._rows = path, part, rows
        self._schema, self._extents = schema, extents
        self._members = {spec.path: member for member in members for spec in member.specs}
        self._counted = {member.field: member for member in members if member.counted}
        self._lengths: dict[str, list[int]] = {ROW_AXIS: [1] * len(rows)}
        names = (member.name(part, row) for row in rows for member in members)
        try:
            files = list(_tar.contents(data, names))
        except ValueError as error:
            raise CorruptStoreError(
                f"Expected rows {rows.start:,} to {rows.stop:,} in {path} as they were written. Got {error}. "
                "Mend the store with `kdstore repair`."
            ) from None
        self._files = {member.field: files[at :: len(members)] for at, member in enumerate(members)}
        self._contents: dict[str, list[_Content]] = {}

    def array(self, path: str) -> Array:
        """One array of the schema, for all rows."""
        spec = self._schema.specs()[path]
        if path not in self._members:  # the lengths that sizes of files say
            return np.asarray(self.lengths(path.removesuffix("/lengths")), spec.dtype)
        member, lengths = self._members[path], self.lengths(spec.axis)
        bodies = self._each(member, lambda row, content: member.body(content, spec, lengths[row]))
        # A copy in one piece: it may be written to, and lets go of the block's bytes.
        return np.frombuffer(bytearray().join(bodies), spec.dtype).reshape(sum(lengths), *spec.shape)

    def lengths(self, axis: str) -> list[int]:
        """Entries of every row along an axis; what the record says of their sum is checked before any is unpacked."""
        if axis not in self._lengths:
            found = self._entries(axis)
            if sum(found) != self._extents[axis]:
                raise CorruptStoreError(
                    f"Expected {self._extents[axis]:,} values along {axis!r} in rows {self._rows.start:,} to "
                    f"{self._rows.stop:,} of {self._path}. Got {sum(found):,}. Mend the store with `kdstore repair`."
                )
            self._lengths[axis] = found
        return self._lengths[axis]

    def _entries(self, axis: str) -> list[int]:
        if axis in self._counted:
            member = self._counted[axis]
            return self._each(member, lambda row, content: member.entries(content))
        starts = _starts(self.array(f"{axis}/lengths"))
        rows = _starts(self.lengths(self._schema.parent(axis)))
        return [int(entries) for entries in np.diff(starts[rows])]

    def _each(self, member: _Member, decode: Callable[[int, _Content], T]) -> list[T]:
        """What ``decode`` makes of each row's number and content."""
        if member.field not in self._contents:
            files = self._files[member.field]
            self._contents[member.field] = self._guarded(member, files, lambda _, file: member.opened(file))
        return self._guarded(member, self._contents[member.field], decode)

    def _guarded(self, member: _Member, contents: Sequence[S], decode: Callable[[int, S], T]) -> list[T]:
        found = []
        for row, content in enumerate(contents):
            try:
                found.append(decode(row, content))
            except ValueError as error:
                name = member.name(self._part, self._rows[row]).decode()
                raise CorruptStoreError(
                    f"Expected the member {name} of {self._path} as it was written. Got {error}. "
                    "Mend the store with `kdstore repair`."
                ) from None
        return found


def _starts(lengths: Array | list[int]) -> Array:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _members(schema: Schema) -> list[_Member]:
    """The files of every sample, in their order."""
    return [_member(field) for field in schema.fields]


def _member(field: FieldKind) -> _Member:
    counted = isinstance(field, (RaggedTokens, RaggedText, Tree))
    kept = tuple(spec for spec in field.specs() if not (counted and spec.path == f"{field.name}/lengths"))
    kind = "txt" if isinstance(field, RaggedText) else "npz" if isinstance(field, (TeacherSignal, Tree)) else "npy"
    return _Member(field.name, f"{field.name.replace('/', '.')}.{kind}", kept, counted)


def _row(block: Block, spec: ArraySpec, bounds: Mapping[str, Array], row: int) -> Array:
    """A row's values of one array; of those along ``row``, its only entry."""
    start, stop = bounds[spec.axis][[row, row + 1]]
    values = block.arrays[spec.path][start:stop]
    return values[0] if spec.axis == ROW_AXIS else values


def _index(record: PartRecord) -> TarIndex:
    if record.tar is None:
        raise CorruptStoreError(
            f"Expected an index of {ROWS} in the record of part {record.index}. Got none. "
            "Mend the store with `kdstore repair`."
        )
    return record.tar


def _check_index(schema: Schema, record: PartRecord) -> None:
    index, blocks = _index(record), len(record.block_offsets[ROW_AXIS]) - 1
    starts = index.offsets
    if (
        (len(starts), len(index.sha256)) != (blocks + 1, blocks)
        or starts[0] != 0
        or starts != sorted(starts)
        or starts[-1] + len(_tar.END) != record.files[ROWS].bytes
        or set(index.field_bytes) != {field.name for field in schema.fields}
        or sum(index.field_bytes.values()) != starts[-1]
    ):
        raise CorruptStoreError(
            f"Expected an index of {ROWS} with {blocks} ascending blocks and the bytes of every field in the record "
            f"of part {record.index}. Got another. Mend the store with `kdstore repair`."
        )
