"""The k likeliest ids with their log-probabilities, and the mass of all others at a few temperatures."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from kdstore.codecs import CODECS, Output, SparseSignal
from kdstore.codecs._candidates import CandidateCodec, CandidateConfig
from kdstore.schema import SignalArray, token_dtype


class TopKConfig(CandidateConfig):
    """``k`` ids per position; ``temperatures`` at which the tail's mass is kept."""

    k: int = Field(default=32, ge=1, le=4096)


@CODECS.register("topk")
class TopK(CandidateCodec[TopKConfig]):
    r"""Top-k with exact tail mass.

    For the set :math:`S` of the k largest logits :math:`z` of a position, keeps the ids of :math:`S`,
    :math:`\log p_1(v)` for :math:`v \in S` as float16, and for each kept temperature T the log tail mass
    :math:`t_T = \log \sum_{v \notin S} p_T(v)` as float16, where :math:`p_T = \mathrm{softmax}(z / T)`.

    Decoding at T gives, for v in S,
    :math:`\log p_T(v) = \log p_1(v) / T - \mathrm{LSE}_{u \in S}(\log p_1(u) / T) + \log(1 - e^{t_T})`,
    so head and tail sum to one. A temperature without a kept tail is refused: the tail mass at another T
    cannot be known from the head. Losses: all, over k + 1 categories, the last of which is the tail.

    Where fewer than k ids are ever emitted, all of these are kept.

    Size: ``k * (2 or 4) + 2k + 2 * len(temperatures)`` bytes per token before compression, 134 for CodeT5.
    Error: each log-probability is off by at most
    :math:`2^{-10} \max_{u \in S} |\log p_1(u)| / T + 2^{-10} + 2^{-24} / (1 - e^{t_T})`: float16 rounding, once of
    its own and once of the normaliser, and that of the tail.

    What it cannot do: which ids the tail prefers is lost. At T of 2 to 4 most of the mass over a large vocabulary
    lies there, and a student then learns in a direction far from the teacher's.
    """

    name: ClassVar[str] = "topk"
    Config: ClassVar[type[TopKConfig]] = TopKConfig
    ladder: ClassVar[tuple[Mapping[str, Any], ...]] = ({"k": 8}, {"k": 32}, {"k": 128}, {"k": 512})

    def __init__(self, config: TopKConfig, vocab_size: int, shared: Mapping[str, Tensor]) -> None:
        super().__init__(config, vocab_size, shared)
        self.k = min(config.k, self.allowed)

    def arrays(self) -> tuple[SignalArray, ...]:
        """``ids`` [L, K], ``log_probs`` [L, K], ``log_tail`` [L, number of temperatures]."""
        return (
            SignalArray(name="ids", dtype=token_dtype(self.vocab_size), shape=(self.k,)),
            SignalArray(name="log_probs", dtype="float16", shape=(self.k,)),
            SignalArray(name="log_tail", dtype="float16", shape=(len(self.config.temperatures),)),
        )

    def _encode(self, output: Output) -> dict[str, Tensor]:
        log_probs_LV = torch.log_softmax(output.logits_LV, dim=-1)
        log_probs_LK, ids_LK = log_probs_LV.topk(self.k, dim=-1)
        log_tail = self.log_tail(log_probs_LV, ids_LK, torch.ones_like(ids_LK, dtype=torch.bool))
        return {"ids": ids_LK, "log_probs": log_probs_LK.half(), "log_tail": log_tail}

    def decode(self, arrays: Mapping[str, Tensor], temperature: float) -> SparseSignal:
        """K candidates per position; raises `CapabilityError` for a temperature without a kept tail."""
        log_probs_LK, log_tail_L = self.at(temperature, arrays["log_probs"], arrays["log_tail"])
        return SparseSignal(arrays["ids"].long(), log_probs_LK, log_tail_L)

    def summary(self) -> str:
        """What is kept, in one line."""
        return f"top {self.k} ids and log-probabilities, tail mass at T = {self._kept}"
