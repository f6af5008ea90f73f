"""Encode the examples of one part into rows: tokens, teacher signal, prediction, embeddings, texts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdstore.codecs import Codec
from kdstore.console import Bar
from kdstore.encode.embed import Encoder
from kdstore.encode.teacher import Teacher
from kdstore.encode.tokenizer import Tokenizer, truncate_prompt, truncate_target
from kdstore.schema import (
    Array,
    Example,
    RaggedText,
    RaggedTokens,
    Scalar,
    Schema,
    TeacherSignal,
    Vector,
    token_dtype,
)
from kdstore.store.manifest import Limits

_CODEC_CHUNK = 256  # label positions per codec call: bounds the [L, V] temporaries

PREDICTION = "text/teacher_prediction"


@dataclass(frozen=True)
class Pipeline:
    """Everything that turns examples into rows; the same for every part of a build."""

    tokenizer: Tokenizer
    limits: Limits
    text_columns: tuple[str, ...]
    encoders: tuple[Encoder, ...]
    teacher: Teacher | None
    codec: Codec[Any] | None
    predict: bool

    def schema(self) -> Schema:
        """The fields of the rows that `encode` gives."""
        dtype = token_dtype(len(self.tokenizer.backend))
        fields: list[Any] = [
            RaggedText(name="id"),
            RaggedTokens(name="input_ids", dtype=dtype),
            RaggedTokens(name="labels", dtype=dtype),
        ]
        if self.codec is not None:
            fields += [
                Scalar(name="label_logprob", dtype="float32", along="labels"),
                TeacherSignal(name="teacher", arrays=self.codec.arrays()),
            ]
        fields += [Vector(name=f"embeddings/{e.column}", dtype="float16", width=e.width) for e in self.encoders]
        fields += [RaggedText(name=f"text/{name}") for name in self.text_columns]
        if self.predict:
            fields.append(RaggedText(name=PREDICTION))
        return Schema(fields=tuple(fields))

    def encode(self, examples: Sequence[Example], bar: Bar) -> list[dict[str, Any]]:
        """Encode the examples of one part; the result depends on nothing else."""
        prompts, targets = self.tokenizer.encode(examples)
        inputs = [truncate_prompt(ids, self.limits) for ids in prompts]
        labels = [truncate_target(ids, self.limits) for ids in targets]
        rows: list[dict[str, Any]] = [
            {"id": example.id, "input_ids": ids, "labels": label}
            | {f"text/{name}": example.texts[name] for name in self.text_columns}
            for example, ids, label in zip(examples, inputs, labels, strict=True)
        ]
        for encoder in self.encoders:
            vectors = encoder.embed([example.target for example in examples])
            for row, vector in zip(rows, vectors, strict=True):
                row[f"embeddings/{encoder.column}"] = vector
        for batch in self._batches(inputs):
            self._score([rows[index] for index in batch])
            bar.advance(len(batch))
        return rows

    def _batches(self, inputs: list[list[int]]) -> Iterator[list[int]]:
        """Row numbers in batches of similar length, the longest first: memory peaks at the first batch."""
        order = sorted(range(len(inputs)), key=lambda index: (-len(inputs[index]), index))
        size = self.teacher.batch_size if self.teacher else len(order)
        yield from (order[start : start + size] for start in range(0, len(order), max(1, size)))

    def _score(self, rows: list[dict[str, Any]]) -> None:
        """Run the teacher on one batch and add its signal and prediction to the rows."""
        if self.teacher is None or self.codec is None:
            return
        encoded = self.teacher.encode([row["input_ids"] for row in rows])
        for part in self.teacher.slices([row["labels"] for row in rows]):
            labels = [row["labels"] for row in rows[part]]
            logits_LV = self.teacher.score(encoded.rows(part.start, part.stop), labels)
            arrays = _encode(self.codec, logits_LV, labels)
            bounds = np.cumsum([0, *map(len, labels)])
            for row, start, stop in zip(rows[part], bounds, bounds[1:], strict=False):
                row["teacher"] = {name: array[start:stop] for name, array in arrays.items()}
                row["label_logprob"] = row["teacher"].pop("label_logprob")
        if self.predict:
            predictions = self.teacher.predict(encoded, self.limits.max_output_tokens)
            for row, ids in zip(rows, predictions, strict=True):
                row[PREDICTION] = self.tokenizer.decode(ids)


def _encode(codec: Codec[Any], logits_LV: Tensor, labels: list[list[int]]) -> dict[str, Array]:
    """The codec's arrays, and ``label_logprob``, of the label tokens of some rows."""
    ids_L = torch.tensor([token for label in labels for token in label], device=logits_LV.device)
    pieces = [
        codec.encode(logits) | {"label_logprob": _label_logprob(logits, ids)}
        for logits, ids in zip(torch.split(logits_LV, _CODEC_CHUNK), torch.split(ids_L, _CODEC_CHUNK), strict=True)
    ]
    return {name: torch.cat([piece[name] for piece in pieces]).cpu().numpy() for name in pieces[0]}


def _label_logprob(logits_LV: Tensor, ids_L: Tensor) -> Tensor:
    """log p_1 of each label, float32 [L]: lets a reader check tokenizer, shift and padding."""
    return logits_LV.gather(-1, ids_L[:, None])[:, 0] - logits_LV.logsumexp(-1)
