"""Imported rows on their way into a store: the same pipeline, with a capture in the teacher's place."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kdstore.codecs import Codec, Output, Sample
from kdstore.console import Bar
from kdstore.encode.pipeline import PREDICTION, Pipeline, encode_output
from kdstore.encode.spool import Spool
from kdstore.encode.tokenizer import Tokenizer
from kdstore.fidelity.drift import Drift
from kdstore.fidelity.probe import Probe
from kdstore.importers import Candidates, Importer, Logits
from kdstore.schema import Arrays, Example

# The largest float16 below zero, as in the codec `topk`: a tail with all the mass would leave the head none.
_LARGEST_LOG_TAIL = -(2.0**-24)
_SAMPLE_BYTES = 2 << 30
_DRIFT_ROWS = 16  # drift is watched on every so many rows


class GivenTokens(Tokenizer):
    """A tokenizer for rows that bring their ids along."""

    def encode(self, examples: Sequence[Example]) -> tuple[list[list[int]], list[list[int]]]:
        """The ids of the examples' captures."""
        captures = [json.loads(example.capture) for example in examples]
        return [c["input_ids"] for c in captures], [c["labels"] for c in captures]


@dataclass(frozen=True)
class ImportedPipeline(Pipeline):
    """A `Pipeline` whose signals are decoded from captures; its ``teacher`` is None."""

    importer: Importer

    def encode(self, examples: Sequence[Example], bar: Bar) -> tuple[list[dict[str, Any]], float | None]:
        """Encode the examples of one part; see `Pipeline.encode`."""
        rows, _ = super().encode(examples, bar)
        drift = Drift(self.codec) if self.codec else None
        for index, (row, example) in enumerate(zip(rows, examples, strict=True)):
            if self.predict:
                row[PREDICTION] = example.texts[PREDICTION.removeprefix("text/")]
            if self.codec is not None:
                signal = self.importer.signal(json.loads(example.capture), row["labels"])
                row |= _encoded(self.codec, signal, row["labels"], drift if index % _DRIFT_ROWS == 0 else None)
        return rows, drift.kl if drift else None

    def probe(self, spool: Spool, rows: Sequence[int]) -> Probe:
        """Full logits of some rows; of fewer, where they would not fit into 2 GiB."""
        vocab_size, room = self.importer.vocab_size, _SAMPLE_BYTES
        inputs, labels, kept = [], [], []
        for example in spool.read(rows):
            (input_ids,), (label_ids,) = self.tokens([example])
            logits_LV = self.importer.signal(json.loads(example.capture), label_ids)
            assert not isinstance(logits_LV, Candidates)
            room -= logits_LV.nbytes
            if room < 0:
                break
            inputs.append(input_ids)
            labels.append(label_ids)
            kept.append(torch.from_numpy(logits_LV))
        ids = len(self.tokenizer.backend)
        values = torch.cat([torch.zeros(0, vocab_size), *kept])
        return Probe(inputs, labels, Sample(logits_FV=values, padded_from=ids if ids < vocab_size else None))

    def most_candidates(self, spool: Spool, rows: Sequence[int]) -> int:
        """The largest number of candidates that a label token of these rows has."""
        most = 1
        for example in spool.read(rows):
            (_, (label_ids,)) = self.tokens([example])
            signal = self.importer.signal(json.loads(example.capture), label_ids)
            assert isinstance(signal, Candidates)
            most = max(most, *map(len, signal.ids)) if signal.ids else most
        return most


def _encoded(
    codec: Codec[Any], signal: Logits | Candidates, labels: list[int], drift: Drift | None
) -> dict[str, Any]:
    """The fields ``teacher`` and ``label_logprob`` of a row."""
    if isinstance(signal, Candidates):
        arrays = topk_arrays(signal, codec.arrays()[0].shape[0])
        return {"teacher": arrays, "label_logprob": np.array(signal.label_log_probs, np.float32)}
    output = Output(torch.from_numpy(signal))
    if drift is not None:
        drift.add(output)
    label_logprob_L, encoded = encode_output(codec, output, [labels])
    return {"teacher": encoded, "label_logprob": label_logprob_L}


def topk_arrays(signal: Candidates, k: int) -> Arrays:
    """The arrays of the codec ``topk`` with T = 1 for the ``k`` likeliest candidates of each label token.

    What more there are goes into the tail. What are fewer is filled up with other ids of log-probability -inf.
    """
    ids_LK = np.zeros((len(signal.ids), k), np.int64)
    log_probs_LK = np.full((len(signal.ids), k), -np.inf, np.float32)
    for row, (ids, log_probs) in enumerate(zip(signal.ids, signal.log_probs, strict=True)):
        kept = ids[:k]
        taken = set(kept)
        fill = (token for token in range(k) if token not in taken)
        ids_LK[row] = kept + [next(fill) for _ in range(k - len(kept))]
        log_probs_LK[row, : len(kept)] = log_probs[:k]
    left_L = 1 - np.exp(log_probs_LK.astype(np.float64)).sum(-1)
    with np.errstate(divide="ignore"):
        log_tail_L = np.log(left_L.clip(min=0)).clip(max=_LARGEST_LOG_TAIL)
    return {
        "ids": ids_LK,
        "log_probs": log_probs_LK.astype(np.float16),
        "log_tail": log_tail_L[:, None].astype(np.float16),
    }
