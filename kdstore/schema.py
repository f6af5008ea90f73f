"""What a row is made of: field kinds, examples, rows, and columnar blocks of rows.

A field is kept as one or more flat arrays. Every array lies along one *axis*. The root axis is ``row``; a
ragged field adds an axis of its own name, whose extent in each row is given by its ``lengths`` array. So
``labels/values`` lies along the axis ``labels``, and the teacher's signal, one entry per label token, lies
along ``labels`` too. What a signal keeps several of per token, a different number for each, lies along
``teacher/kept``, whose lengths lie along ``labels``.

Shape letters, here and in every file of the project::

    N  rows                L  label tokens, flat over rows     V  vocabulary
    B  rows of a batch     S  input tokens, flat over rows     K  stored candidates per label token
    T  padded length       D  embedding width                  X  values of any ragged field
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from kdstore.errors import CorruptStoreError

Array = NDArray[Any]
Arrays = dict[str, Array]
Record = Mapping[str, Any]
"""A raw row as a source yields it: the JSON object of one line."""
Row = Mapping[str, Any]
"""One encoded row: a value per field name, of the type that the field's ``pack`` expects."""

ROW_AXIS = "row"

# Names become directory names, so nothing that could leave the store or hide in it is allowed.
Name = Annotated[str, StringConstraints(pattern=r"^\w[\w.-]*(/\w[\w.-]*){0,2}$", max_length=120)]
Dtype = Literal["uint8", "uint16", "uint32", "int8", "int16", "int32", "int64", "float16", "float32"]


@dataclass(frozen=True, slots=True)
class Example:
    """One sample as its task understands it, before any token exists.

    ``group`` names what must stay on one side of a train/validation split; ``texts`` are kept as text columns.
    ``capture`` is what an imported row says of its teacher, as JSON.
    """

    id: str
    prompt: str
    target: str
    group: str
    texts: Mapping[str, str]
    capture: str = "{}"


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """One stored array: its path in a part, dtype, axis, and trailing shape."""

    path: str
    dtype: str
    axis: str
    shape: tuple[int, ...] = ()


class FieldKind(BaseModel, ABC):
    """Base of the field kinds: a named column and how its values become flat arrays."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: Name

    @abstractmethod
    def specs(self) -> tuple[ArraySpec, ...]:
        """The arrays that hold this field."""

    @abstractmethod
    def pack(self, values: Sequence[Any]) -> Arrays:
        """Turn the values of N rows into the field's arrays, by path."""

    @abstractmethod
    def unpack(self, row: Arrays) -> Any:
        """The Python value of the only row in ``row``; the inverse of :meth:`pack` for one value."""


class Scalar(FieldKind):
    """A number per row, or per token of the ragged axis ``along``."""

    kind: Literal["scalar"] = "scalar"
    dtype: Dtype
    along: Name = ROW_AXIS

    def specs(self) -> tuple[ArraySpec, ...]:
        """One array [N] or [X]."""
        return (ArraySpec(self.name, self.dtype, self.along),)

    def pack(self, values: Sequence[Any]) -> Arrays:
        """``values``: N numbers, or N arrays along ``along``."""
        if self.along == ROW_AXIS:
            return {self.name: np.asarray(values, self.dtype)}
        return {self.name: _flat(values, self.dtype)}

    def unpack(self, row: Arrays) -> Any:
        """A number, or the array along ``along``."""
        return row[self.name][0].item() if self.along == ROW_AXIS else row[self.name]


class Vector(FieldKind):
    """A vector of fixed width per row."""

    kind: Literal["vector"] = "vector"
    dtype: Dtype
    width: int = Field(gt=0, le=1 << 20)

    def specs(self) -> tuple[ArraySpec, ...]:
        """One array [N, D]."""
        return (ArraySpec(self.name, self.dtype, ROW_AXIS, (self.width,)),)

    def pack(self, values: Sequence[Any]) -> Arrays:
        """``values``: N vectors of the field's width."""
        return {self.name: np.asarray(values, self.dtype).reshape(len(values), self.width)}

    def unpack(self, row: Arrays) -> Any:
        """The vector [D]."""
        return row[self.name][0]


class MultiHot(Vector):
    """A set of labels per row, as a 0/1 vector [D]."""

    kind: Literal["multi_hot"] = "multi_hot"  # type: ignore[assignment]
    dtype: Dtype = "uint8"


class RaggedTokens(FieldKind):
    """A sequence of token ids per row."""

    kind: Literal["ragged_tokens"] = "ragged_tokens"
    dtype: Dtype

    def specs(self) -> tuple[ArraySpec, ...]:
        """``values`` [X] and ``lengths`` [N]."""
        return _ragged(self.name, self.dtype)

    def pack(self, values: Sequence[Any]) -> Arrays:
        """``values``: N sequences of ids."""
        return {f"{self.name}/values": _flat(values, self.dtype), f"{self.name}/lengths": _lengths(values)}

    def unpack(self, row: Arrays) -> Any:
        """The ids of the row [X]."""
        return row[f"{self.name}/values"]


class RaggedText(FieldKind):
    """A UTF-8 string per row."""

    kind: Literal["ragged_text"] = "ragged_text"

    def specs(self) -> tuple[ArraySpec, ...]:
        """``values`` [X], the bytes, and ``lengths`` [N], in bytes."""
        return _ragged(self.name, "uint8")

    def pack(self, values: Sequence[Any]) -> Arrays:
        """``values``: N strings."""
        chunks = [np.frombuffer(value.encode(), np.uint8) for value in values]
        return {f"{self.name}/values": _flat(chunks, "uint8"), f"{self.name}/lengths": _lengths(chunks)}

    def unpack(self, row: Arrays) -> str:
        """The string; raises `CorruptStoreError` when it is not UTF-8."""
        try:
            return row[f"{self.name}/values"].tobytes().decode()
        except UnicodeDecodeError as error:
            raise CorruptStoreError(f"Expected UTF-8 text in {self.name}. Got: {error}.") from None


_GUESSED_ENTRIES = 64
KEPT = "kept"
"""The axis of a signal's ragged arrays, below the signal's name."""


class SignalArray(BaseModel):
    """One array of a codec: its name under the signal, dtype, and shape per entry.

    There is one entry per label token; or, where ``most`` is given, from 0 to ``most`` of them, as many as
    ``kept/lengths`` says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: Name
    dtype: Dtype
    shape: Annotated[tuple[Annotated[int, Field(gt=0, le=1 << 20)], ...], Field(max_length=3)] = ()
    most: Annotated[int, Field(gt=0, lt=1 << 16)] | None = None

    @property
    def bytes(self) -> int:
        """Bytes per label token; of a ragged array a generous guess, since few tokens come near the most."""
        return np.dtype(self.dtype).itemsize * math.prod(self.shape) * min(self.most or 1, _GUESSED_ENTRIES)


class TeacherSignal(FieldKind):
    """What a codec keeps of the teacher's output, for every token of ``along``."""

    kind: Literal["teacher_signal"] = "teacher_signal"
    along: Name = "labels"
    arrays: tuple[SignalArray, ...]

    def specs(self) -> tuple[ArraySpec, ...]:
        """An array [L, ...] for each of the codec's; ragged ones [X, ...], with ``kept/lengths`` [L]."""
        axis = f"{self.name}/{KEPT}"
        specs = [
            ArraySpec(f"{self.name}/{a.name}", a.dtype, axis if a.most else self.along, a.shape) for a in self.arrays
        ]
        if any(a.most for a in self.arrays):
            specs.append(ArraySpec(f"{axis}/lengths", "uint16", self.along))
        return tuple(specs)

    def pack(self, values: Sequence[Any]) -> Arrays:
        """``values``: N mappings from array names, as `Codec.encode` has them, to the row's arrays."""
        return {
            spec.path: _flat(
                [value[spec.path.removeprefix(f"{self.name}/")] for value in values], spec.dtype, spec.shape
            )
            for spec in self.specs()
        }

    def unpack(self, row: Arrays) -> Any:
        """Mapping from array names to the row's arrays; the inverse of `pack`."""
        return {spec.path.removeprefix(f"{self.name}/"): row[spec.path] for spec in self.specs()}

    def split(self, arrays: Arrays, lengths: Sequence[int]) -> list[Arrays]:
        """Cut the codec's arrays for consecutive rows into those of each, given the rows' label tokens."""
        tokens = kept = np.cumsum([0, *lengths])
        if f"{KEPT}/lengths" in arrays:
            kept = np.cumsum([0, *arrays[f"{KEPT}/lengths"]])[tokens]
        ragged = {array.name for array in self.arrays if array.most}
        bounds = {name: kept if name in ragged else tokens for name in arrays}
        return [
            {name: array[bounds[name][i] : bounds[name][i + 1]] for name, array in arrays.items()}
            for i in range(len(lengths))
        ]


class Tree(FieldKind):
    """A rooted tree of tokens per row: ``values`` are node ids, ``parents`` indices into the row (-1: root)."""

    kind: Literal["tree"] = "tree"
    dtype: Dtype = "int32"

    def specs(self) -> tuple[ArraySpec, ...]:
        """``values`` [X], ``parents`` [X] and ``lengths`` [N]."""
        values, lengths = _ragged(self.name, self.dtype)
        return values, ArraySpec(f"{self.name}/parents", "int32", self.name), lengths

    def pack(self, values: Sequence[Any]) -> Arrays:
        """``values``: N pairs (node ids, parents)."""
        nodes, parents = [v[0] for v in values], [v[1] for v in values]
        return {
            f"{self.name}/values": _flat(nodes, self.dtype),
            f"{self.name}/parents": _flat(parents, "int32"),
            f"{self.name}/lengths": _lengths(nodes),
        }

    def unpack(self, row: Arrays) -> Any:
        """The pair (node ids, parents)."""
        return row[f"{self.name}/values"], row[f"{self.name}/parents"]


AnyField = Annotated[
    Scalar | Vector | MultiHot | RaggedTokens | RaggedText | TeacherSignal | Tree, Field(discriminator="kind")
]


class Schema(BaseModel):
    """The fields of a store's rows, in order."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    fields: tuple[AnyField, ...] = Field(max_length=256)

    @model_validator(mode="after")
    def _check_names(self) -> "Schema":
        names = [field.name for field in self.fields]
        if len(set(names)) < len(names) or ROW_AXIS in names:
            raise ValueError(f"field names must be unique and none of them {ROW_AXIS!r}")
        specs = self.specs()
        for axis in self.axes()[1:]:
            if f"{axis}/lengths" not in specs:
                raise ValueError(f"nothing gives the lengths along {axis!r}")
            if self.parent(axis) != ROW_AXIS and self.parent(self.parent(axis)) != ROW_AXIS:
                raise ValueError(f"the axis {axis!r} is nested too deep")
        return self

    def specs(self) -> dict[str, ArraySpec]:
        """Every array of a part, by path."""
        return {spec.path: spec for field in self.fields for spec in field.specs()}

    def axes(self) -> list[str]:
        """The axes that arrays lie along, ``row`` first."""
        return list(dict.fromkeys([ROW_AXIS, *(spec.axis for spec in self.specs().values())]))

    def parent(self, axis: str) -> str:
        """The axis along which the lengths of ``axis`` lie; ``row`` where they belong to another schema's fields."""
        lengths = self.specs().get(f"{axis}/lengths")
        return lengths.axis if lengths else ROW_AXIS

    def columns(self, names: Iterable[str]) -> dict[str, ArraySpec]:
        """The arrays of the named fields, and the lengths of all axes that these lie along, by path."""
        specs, wanted = self.specs(), self.subset(names)
        found = wanted.specs()
        for axis in wanted.axes():
            while axis != ROW_AXIS:
                found[f"{axis}/lengths"] = specs[f"{axis}/lengths"]
                axis = self.parent(axis)
        return found

    def pack(self, rows: Sequence[Row]) -> "Block":
        """Turn encoded rows into one columnar block."""
        arrays: Arrays = {}
        for field in self.fields:
            arrays |= field.pack([row[field.name] for row in rows])
        return Block(self, len(rows), arrays)

    def subset(self, names: Iterable[str]) -> "Schema":
        """The schema of only the named fields; the lengths that they lie along may belong to others."""
        keep = set(names)
        return self.model_copy(update={"fields": tuple(field for field in self.fields if field.name in keep)})


@dataclass(frozen=True)
class Block:
    """A run of whole rows as flat arrays, by path; the unit of reading and shuffling."""

    schema: Schema
    rows: int
    arrays: Arrays

    _empty: ClassVar[NDArray[np.int64]] = np.zeros(1, np.int64)

    def offsets(self, axis: str) -> NDArray[np.int64]:
        """Where each row starts along ``axis``, and where the last one ends [N + 1]."""
        if axis == ROW_AXIS:
            return np.arange(self.rows + 1, dtype=np.int64)
        ends = np.cumsum(self.arrays[f"{axis}/lengths"], dtype=np.int64)
        return np.concatenate([self._empty, ends])[self.offsets(self.schema.parent(axis))]

    def cut(self, first: int, stop: int) -> "Block":
        """Rows [first, stop)."""
        bounds = {axis: slice(*self.offsets(axis)[[first, stop]]) for axis in self.schema.axes()}
        arrays = {path: self.arrays[path][bounds[spec.axis]] for path, spec in self.schema.specs().items()}
        return Block(self.schema, stop - first, arrays)

    def row(self, index: int) -> dict[str, Any]:
        """The Python values of one row, by field name."""
        one = self.cut(index, index + 1).arrays
        return {field.name: field.unpack(one) for field in self.schema.fields}


def concatenate(blocks: Sequence[Block]) -> Block:
    """Join blocks of one schema, keeping the order of rows; at least one block."""
    schema = blocks[0].schema
    arrays = {path: np.concatenate([b.arrays[path] for b in blocks]) for path in blocks[0].arrays}
    return Block(schema, sum(b.rows for b in blocks), arrays)


def token_dtype(vocab_size: int) -> Dtype:
    """The smallest unsigned dtype that holds every id of a vocabulary."""
    return "uint16" if vocab_size <= 1 << 16 else "uint32"


def _ragged(name: str, dtype: str) -> tuple[ArraySpec, ArraySpec]:
    return ArraySpec(f"{name}/values", dtype, name), ArraySpec(f"{name}/lengths", "uint32", ROW_AXIS)


def _flat(values: Sequence[Any], dtype: str, shape: tuple[int, ...] = ()) -> Array:
    return np.concatenate([np.zeros((0, *shape), dtype), *(np.asarray(v, dtype) for v in values)])


def _lengths(values: Sequence[Any]) -> Array:
    return np.asarray([len(v) for v in values], np.uint32)
