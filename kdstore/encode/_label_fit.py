"""How well decoded signals agree with the log-probabilities that were stored beside the labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kdstore.codecs import Codec, DenseSignal, SampledSignal, Signal
from kdstore.errors import CorruptStoreError
from kdstore.schema import Schema, TeacherSignal

# In the median. Codecs are off by less than 0.1 nats where the teacher is sure, and misplaced signals by several.
# Coarse ones (4 bits for a wide range of logits) may miss it: they are still told by what chance would give.
_TOLERANCE = 0.5
_CHANCE = 0.5  # of the error of signals that belong to other rows
_MUCH_BETTER = 0.25  # of the error as it is, when shifted by one
_MOST = 20.0  # nats; -inf against a number is no further away
_POSITIONS = 256  # label tokens of a row, which may be thousands


@dataclass(frozen=True)
class LabelFit:
    """``nats`` away in the median of ``tokens``; the first one is label ``position`` of row ``row``.

    ``shift``: 1 where signals fit the label after theirs much better, -1 where the one before, else 0.
    """

    aligned: bool
    nats: float
    tokens: int
    row: int
    position: int
    shift: int


def fit_labels(codec: Codec[Any], schema: Schema, rows: Sequence[Mapping[str, Any]]) -> LabelFit | None:
    """Compare signals, decoded at T = 1, with the labels' log-probabilities; None where none can be compared.

    Raises
    ------
    CorruptStoreError
        A signal decodes to NaN.
    """
    field = next(field for field in schema.fields if isinstance(field, TeacherSignal))
    counts = [min(len(row["labels"]), _POSITIONS) for row in rows]
    cut = [
        field.split(row[field.name], [count, len(row["labels"]) - count])[0]
        for row, count in zip(rows, counts, strict=True)
    ]
    arrays = {name: _joined([piece[name] for piece in cut]) for name in cut[0]}
    labels_L = _joined([row["labels"][:count] for row, count in zip(rows, counts, strict=True)]).long()
    stored_L = _joined([row["label_logprob"][:count] for row, count in zip(rows, counts, strict=True)]).float()
    signal = codec.decode(arrays, 1.0)
    _check_numbers(signal, codec.name)
    error_L = _errors(signal, labels_L, stored_L)
    if error_L.isnan().all():
        return None
    row_L = torch.repeat_interleave(torch.tensor(counts))
    position_L = torch.cat([torch.arange(count) for count in counts])

    def shifted(by: int) -> float:
        error_L = _errors(signal, labels_L.roll(-by), stored_L.roll(-by))
        inside_L = (row_L.roll(-by) == row_L) & (position_L.roll(-by) == position_L + by)
        return _median(error_L.masked_fill(~inside_L, torch.nan))

    half = len(labels_L) // 2
    nats = _median(error_L)
    chance = _median(_errors(signal, labels_L.roll(half), stored_L.roll(half)))
    better = [by for by in (1, -1) if shifted(by) < _MUCH_BETTER * nats]
    first = int((error_L > _TOLERANCE).int().argmax())
    return LabelFit(
        aligned=nats <= _TOLERANCE or (nats < _CHANCE * chance and not better),
        nats=nats,
        tokens=int((~error_L.isnan()).sum()),
        row=int(row_L[first]),
        position=int(position_L[first]),
        shift=min(better, key=shifted, default=0),
    )


def _check_numbers(signal: Signal, codec: str) -> None:
    if isinstance(signal, DenseSignal):
        decoded = [signal.log_probs(1.0)]
    elif isinstance(signal, SampledSignal):
        decoded = [signal.weights_LK, signal.log_probs_LK]
    else:
        decoded = [signal.log_probs_LK, signal.log_tail_L]
    if any(bool(values.isnan().any()) for values in decoded):
        raise CorruptStoreError(
            f"Expected signals of the codec {codec!r} to decode to numbers. Got NaN. Build the store again."
        )


def _errors(signal: Signal, labels_L: Tensor, stored_L: Tensor) -> Tensor:
    """How far a signal is from giving labels these log-probabilities, in nats, float [L]; NaN where unknown."""
    if isinstance(signal, DenseSignal):
        error_L = (signal.log_probs(1.0).gather(-1, labels_L[:, None])[:, 0] - stored_L).abs()
    else:
        kept_LK = signal.weights_LK > 0 if isinstance(signal, SampledSignal) else signal.log_probs_LK.isfinite()
        found_LK = kept_LK & (signal.ids_LK == labels_L[:, None])
        own_L = signal.log_probs_LK.masked_fill(~found_LK, -torch.inf).amax(-1)
        # Of a label that is no candidate only this is known: it cannot be likelier than what is left for it.
        excess_L = stored_L - _most_left(signal, kept_LK)
        excess_L = torch.where(excess_L > 0, excess_L, torch.nan)
        error_L = torch.where(found_LK.any(-1), (own_L - stored_L).abs(), excess_L)
    # A capture need not say how likely each label was.
    return error_L.clamp(max=_MOST).masked_fill(~stored_L.isfinite(), torch.nan)


def _most_left(signal: Any, kept_LK: Tensor) -> Tensor:
    """The largest log-probability that an id outside the kept ones can have, float [L]."""
    if isinstance(signal, SampledSignal):
        left_L = 1 - signal.log_probs_LK.exp().masked_fill(~kept_LK, 0).sum(-1)
        return left_L.clamp(min=1e-6).log()
    # Candidates are the likeliest ids.
    least_L = signal.log_probs_LK.masked_fill(~kept_LK, torch.inf).amin(-1)
    return torch.minimum(least_L, signal.log_tail_L)


def _median(values_L: Tensor) -> float:
    return float(values_L.nanmedian())


def _joined(pieces: Sequence[Any]) -> Tensor:
    return torch.cat([torch.from_numpy(piece.copy()) for piece in pieces])
