"""What a store says of its teacher at the label tokens: beside a model's logits, and as a pass of the teacher itself.

Shape letters: L label tokens of some rows, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import torch
from torch import Tensor

from kdstore.codecs import Codec, DenseSignal, SampledSignal, Signal
from kdstore.errors import CapabilityError
from kdstore.fidelity.divergence import kl
from kdstore.store.reader import Store

LOGPROB: Final = "label_logprob"
_TEACHER: Final = "teacher"


def signal_fields(names: set[str]) -> list[str]:
    """The fields of a store that hold its teacher's signal; none where it lacks one of them."""
    return [_TEACHER, LOGPROB] if {_TEACHER, LOGPROB} <= names else []


def signal_of(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """What `StoredSignal` reads, of one row of a store; None where its fields were not read."""
    return {**row[_TEACHER], LOGPROB: row[LOGPROB]} if LOGPROB in row else None


@dataclass(frozen=True)
class Forced:
    """A pass over label tokens, each [L]: - log p(y), the probability of the likeliest token, and its id."""

    nll_L: Tensor
    confidence_L: Tensor
    likeliest_L: Tensor


@dataclass(frozen=True)
class StoredSignal:
    """Reads the signal of rows of one store, at T = 1 and at ``temperature``."""

    codec: Codec[Any]
    temperature: float

    @classmethod
    def of(cls, store: Store, temperature: float) -> Self:
        """The signal of a store.

        Raises
        ------
        CapabilityError
            It keeps none, or one that serves T = 1 or ``temperature`` not at all, or only on average over draws.
        """
        codec = store.codec() if signal_fields({field.name for field in store.schema.fields}) else None
        if codec is None:
            raise CapabilityError(f"Expected a teacher's signal in {store.root}. Got a store without one.")
        if codec.divergences is not None and "jsd" not in codec.divergences:
            raise CapabilityError(
                f"Expected a signal of which single tokens can be compared. Got draws (codec {codec.name!r})."
            )
        codec.check_temperature(1.0)
        codec.check_temperature(temperature)
        return cls(codec, temperature)

    def teacher(self, signals: Sequence[Mapping[str, Any]], device: torch.device) -> Forced:
        """The teacher's pass over the label tokens of some rows, L in all."""
        joined = _joined(signals, device)
        return Forced(-joined.pop(LOGPROB), *_likeliest(self.codec.decode(joined, 1.0)))

    def kl(self, signals: Sequence[Mapping[str, Any]], logits_LV: Tensor) -> Tensor:
        """KL(p_T || q_T) of each label token in nats, float [L]; q has the logits of a model at the same tokens.

        What the codec keeps as one category is one here too; rounding below 0 is cut off.
        """
        joined = _joined(signals, logits_LV.device)
        del joined[LOGPROB]
        scaled_L = kl(self.codec.decode(joined, self.temperature), logits_LV, self.temperature)
        return (scaled_L / self.temperature**2).clamp(min=0)


def _joined(signals: Sequence[Mapping[str, Any]], device: torch.device) -> dict[str, Tensor]:
    """The arrays of some rows one after the other."""
    return {name: torch.from_numpy(np.concatenate([one[name] for one in signals])).to(device) for name in signals[0]}


def _likeliest(signal: Signal) -> tuple[Tensor, Tensor]:
    """Probability and id of the likeliest token, each [L]."""
    assert not isinstance(signal, SampledSignal)  # refused by `StoredSignal.of`
    if isinstance(signal, DenseSignal):
        best = signal.log_probs(1.0).max(-1)
        return best.values.exp(), best.indices
    best = signal.log_probs_LK.max(-1)
    return best.values.exp(), signal.ids_LK.gather(-1, best.indices[:, None])[:, 0]
