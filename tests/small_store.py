"""A small store with every kind of field, written without a model: for tests that only need a store."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from kdstore.codecs import Output
from kdstore.schema import (
    Block,
    MultiHot,
    RaggedText,
    RaggedTokens,
    Scalar,
    Schema,
    TeacherSignal,
    Tree,
    Vector,
)
from kdstore.store.manifest import Head, Limits, Segment, TeacherRecord, TokenizerRecord
from kdstore.store.shared import publish_shared, stage_shared
from kdstore.store.writer import begin, finalize, prepare, write_part

from .codec_tools import fitted, recorded

VOCAB = 50


@dataclass(frozen=True)
class Written:
    """What went into a store: ``rows`` in order, and the teacher's logits [L, V] of each."""

    root: Path
    schema: Schema
    rows: list[dict[str, Any]]
    logits: list[torch.Tensor]
    block_rows: int

    def block(self) -> Block:
        """All rows packed as one block."""
        return self.schema.pack(self.rows)


def write_store(
    root: Path,
    codec_name: str = "topk",
    count: int = 11,
    part_rows: int = 6,
    block_rows: int = 3,
    container: Literal["zarr", "webdataset"] = "zarr",
    **codec_config: Any,
) -> Written:
    """Write a store of ``count`` rows at ``root``; the rows are the same for the same arguments."""
    codec = fitted(codec_name, VOCAB, codec_config)
    record, shared = recorded(codec)
    schema = Schema(
        fields=(
            RaggedText(name="id"),
            RaggedTokens(name="input_ids", dtype="uint16"),
            RaggedTokens(name="labels", dtype="uint16"),
            Scalar(name="weight", dtype="float32"),
            Scalar(name="label_logprob", dtype="float32", along="labels"),
            TeacherSignal(name="teacher", arrays=codec.arrays()),
            Vector(name="embeddings/minilm", dtype="float16", width=4),
            MultiHot(name="emotions", width=5),
            Tree(name="tree"),
            RaggedText(name="text/assertion"),
        )
    )
    logits = [_logits(index) for index in range(count)]
    rows = [_row(index, logits_LV, codec) for index, logits_LV in enumerate(logits)]
    head = Head(
        task="java_assertion", template="{x}", schema=schema, vocab_size=VOCAB,
        codec=record,
        teacher=TeacherRecord(
            name="t", revision=None, weights_sha256="1" * 64, dtype="fp32", device="cpu", batch_size=4, threads=1
        ),
        tokenizer=TokenizerRecord(sha256="0" * 64, vocab_size=VOCAB, pad_id=0, eos_id=1, decoder_start_id=0),
        encoders={"minilm": "2" * 64}, limits=Limits(max_input_tokens=64, max_output_tokens=64, overlong="skip"),
        split="all", seed=0, container=container, part_rows=part_rows, block_rows=block_rows,
        segments=(
            Segment(
                source_sha256="0" * 64, rows=count, scan={"read": count, "kept": count}, versions={"kdstore": "0"}
            ),
        ),
    )  # fmt: skip
    begin(root, head)
    stage_shared(root, shared)
    publish_shared(root)
    prepare(root)
    for index, start in enumerate(range(0, count, part_rows)):
        write_part(root, head, index, schema.pack(rows[start : start + part_rows]))
    finalize(root, head)
    return Written(root, schema, rows, logits, block_rows)


def _logits(index: int) -> torch.Tensor:
    """Teacher logits [L, V] of one row: 3, 4, 0, 1, 2, 3, ... label tokens, with mass in the tail."""
    return torch.randn((index + 3) % 5, VOCAB, generator=torch.Generator().manual_seed(index)) * 1.5


def _row(index: int, logits_LV: torch.Tensor, codec: Any) -> dict[str, Any]:
    rng = np.random.default_rng(index)
    labels = rng.integers(0, VOCAB, len(logits_LV))
    log_probs_LV = torch.log_softmax(logits_LV, -1).numpy()
    nodes = 1 + index % 3
    return {
        "id": f"row-{index}-é",
        "input_ids": rng.integers(0, VOCAB, 1 + index % 7),
        "labels": labels,
        "weight": float(rng.normal()),
        "label_logprob": log_probs_LV[np.arange(len(labels)), labels],
        "teacher": {name: array.numpy() for name, array in codec.encode(Output(logits_LV)).items()},
        "embeddings/minilm": rng.normal(size=4),
        "emotions": rng.integers(0, 2, 5),
        "tree": (rng.integers(0, 9, nodes), np.arange(nodes) - 1),
        "text/assertion": f"assertEquals({index}, größe());",
    }
