"""The likeliest ids up to a given mass, as many as each position needs, and the mass of all others."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from kdstore.codecs import CODECS, Output, SparseSignal
from kdstore.codecs._candidates import CandidateCodec, CandidateConfig
from kdstore.codecs._ragged import places
from kdstore.schema import KEPT, SignalArray, token_dtype


class TopPConfig(CandidateConfig):
    """``p``, the mass to reach; ``k_min`` to ``k_max`` ids per position; ``temperatures`` whose tail mass is kept."""

    p: float = Field(default=0.95, gt=0, le=1)
    k_min: int = Field(default=1, ge=1, le=4096)
    k_max: int = Field(default=256, ge=1, le=4096)

    @model_validator(mode="after")
    def _check_order(self) -> "TopPConfig":
        if self.k_min > self.k_max:
            raise ValueError(f"k_min = {self.k_min} must not be above k_max = {self.k_max}")
        return self


@CODECS.register("topp")
class TopP(CandidateCodec[TopPConfig]):
    r"""Nucleus with exact tail mass.

    As ``topk``, but :math:`S` is the smallest set of likeliest ids with :math:`\sum_{v \in S} p_1(v) \ge p`, of at
    least ``k_min`` and at most ``k_max`` ids: few where the teacher is sure, many where it is not. Keeps the ids of
    :math:`S`, :math:`\log p_1(v)` for :math:`v \in S`, and the log tail mass
    :math:`t_T = \log \sum_{v \notin S} p_T(v)` for each kept temperature T, all as float16 but the ids.

    Decoding at T gives :math:`\log p_T(v) = \log p_1(v) / T - \mathrm{LSE}_{u \in S}(\log p_1(u) / T) +
    \log(1 - e^{t_T})` for v in S. Other temperatures are refused. Losses: all, over the ids of S and the tail.

    At least one id is always left to the tail where all are emitted; a tail of a single id loses nothing.

    Size: ``n * (4 or 6) + 2 * len(temperatures) + 2`` bytes per token before compression, for a mean of n ids: 8 + 4n
    for CodeT5. Error: each log-probability is off by at most
    :math:`2^{-10} \max_{u \in S} |\log p_1(u)| / T + 2^{-10} + 2^{-24} / (1 - e^{t_T})`, as for ``topk``. Which ids
    the tail prefers is lost.
    """

    name: ClassVar[str] = "topp"
    Config: ClassVar[type[TopPConfig]] = TopPConfig
    ladder: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {"p": 0.8, "k_max": 64}, {"p": 0.95}, {"p": 0.99, "k_max": 1024},
    )  # fmt: skip

    def __init__(self, config: TopPConfig, vocab_size: int, shared: Mapping[str, Tensor]) -> None:
        super().__init__(config, vocab_size, shared)
        # Losses take a list of all V ids as one without tail. Positions that need fewer would lose theirs.
        self.k = min(config.k_max, self.allowed, max(1, vocab_size - 1))

    def arrays(self) -> tuple[SignalArray, ...]:
        """``ids`` [X], ``log_probs`` [X], at most K per position; ``log_tail`` [L, number of temperatures]."""
        return (
            SignalArray(name="ids", dtype=token_dtype(self.vocab_size), most=self.k),
            SignalArray(name="log_probs", dtype="float16", most=self.k),
            SignalArray(name="log_tail", dtype="float16", shape=(len(self.config.temperatures),)),
        )

    def _encode(self, output: Output) -> dict[str, Tensor]:
        log_probs_LV = torch.log_softmax(output.logits_LV, dim=-1)
        log_probs_LK, ids_LK = log_probs_LV.topk(self.k, dim=-1)
        p_LK = log_probs_LK.double().exp()
        likelier_LK = p_LK.cumsum(-1) - p_LK  # mass before each id: an id is needed while this is below p
        lengths_L1 = (likelier_LK < self.config.p).sum(-1, keepdim=True).clamp(min(self.config.k_min, self.k))
        kept_LK = torch.arange(self.k, device=ids_LK.device) < lengths_L1
        return {
            "ids": ids_LK[kept_LK],
            "log_probs": log_probs_LK[kept_LK].half(),
            "log_tail": self.log_tail(log_probs_LV, ids_LK, kept_LK),
            f"{KEPT}/lengths": lengths_L1[:, 0],
        }

    def decode(self, arrays: Mapping[str, Tensor], temperature: float) -> SparseSignal:
        """K candidates per position, filled up; raises `CapabilityError` for a temperature without a kept tail."""
        places_LK, kept_LK = places(arrays[f"{KEPT}/lengths"], self.k)
        log_probs_LK = arrays["log_probs"].float()[places_LK].masked_fill(~kept_LK, -torch.inf)
        log_probs_LK, log_tail_L = self.at(temperature, log_probs_LK, arrays["log_tail"])
        return SparseSignal(_filled(arrays["ids"].long()[places_LK], kept_LK), log_probs_LK, log_tail_L)

    def summary(self) -> str:
        """What is kept, in one line."""
        return (
            f"likeliest ids up to a mass of {self.config.p:g}, at most {self.k}, with log-probabilities, "
            f"tail mass at T = {self._kept}"
        )


def _filled(ids_LK: Tensor, kept_LK: Tensor) -> Tensor:
    """Candidates first, then the smallest ids that are none: all K of a position differ.

    Of the ids 0 to K - 1 at least as many are free as there are slots to fill.
    """
    rows, width = ids_LK.shape
    lengths_L1 = kept_LK.sum(-1, keepdim=True)
    # One slot more than needed takes what does not belong anywhere; it is cut off.
    taken = torch.zeros(rows, width + 1, dtype=torch.bool, device=ids_LK.device)
    taken.scatter_(-1, torch.where(kept_LK, ids_LK, width).clamp(max=width), True)
    free_LK = ~taken[:, :width]
    slots_LK = torch.where(free_LK, lengths_L1 + free_LK.cumsum(-1) - 1, width).clamp(max=width)
    filled = torch.zeros(rows, width + 1, dtype=torch.long, device=ids_LK.device)
    filled.scatter_(-1, slots_LK, torch.arange(width, device=ids_LK.device).expand(rows, -1))
    return torch.where(kept_LK, ids_LK, filled[:, :width])
