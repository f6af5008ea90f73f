"""The k likeliest ids with their log-probabilities, and the mass of all others at a few temperatures."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field, field_validator
from torch import Tensor

from kdstore.codecs import CODECS, Codec, CodecConfig, SparseSignal
from kdstore.errors import CapabilityError
from kdstore.schema import SignalArray, token_dtype

# The largest float16 below zero: a tail that holds all the mass would leave the head none, and log 0.
_LARGEST_LOG_TAIL = -(2.0**-24)


class TopKConfig(CodecConfig):
    """``k`` ids per position; ``temperatures`` at which the tail's mass is kept."""

    k: int = Field(default=32, ge=1, le=4096)
    temperatures: tuple[Annotated[float, Field(ge=0.05, le=100)], ...] = Field(
        default=(1.0, 2.0, 4.0), min_length=1, max_length=16
    )

    @field_validator("temperatures")
    @classmethod
    def _check_distinct(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(value)) < len(value):
            raise ValueError("temperatures must differ from each other")
        return value


@CODECS.register("topk")
class TopK(Codec[TopKConfig]):
    r"""Top-k with exact tail mass.

    For the set :math:`S` of the k largest logits :math:`z` of a position, keeps the ids of :math:`S`,
    :math:`\log p_1(v)` for :math:`v \in S` as float16, and for each kept temperature T the log tail mass
    :math:`t_T = \log \sum_{v \notin S} p_T(v)` as float16, where :math:`p_T = \mathrm{softmax}(z / T)`.

    Decoding at T gives, for v in S,
    :math:`\log p_T(v) = \log p_1(v) / T - \mathrm{LSE}_{u \in S}(\log p_1(u) / T) + \log(1 - e^{t_T})`,
    so head and tail sum to one. A temperature without a kept tail is refused: the tail mass at another T
    cannot be known from the head.

    Size: ``k * (2 or 4) + 2k + 2 * len(temperatures)`` bytes per token before compression. Error:
    each log-probability is off by at most :math:`2^{-11} |\log p| / T`, twice after renormalisation.

    What it cannot do: which ids the tail prefers is lost. At T of 2 to 4 most of the mass over a large vocabulary
    lies there, and a student then learns in a direction far from the teacher's.
    """

    name: ClassVar[str] = "topk"
    Config: ClassVar[type[TopKConfig]] = TopKConfig

    def __init__(self, config: TopKConfig, vocab_size: int) -> None:
        super().__init__(config, vocab_size)
        self.k = min(config.k, vocab_size)

    def arrays(self) -> tuple[SignalArray, ...]:
        """``ids`` [L, K], ``log_probs`` [L, K], ``log_tail`` [L, number of temperatures]."""
        return (
            SignalArray(name="ids", dtype=token_dtype(self.vocab_size), shape=(self.k,)),
            SignalArray(name="log_probs", dtype="float16", shape=(self.k,)),
            SignalArray(name="log_tail", dtype="float16", shape=(len(self.config.temperatures),)),
        )

    def _encode(self, logits_LV: Tensor) -> dict[str, Tensor]:
        log_probs_LV = torch.log_softmax(logits_LV.float(), dim=-1)
        log_probs_LK, ids_LK = log_probs_LV.topk(self.k, dim=-1)
        rest_LV = log_probs_LV.scatter(-1, ids_LK, -torch.inf)
        tails = [
            torch.logsumexp(rest_LV / T, dim=-1) - torch.logsumexp(log_probs_LV / T, dim=-1)
            for T in self.config.temperatures
        ]
        log_tail = torch.stack(tails, dim=-1).clamp(max=_LARGEST_LOG_TAIL)
        return {"ids": ids_LK, "log_probs": log_probs_LK.half(), "log_tail": log_tail.half()}

    def decode(self, arrays: Mapping[str, Tensor], temperature: float) -> SparseSignal:
        """See the class; raises `CapabilityError` for a temperature without a kept tail."""
        self.check_temperature(temperature)
        log_tail_L = arrays["log_tail"][:, self.config.temperatures.index(temperature)].float()
        log_head_L = torch.log(-torch.expm1(log_tail_L))
        scaled_LK = arrays["log_probs"].float() / temperature
        log_probs_LK = torch.log_softmax(scaled_LK, dim=-1) + log_head_L[:, None]
        return SparseSignal(arrays["ids"].long(), log_probs_LK, log_tail_L)

    def check_temperature(self, temperature: float) -> None:
        """Only kept temperatures can be served."""
        if temperature not in self.config.temperatures:
            kept = ", ".join(f"{T:g}" for T in self.config.temperatures)
            raise CapabilityError(
                f"Expected a temperature whose tail mass the store keeps ({kept}). Got {temperature:g}. "
                f"Train at one of these, or build with --codec-set 'temperatures=[{kept}, {temperature:g}]'."
            )

    def summary(self) -> str:
        """What is kept, in one line."""
        kept = ", ".join(f"{T:g}" for T in self.config.temperatures)
        return f"top {self.k} ids and log-probabilities, tail mass at T = {kept}"
