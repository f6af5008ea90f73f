"""Encode the examples of one part into rows: tokens, teacher signal, prediction, embeddings, texts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdstore.codecs import Codec, Output
from kdstore.console import Bar
from kdstore.encode.embed import Encoder
from kdstore.encode.teacher import Teacher
from kdstore.encode.tokenizer import Tokenizer, truncate_prompt, truncate_target
from kdstore.fidelity.drift import Drift
from kdstore.schema import (
    Array,
    Arrays,
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
                self._signal,
            ]
        fields += [Vector(name=f"embeddings/{e.column}", dtype="float16", width=e.width) for e in self.encoders]
        fields += [RaggedText(name=f"text/{name}") for name in self.text_columns]
        if self.predict:
            fields.append(RaggedText(name=PREDICTION))
        return Schema(fields=tuple(fields))

    @property
    def _signal(self) -> TeacherSignal:
        assert self.codec is not None
        return TeacherSignal(name="teacher", arrays=self.codec.arrays())

    def tokens(self, examples: Sequence[Example]) -> tuple[list[list[int]], list[list[int]]]:
        """Ids of prompts and of targets, cut to the limits."""
        prompts, targets = self.tokenizer.encode(examples)
        return (
            [truncate_prompt(ids, self.limits) for ids in prompts],
            [truncate_target(ids, self.limits) for ids in targets],
        )

    def encode(self, examples: Sequence[Example], bar: Bar) -> tuple[list[dict[str, Any]], float | None]:
        """Encode the examples of one part; the result depends on nothing else.

        The number is what `Drift` found; None without a fitted codec.
        """
        drift = Drift(self.codec) if self.codec else None
        inputs, labels = self.tokens(examples)
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
            self._score([rows[index] for index in batch], drift)
            bar.advance(len(batch))
        return rows, drift.kl if drift else None

    def _batches(self, inputs: list[list[int]]) -> Iterator[list[int]]:
        """Row numbers in batches of similar length, the longest first: memory peaks at the first batch."""
        order = sorted(range(len(inputs)), key=lambda index: (-len(inputs[index]), index))
        size = self.teacher.batch_size if self.teacher else len(order)
        yield from (order[start : start + size] for start in range(0, len(order), max(1, size)))

    def _score(self, rows: list[dict[str, Any]], drift: Drift | None) -> None:
        """Run the teacher on one batch and add its signal and prediction to the rows."""
        if self.teacher is None or self.codec is None or drift is None:
            return
        encoded = self.teacher.encode([row["input_ids"] for row in rows])
        for part in self.teacher.slices([row["labels"] for row in rows]):
            labels = [row["labels"] for row in rows[part]]
            output = self.teacher.score(encoded.rows(part.start, part.stop), labels)
            if part.start == 0:
                drift.add(output)
            label_logprob_L, arrays = encode_output(self.codec, output, labels)
            lengths = [len(row) for row in labels]
            bounds = np.cumsum([0, *lengths])
            for index, (row, signal) in enumerate(zip(rows[part], self._signal.split(arrays, lengths), strict=True)):
                row["teacher"] = signal
                row["label_logprob"] = label_logprob_L[bounds[index] : bounds[index + 1]]
        if self.predict:
            predictions = self.teacher.predict(encoded, self.limits.max_output_tokens)
            for row, ids in zip(rows, predictions, strict=True):
                row[PREDICTION] = self.tokenizer.decode(ids)


def encode_output(codec: Codec[Any], output: Output, labels: list[list[int]]) -> tuple[Array, Arrays]:
    """``label_logprob`` [L], and the codec's arrays, of the label tokens of some rows."""
    ids_L = torch.tensor([token for label in labels for token in label], device=output.logits_LV.device)
    arrays = encode_arrays(codec, output)
    return label_logprob(codec.masked(output.logits_LV), ids_L).cpu().numpy(), arrays


def encode_arrays(codec: Codec[Any], output: Output) -> Arrays:
    """The codec's arrays for any number of label tokens, encoded a few at a time."""
    encoded = [codec.encode(piece) for piece in output.split()]
    return {name: torch.cat([piece[name] for piece in encoded]).cpu().numpy() for name in encoded[0]}


def label_logprob(logits_LV: Tensor, ids_L: Tensor) -> Tensor:
    """log p_1 of each label, float32 [L]: lets a reader check tokenizer, shift and padding."""
    return logits_LV.gather(-1, ids_L[:, None])[:, 0] - logits_LV.logsumexp(-1)
