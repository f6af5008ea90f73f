"""Parquet files that DistillKit (arcee-ai) captured: bit-packed ids and coded log-probabilities."""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from torch import Tensor

from kdstore.errors import InputError, MismatchError, RowError, first_line
from kdstore.importers import IMPORTERS, Candidates, Importer
from kdstore.importers._bounded import decode_text
from kdstore.importers._candidates import check, ordered
from kdstore.importers._files import files_of
from kdstore.importers._monotone import CompressionConfig, decode_ids, decode_log_probs
from kdstore.schema import Example, Record
from kdstore.sources import Located, Rejected
from kdstore.validation import parse

_IDS, _LOG_PROBS, _PACKED = "input_ids", "compressed_logprobs", "bytepacked_indices"
_CONFIGS = ("compression_config.yaml", "compression_config.yml", "compression_config.json")
_MAX_CONFIG_BYTES = 64 << 10
_MAX_GROUP_VALUES = 64 << 20  # of a column, which is unpacked whole: 128 candidates at 100,000 positions fit
# Unpacked pages: a number in the dictionary, its index or the number again, levels; and the pages' headers.
_VALUE_BYTES, _PAGES_BYTES = 24, 64 << 10


@IMPORTERS.register("distillkit")
class DistillKit(Importer):
    """A directory of parquet files with their ``compression_config.yaml``, or single files beside one.

    A row is a sequence ``input_ids`` with the log-probabilities of the k likeliest next ids at each position; entry i
    belongs to the token at i + 1. So the first token is the input and all others are labels. A filled-up token at the
    end, which the capture adds, is left out. Columns of DistillKit's older format, which holds logits without what
    they must be normalised by, are refused.
    """

    name: ClassVar[str] = "distillkit"
    sparse: ClassVar[bool] = True
    causal: ClassVar[bool] = True
    max_tokens: ClassVar[tuple[int, int]] = (8192, 8192)

    def read(self, path: Path) -> Iterator[Located | Rejected]:
        """See `Importer`."""
        for file in files_of(path, (".parquet",)):
            yield from _rows(file, self.config)

    def example(self, record: Record) -> Example:
        """See `Importer`."""
        ids = record["input_ids"]
        positions = len(decode_text(record[_PACKED], "base64")) // self.config.id_bytes
        if positions not in (len(ids) - 1, len(ids)) or len(ids) < 2:
            raise RowError(f"Expected {len(ids) - 1} positions for {len(ids)} tokens. Got {positions}. Drop the row.")
        tokenizer = self.tokenizer.backend
        if max(ids) >= len(tokenizer):
            raise RowError(f"Expected ids below {len(tokenizer):,}. Got {max(ids)}. Use the capture's tokenizer.")
        if ids[-1] == tokenizer.pad_token_id != tokenizer.eos_token_id and len(ids) > 2:
            ids = ids[:-1]
        capture = {"input_ids": ids[:1], "labels": ids[1:], _LOG_PROBS: record[_LOG_PROBS], _PACKED: record[_PACKED]}
        self.signal(capture, ids[1:])
        identity = hashlib.sha256(json.dumps(record).encode()).hexdigest()[:16]
        prompt, target = tokenizer.decode(ids[:1]), tokenizer.decode(ids[1:])
        return Example(identity, prompt, target, identity, {}, json.dumps(capture))

    def signal(self, capture: Mapping[str, Any], labels: Sequence[int]) -> Candidates:
        """See `Importer`; a label that is no candidate has an unknown log-probability."""
        ids_LK = decode_ids(_bytes(capture[_PACKED], self.config.id_bytes), self.config)
        log_probs_LK = decode_log_probs(_bytes(capture[_LOG_PROBS], self.config.log_prob_bytes), self.config)
        ids, log_probs, at_labels = [], [], []
        for label, tokens, values in zip(labels, ids_LK.tolist(), log_probs_LK.tolist(), strict=False):
            # Where a server gave fewer than k, the rest is filled up with minus infinity and noise.
            count = values.index(-np.inf) if -np.inf in values else len(values)
            kept, kept_values = ordered(list(zip(tokens[:count], values[:count], strict=True)))
            ids.append(kept)
            log_probs.append(kept_values)
            at_labels.append(dict(zip(kept, kept_values, strict=True)).get(label, -np.inf))
        return check(Candidates(ids, log_probs, at_labels), labels, self.vocab_size)

    def _read_headers(self) -> tuple[dict[str, Any], ...]:
        """The compression config, which all sources must share."""
        found = {}
        for directory in dict.fromkeys(path if path.is_dir() else path.parent for path in self.sources):
            found[directory] = _read_config(directory)
        self.config = next(iter(found.values()))
        for directory, config in found.items():
            if config != self.config:
                raise MismatchError(
                    f"Expected one compression config for all sources. Got another in {directory}. "
                    "Import them one by one."
                )
        return (self.config.model_dump(mode="json"),)

    def _declared_vocab_size(self) -> int:
        return self.config.d


def _read_config(directory: Path) -> CompressionConfig:
    path = next((directory / name for name in _CONFIGS if (directory / name).is_file()), None)
    if path is None:
        raise InputError(
            f"Expected {_CONFIGS[0]} beside the parquet files in {directory}. Got none. Copy the one of the capture."
        )
    text = path.read_bytes()[: _MAX_CONFIG_BYTES + 1]
    try:
        fits = len(text) <= _MAX_CONFIG_BYTES
        # A few aliases of aliases are a billion values.
        if fits and any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise InputError(f"Expected YAML without aliases in {path}. Got one. Write its value out.")
        value = yaml.safe_load(text) if fits else None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # numbers and dates raise ValueError
        raise InputError(f"Expected YAML in {path}. Got: {first_line(error)}. Copy the one of the capture.") from None
    if not isinstance(value, dict):
        raise InputError(f"Expected the settings of a capture in {path}. Got something else. Copy the right file.")
    return parse(CompressionConfig, value, f"compression config {path}", InputError)


def _rows(path: Path, config: CompressionConfig) -> Iterator[Located | Rejected]:
    number = 0
    with _open(path) as file:
        try:
            for number, batch in enumerate(file.iter_batches(batch_size=1, columns=[_IDS, _LOG_PROBS, _PACKED]), 1):
                origin = f"{path.name}:{number}"
                try:
                    yield Located(_record(batch, config), origin)
                except RowError as error:
                    yield Rejected(origin, str(error))
        except (pa.ArrowException, OSError) as error:
            yield Rejected(
                f"{path.name}:{number + 1}", f"the file breaks here, the rest is lost: {first_line(error)}"
            )


def _open(path: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"Expected a parquet file at {path}. Got: {first_line(error)}. Capture it again.") from None
    _check_columns(path, file)
    return file


def _check_columns(path: Path, file: pq.ParquetFile) -> None:
    """Check types, and sizes before anything is unpacked."""
    schema = file.schema_arrow
    byte_lists = pa.list_(pa.list_(pa.uint8()))
    integers = schema.names.count(_IDS) == 1 and pa.types.is_list(schema.field(_IDS).type)
    if (
        not integers
        or not pa.types.is_integer(schema.field(_IDS).type.value_type)
        or any(
            schema.names.count(name) != 1 or schema.field(name).type != byte_lists for name in (_LOG_PROBS, _PACKED)
        )
    ):
        raise InputError(
            f"Expected the columns {_IDS} (list of integers), {_LOG_PROBS} and {_PACKED} (lists of lists of uint8). "
            f"Got {', '.join(schema.names)[:120]} in {path}. Capture with DistillKit's sample_logits_vllm."
        )
    for index in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(index)
        columns = [group.column(column) for column in range(group.num_columns)]
        most = max(column.num_values for column in columns)
        if most > _MAX_GROUP_VALUES:
            raise InputError(
                f"Expected at most {_MAX_GROUP_VALUES:,} values per row group in {path}. Got {most:,} in the "
                f"{group.num_rows:,} rows of one. Write smaller row groups."
            )
        for column in columns:
            plausible = _PAGES_BYTES + _VALUE_BYTES * column.num_values
            if column.num_values < 0 or not 0 <= column.total_uncompressed_size <= plausible:
                raise InputError(
                    f"Expected at most {plausible:,} bytes for {column.num_values:,} values of a column in {path}. "
                    f"Got {column.total_uncompressed_size:,}. Capture it again."
                )


def _record(batch: pa.RecordBatch, config: CompressionConfig) -> dict[str, Any]:
    ids = batch.column(_IDS)[0].as_py()
    if ids is None or None in ids or any(not 0 <= token < config.d for token in ids):
        raise RowError(f"Expected input_ids below {config.d:,}. Got others. Drop the row.")
    packed = _flat(batch.column(_PACKED), config.id_bytes, _PACKED)
    coded = _flat(batch.column(_LOG_PROBS), config.log_prob_bytes, _LOG_PROBS)
    if len(packed) * config.log_prob_bytes != len(coded) * config.id_bytes:
        raise RowError(f"Expected {_PACKED} and {_LOG_PROBS} of equal lengths. Got others. Drop the row.")
    encoded = {name: base64.b64encode(data).decode() for name, data in ((_PACKED, packed), (_LOG_PROBS, coded))}
    return {"input_ids": ids, **encoded}


def _flat(column: pa.ListArray, width: int, name: str) -> bytes:
    """The bytes of the only row of a column, ``width`` for each position."""
    positions = column.flatten()
    lengths = positions.value_lengths().to_numpy(zero_copy_only=False)
    values = positions.flatten()
    if column.null_count or positions.null_count or values.null_count or (lengths != width).any():
        raise RowError(
            f"Expected {width} bytes per position in {name}, as the compression config gives. "
            f"Got {lengths[:1].tolist() or 'none'}. Use the config of the capture."
        )
    return bytes(values.to_numpy())


def _bytes(text: str, width: int) -> Tensor:
    return torch.frombuffer(bytearray(decode_text(text, "base64")), dtype=torch.uint8).reshape(-1, width)
