"""Our loader, for the benchmark of loaders: both containers, and both residencies."""

import time
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
from _loader_common import KEPT, PAD, VOCAB, WIDTH, Arrays, Batch, Loader, Open, main
from numpy.typing import NDArray

from kdstore.schema import Block, RaggedText, RaggedTokens, Schema, TeacherSignal, Vector
from kdstore.store.containers import CONTAINERS
from kdstore.store.manifest import CodecRecord, Head, Limits, Segment, TeacherRecord, TokenizerRecord
from kdstore.store.reader import Store
from kdtrain.stream import loader as ours
from kdtrain.stream.config import LoaderConfig
from kdtrain.stream.order import OrderConfig
from kdtrain.stream.plan import Residency

_BLOCK_ROWS, PART_ROWS = 32, 1024
# Groups of 10,000 rows: with blocks of 32 rows, batches of 256 have a design effect below 2.
_GROUP_BLOCKS = 320
STORE = "records.kd"

Kind = Literal["zarr", "webdataset"]


def _loader(container: Kind, residency: Residency) -> Loader:
    CONTAINERS.get(container)  # imports it
    return Loader(
        version("kdstore"),
        partial(write, container),
        partial(_open, residency),
        lambda directory, rows: range(0, rows, _BLOCK_ROWS),
        partial(_resume, residency),
    )


def _read(directory: Path, residency: Residency, batch_rows: int) -> ours.Loader:
    order = OrderConfig(seed=0, group_blocks=_GROUP_BLOCKS)
    config = LoaderConfig(batch_rows, order, embeddings=("encoder",), residency=residency)
    return ours.Loader(Store(directory / STORE), config)


def _open(residency: Residency, directory: Path, batch_rows: int) -> Open:
    loader = _read(directory, residency, batch_rows)
    return Open(lambda epoch: _batches(loader), loader.plan.expected_peak)


def _batches(loader: ours.Loader) -> Iterator[Batch]:
    """All of the loader's next epoch."""
    for batch in loader:
        part_B, block_B, row_B = batch.positions_BP.T
        yield {
            "input_ids": batch.input_ids_BS,
            "attention_mask": batch.attention_mask_BS,
            "labels": batch.labels_BT,
            "label_tokens": batch.labels_L,
            "top_ids": batch.signal["ids"],
            "top_log_probs": batch.signal["log_probs"],
            "embeddings": batch.embeddings["encoder"],
            "keys": part_B * PART_ROWS + block_B * _BLOCK_ROWS + row_B,
        }


def _resume(residency: Residency, directory: Path, batch_rows: int) -> float:
    stopped = _read(directory, residency, batch_rows)
    stopped.rows_yielded = stopped.batches * 9 // 10 * batch_rows
    state = stopped.state_dict()
    began = time.perf_counter()
    loader = _read(directory, residency, batch_rows)
    loader.load_state_dict(state)
    batches = iter(loader)
    next(batches)
    seconds = time.perf_counter() - began
    batches.close()
    return seconds


def write(container: Kind, records: Arrays, directory: Path, times: int = 1) -> None:
    """A store of the records, in their order, so many times one after the other."""
    from kdstore.codecs import build_codec
    from kdstore.store.writer import begin, finalize, prepare, write_part

    rows = len(records["embeddings"])
    codec = build_codec("topk", {"k": KEPT}, VOCAB, {})
    schema = Schema(
        fields=(
            RaggedText(name="id"),
            RaggedTokens(name="input_ids", dtype="uint16"),
            RaggedTokens(name="labels", dtype="uint16"),
            TeacherSignal(name="teacher", arrays=codec.arrays()),
            Vector(name="embeddings/encoder", dtype="float16", width=WIDTH),
        )
    )
    record = CodecRecord(name=codec.name, config=codec.config.model_dump(mode="json"))
    head, root = _head(schema, record, container, rows * times), directory / STORE
    begin(root, head)
    prepare(root)
    starts = [start for _ in range(times) for start in range(0, rows, PART_ROWS)]
    for index, start in enumerate(starts):
        write_part(root, head, index, _block(schema, records, start, min(start + PART_ROWS, rows)))
    finalize(root, head)


def _head(schema: Schema, codec: CodecRecord, container: Kind, rows: int) -> Head:
    return Head(
        task="java_assertion", template="{x}", schema=schema, vocab_size=VOCAB, codec=codec, container=container,
        teacher=TeacherRecord(
            name="t5", revision=None, weights_sha256="0" * 64, dtype="fp32", device="cpu", batch_size=1, threads=1
        ),
        tokenizer=TokenizerRecord(sha256="0" * 64, vocab_size=VOCAB, pad_id=PAD, eos_id=1, decoder_start_id=0),
        encoders={"encoder": "0" * 64}, split="all", seed=0, part_rows=PART_ROWS, block_rows=_BLOCK_ROWS,
        limits=Limits(max_input_tokens=512, max_output_tokens=128, overlong="truncate"),
        segments=(Segment(source_sha256="0" * 64, rows=rows, scan={"read": rows}, versions={}),),
    )  # fmt: skip


def _block(schema: Schema, records: Arrays, start: int, stop: int) -> Block:
    """Records [start, stop) as rows of a store; the tail's mass is not known, which no loader minds."""
    rows, labels = slice(start, stop), _span(records["labels_lengths"], start, stop)
    ids = [str(key).encode() for key in range(start, stop)]
    tokens = labels.stop - labels.start
    values = {
        "id/values": np.frombuffer(b"".join(ids), np.uint8),
        "id/lengths": np.array([len(one) for one in ids]),
        "input_ids/values": records["input_ids"][_span(records["input_ids_lengths"], start, stop)],
        "input_ids/lengths": records["input_ids_lengths"][rows],
        "labels/values": records["labels"][labels],
        "labels/lengths": records["labels_lengths"][rows],
        "teacher/ids": records["top_ids"][labels],
        "teacher/log_probs": records["top_log_probs"][labels],
        "teacher/log_tail": np.full((tokens, 3), -4),
        "embeddings/encoder": records["embeddings"][rows],
    }
    return Block(
        schema, stop - start, {path: values[path].astype(spec.dtype) for path, spec in schema.specs().items()}
    )


def _span(lengths: NDArray[np.int64], start: int, stop: int) -> slice:
    """Where the values of rows [start, stop) lie."""
    begin = int(lengths[:start].sum())
    return slice(begin, begin + int(lengths[start:stop].sum()))


if __name__ == "__main__":
    main(
        {
            "ours-zarr": partial(_loader, "zarr", "auto"),
            "ours-webdataset": partial(_loader, "webdataset", "auto"),
            "ours-zarr-window": partial(_loader, "zarr", "window"),
            "ours-webdataset-window": partial(_loader, "webdataset", "window"),
        }
    )
