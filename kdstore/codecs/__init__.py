"""How a teacher's output is kept: one codec per file, found by its file name.

A codec turns logits into small arrays and back. Decoding gives one of two forms: `DenseSignal`, a full row of
logits for every position, or `SparseSignal`, some candidates with their log-probabilities and the mass of all
others. Losses know only these two forms.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from kdstore.errors import InputError
from kdstore.registry import Registry
from kdstore.schema import SignalArray
from kdstore.validation import parse


class CodecConfig(BaseModel):
    """Base of every codec's settings; kept in the manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")


C = TypeVar("C", bound=CodecConfig)


@dataclass(frozen=True)
class DenseSignal:
    """Full teacher logits, up to a constant per row: ``logits_LV`` float32 [L, V]."""

    logits_LV: Tensor

    def log_probs(self, temperature: float) -> Tensor:
        """log p_T, float32 [L, V]."""
        return torch.log_softmax(self.logits_LV / temperature, dim=-1)


@dataclass(frozen=True)
class SparseSignal:
    """Candidates and the mass of the rest, at one temperature.

    ``ids_LK`` int64 [L, K]; ``log_probs_LK`` float32 [L, K], log p_T of each; ``log_tail_L`` float32 [L], the
    log of the mass that p_T puts on all other ids (-inf where nothing is left).
    """

    ids_LK: Tensor
    log_probs_LK: Tensor
    log_tail_L: Tensor


Signal = DenseSignal | SparseSignal


class Codec(ABC, Generic[C]):
    """Base of the codecs.

    Parameters
    ----------
    config
        The codec's own settings.
    vocab_size
        Number of ids that the teacher scores.
    """

    name: ClassVar[str]
    Config: ClassVar[type[CodecConfig]]

    def __init__(self, config: C, vocab_size: int) -> None:
        self.config = config
        self.vocab_size = vocab_size

    @abstractmethod
    def arrays(self) -> tuple[SignalArray, ...]:
        """The arrays kept for each label token."""

    def encode(self, logits_LV: Tensor) -> dict[str, Tensor]:
        """Turn float32 logits [L, V] into the codec's arrays [L, ...], on the same device.

        Raises
        ------
        InputError
            The width is not the vocabulary's, or a logit is not finite; its position and id are named.
        """
        if logits_LV.shape[1] != self.vocab_size:
            raise InputError(f"Expected logits over {self.vocab_size} ids. Got {logits_LV.shape[1]}.")
        finite = torch.isfinite(logits_LV)
        if not finite.all():
            position, token = (~finite).nonzero()[0].tolist()
            raise InputError(
                f"Expected finite logits. Got {logits_LV[position, token].item()} at label position {position}, "
                f"id {token}. Check the teacher's weights and dtype."
            )
        return self._encode(logits_LV)

    @abstractmethod
    def _encode(self, logits_LV: Tensor) -> dict[str, Tensor]:
        """Encode checked logits."""

    @abstractmethod
    def decode(self, arrays: Mapping[str, Tensor], temperature: float) -> Signal:
        """Turn the codec's arrays, [L, ...] each, into a signal at ``temperature``, on the same device.

        Raises
        ------
        CapabilityError
            The codec keeps nothing that can serve this temperature.
        """

    @abstractmethod
    def check_temperature(self, temperature: float) -> None:
        """Raise `CapabilityError` when `decode` would refuse ``temperature``."""

    @abstractmethod
    def summary(self) -> str:
        """What is kept, in one line for people."""


CODECS: Registry[type[Codec[Any]]] = Registry("codec", "kdstore.codecs")


def build_codec(name: str, config: Mapping[str, Any], vocab_size: int) -> Codec[Any]:
    """The codec called ``name`` with validated settings.

    Raises
    ------
    UnknownNameError
        No such codec.
    UsageError
        A setting is unknown or out of range.
    """
    kind = CODECS.get(name)
    return kind(parse(kind.Config, config, f"settings of codec {name!r}"), vocab_size)
