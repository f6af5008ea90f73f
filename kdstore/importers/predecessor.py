"""Rows of the predecessor project: texts beside full logits, in either of its two shapes."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from kdstore.encode.tokenizer import truncate_target
from kdstore.errors import InputError, RowError
from kdstore.importers import IMPORTERS, Importer, Logits
from kdstore.importers._bounded import MAX_LOGITS, decode_text, decompress, finite
from kdstore.importers._files import JSON_LINES, files_of, json_records
from kdstore.schema import Example, Record
from kdstore.sources import Located, Rejected
from kdstore.validation import parse

RAW, RAW_SHAPE, RAW_DTYPE = "teacher_logits_compressed", "teacher_logits_shape", "teacher_logits_dtype"
QUANTISED = "compressed_logits"
PREDICTION = "teacher_prediction"
_KEPT = (RAW, RAW_SHAPE, RAW_DTYPE, QUANTISED)
DTYPES = {"f16": "<f2", "f32": "<f4"}
_MAX_HEADER = 1 << 16  # it goes into the manifest
_NUMBERS = {8: "u1", 16: "<f2", 32: "<f4"}

Number = Annotated[float, Field(allow_inf_nan=False)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class _Data(_Record):
    encoding: Literal["hex", "base64"]
    data: str
    original_size: int


class _Quantised(_Record):
    """``compressed_logits`` of a row; keys that say nothing of the numbers are ignored."""

    format: Literal["lz4"]
    bits: Literal[4, 8, 16, 32]
    shape: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=4)]
    scale: Number | None = None
    zero_point: Number | None = None
    packed: bool = False
    data_encoded: _Data

    @property
    def payload_bytes(self) -> int:
        """Bytes before compression, as shape and bits give them."""
        count = prod(self.shape)
        return (count + 1) // 2 if self.bits == 4 and self.packed else count * max(8, self.bits) // 8


@IMPORTERS.register("predecessor")
class Predecessor(Importer):
    """JSON Lines with the texts of a task, and logits that the teacher gave for the target, teacher-forced.

    First shape: ``teacher_logits_compressed``, base64 of an LZ4 frame of little-endian numbers [rows, V]. The project
    never said which numbers. ``teacher_logits_shape`` and ``teacher_logits_dtype`` (f16, f32), which our export
    writes, say it; without them the width is the vocabulary's, and the number format the only one that gives whole
    rows, enough of them, or exactly as many as there are labels.

    Second shape: ``compressed_logits``, whose numbers are float16 (16 bits), float32 (32), or unsigned integers q (4
    and 8) for the logits (q - zero_point) * scale. With 4 bits and ``packed`` two of them share a byte, the low half
    first. A line ``{"header": {...}}`` may open a file.

    Rows after the last label are padding and left out.
    """

    name: ClassVar[str] = "predecessor"
    sparse: ClassVar[bool] = False
    causal: ClassVar[bool] = False
    max_tokens: ClassVar[tuple[int, int]] = (512, 128)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        first = next(self.read(self.sources[0]), None)
        self.predicts = isinstance(first, Located) and PREDICTION in first.record

    def read(self, path: Path) -> Iterator[Located | Rejected]:
        """See `Importer`."""
        for file in files_of(path, JSON_LINES):
            for number, item in enumerate(json_records(file)):
                if number > 0 or isinstance(item, Rejected) or set(item.record) != {"header"}:
                    yield item

    def example(self, record: Record) -> Example:
        """See `Importer`."""
        example = self.task.example(record)
        capture = {key: record[key] for key in _KEPT if record.get(key) is not None}
        labels = truncate_target(self.tokenizer.encode([example])[1][0], self.limits)
        self.signal(capture, labels)
        texts = dict(example.texts)
        if self.predicts:
            prediction = record.get(PREDICTION, "")
            if not isinstance(prediction, str):
                raise RowError(
                    f"Expected text under {PREDICTION!r}. Got {type(prediction).__name__}. Correct the row."
                )
            texts[PREDICTION] = prediction
        return replace(example, texts=texts, capture=json.dumps(capture))

    def signal(self, capture: Mapping[str, Any], labels: Sequence[int]) -> Logits:
        """See `Importer`; [L, V]."""
        if (RAW in capture) == (QUANTISED in capture):
            raise RowError(
                f"Expected logits under {RAW} or {QUANTISED}. Got {'both' if capture else 'none'}. Drop the row."
            )
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found by `finite`
            rows_PV = self._raw(capture, len(labels)) if RAW in capture else self._quantised(capture[QUANTISED])
            scaled_PV = rows_PV * np.float32(self.settings.logit_scale)
        if len(rows_PV) < len(labels):
            raise RowError(
                f"Expected logits for {len(labels)} label tokens. Got {len(rows_PV)} rows. Use the tokenizer of the "
                f"capture, or cut longer targets as it did: --max-output-len {len(rows_PV)}."
            )
        return finite(scaled_PV[: len(labels)])

    def _quantised(self, value: object) -> Logits:
        if not isinstance(value, dict):
            raise RowError(f"Expected an object under {QUANTISED}. Got {type(value).__name__}. Correct the row.")
        record = parse(_Quantised, value, QUANTISED, RowError)
        self._check_shape(record.shape)
        if record.bits < 16 and (record.scale is None or record.zero_point is None):
            raise RowError(f"Expected scale and zero_point with {record.bits} bits. Got none. Drop the row.")
        data = decode_text(record.data_encoded.data, record.data_encoded.encoding)
        # Writers differ in whether this is the size before or after LZ4.
        if record.data_encoded.original_size not in (record.payload_bytes, len(data)):
            raise RowError(
                f"Expected original_size {record.payload_bytes:,}, for shape {record.shape} and {record.bits} bits, "
                f"or {len(data):,}, the size of the data. Got {record.data_encoded.original_size:,}. Drop the row."
            )
        payload = _exactly(decompress(data, record.payload_bytes), record.payload_bytes)
        if record.bits == 4 and record.packed:
            bytes_H = np.frombuffer(payload, np.uint8)
            numbers_N = np.stack([bytes_H & 15, bytes_H >> 4], axis=-1).ravel()[: prod(record.shape)]
        else:
            numbers_N = np.frombuffer(payload, _NUMBERS[max(8, record.bits)])
        logits_N = numbers_N.astype(np.float32)
        if record.bits < 16:
            assert record.scale is not None
            assert record.zero_point is not None
            logits_N = (logits_N - np.float32(record.zero_point)) * np.float32(record.scale)
        return logits_N.reshape(record.shape[-2:])

    def _raw(self, capture: Mapping[str, Any], labels: int) -> Logits:
        dtype = capture.get(RAW_DTYPE, self.settings.logit_dtype)
        if dtype is not None and dtype not in DTYPES:
            raise RowError(f"Expected {RAW_DTYPE} f16 or f32. Got {dtype!r:.40}. Correct the row.")
        most = 4 * MAX_LOGITS
        if (shape := capture.get(RAW_SHAPE)) is not None:
            if not isinstance(shape, list) or len(shape) < 2 or not all(type(n) is int and n > 0 for n in shape):
                raise RowError(f"Expected [rows, vocabulary] under {RAW_SHAPE}. Got {shape!r:.60}. Correct the row.")
            self._check_shape(shape)
            most = 4 * prod(shape)
        payload = decompress(decode_text(capture[RAW], "base64"), most)
        if dtype is None:
            dtype = self._infer_dtype(len(payload), shape[-2] if shape else labels)
        row_bytes = self.vocab_size * np.dtype(DTYPES[dtype]).itemsize
        _exactly(payload, row_bytes * (shape[-2] if shape else -(-len(payload) // row_bytes)))
        return np.frombuffer(payload, DTYPES[dtype]).astype(np.float32).reshape(-1, self.vocab_size)

    def _infer_dtype(self, size: int, labels: int) -> str:
        rows = {name: size / (self.vocab_size * np.dtype(dtype).itemsize) for name, dtype in DTYPES.items()}
        exact = [name for name, count in rows.items() if count == labels]
        enough = [name for name, count in rows.items() if count >= labels and count.is_integer()]
        if len(exact) != 1 and len(enough) != 1:
            raise RowError(
                f"Expected rows of {self.vocab_size:,} numbers for {labels} labels. Got {size:,} bytes, which is "
                f"{'both f16 and f32' if enough else 'neither f16 nor f32'}. Give --logit-dtype, or --vocab-size."
            )
        return (exact or enough)[0]

    def _check_shape(self, shape: list[int]) -> None:
        """Refuse other widths than the vocabulary, and more than fits into memory."""
        if shape[-1] != self.vocab_size or prod(shape[:-2]) != 1:
            raise RowError(
                f"Expected logits of shape [rows, {self.vocab_size}]. Got {shape}. If the teacher's vocabulary is "
                f"padded, give --vocab-size {shape[-1]}."
            )
        if prod(shape) > MAX_LOGITS:
            raise RowError(f"Expected at most {MAX_LOGITS:,} logits. Got a shape of {prod(shape):,}. Drop the row.")

    def _read_headers(self) -> tuple[dict[str, Any], ...]:
        found = []
        for file in (file for path in self.sources for file in files_of(path, JSON_LINES)):
            first = next(json_records(file), None)
            if isinstance(first, Located) and isinstance(first.record.get("header"), dict):
                found.append(first.record["header"])
                if (size := len(json.dumps(found[-1]))) > _MAX_HEADER:
                    raise InputError(
                        f"Expected a header of at most {_MAX_HEADER:,} characters in {file}. Got {size:,}. Cut it."
                    )
        return tuple({json.dumps(header, sort_keys=True): header for header in found}.values())


def _exactly(payload: bytes, size: int) -> bytes:
    if len(payload) != size:
        raise RowError(f"Expected {size:,} bytes of logits. Got {len(payload):,}. Drop the row.")
    return payload
