"""Random Sampling KD: weighted draws from the teacher, unbiased for one loss at one temperature."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from kdstore.codecs import CODECS, Codec, CodecConfig, Output, SampledSignal
from kdstore.codecs._ragged import places
from kdstore.errors import CapabilityError
from kdstore.schema import KEPT, SignalArray, token_dtype


class SampledConfig(CodecConfig):
    """``draws`` per position from p_T to the power of ``tau``, at ``temperature`` T; ``seed`` of the draws."""

    draws: int = Field(default=50, ge=1, le=4096)
    # Above 1 an unlikely draw has a weight without bound; below 1/4 one beyond float16.
    tau: float = Field(default=1.0, ge=0.25, le=1)
    temperature: float = Field(default=1.0, ge=0.05, le=100)
    seed: int = Field(default=0, ge=0, lt=1 << 63)


@CODECS.register("sampled")
class Sampled(Codec[SampledConfig]):
    r"""Importance-weighted draws (Random Sampling KD, Anshumann et al. 2025, arXiv:2503.16870).

    At one temperature T draws N ids from :math:`r \propto p_T^\tau`. Keeps every id i that came, :math:`c_i` times
    of N, once: its weight :math:`w_i = (c_i / N) \, p_T(i) / r(i)`, not renormalised, and :math:`\log p_T(i)`, both
    as float16. So :math:`\mathrm{E} \sum_i w_i f(i) = \sum_v p_T(v) f(v)` for every f.

    Loss: ``kl`` alone, whose gradient :math:`T ((\sum_i w_i) q_T - w)` is then unbiased; JSD and reverse KL are not
    linear in p, and no weights would make them so. Temperature: T alone; draws from p_T say nothing exact of others.

    Differs from the paper in how ids are drawn: systematically, at the points :math:`(j + u) / N`, j = 0 to N - 1,
    of r's cumulative sum over ids, with one uniform u per position. The mean of :math:`c_i` is the same
    :math:`N r(i)`, its variance below 1/4, where that of independent draws is :math:`N r(i) (1 - r(i))`; an id with
    :math:`r(i) \ge 1 / N` is never missed. u is a hash of the seed and of the position's logits: the same draws
    however positions are cut into batches, equal ones for equal logits.

    Size: ``n * (6 or 8) + 2`` bytes per token before compression, for a mean of n different ids, at most N: 6n + 2
    for CodeT5. Error: a weight is off by at most :math:`2^{-11} w_i + 2^{-25}`, and :math:`\log p` by
    :math:`2^{-11} |\log p|`; the draws' own error has mean 0, and shrinks with N and with the tokens of a batch.
    """

    name: ClassVar[str] = "sampled"
    Config: ClassVar[type[SampledConfig]] = SampledConfig
    divergences: ClassVar[tuple[str, ...] | None] = ("kl",)
    ladder: ClassVar[tuple[Mapping[str, Any], ...]] = ({"draws": 12}, {"draws": 50}, {"draws": 200})

    def __init__(self, config: SampledConfig, vocab_size: int, shared: Mapping[str, Tensor]) -> None:
        super().__init__(config, vocab_size, shared)
        self.most = min(config.draws, self.allowed)

    def arrays(self) -> tuple[SignalArray, ...]:
        """``ids``, ``weights`` and ``log_probs`` [X], at most N per position: most draws are of few ids."""
        return (
            SignalArray(name="ids", dtype=token_dtype(self.vocab_size), most=self.most),
            SignalArray(name="weights", dtype="float16", most=self.most),
            SignalArray(name="log_probs", dtype="float16", most=self.most),
        )

    def _encode(self, output: Output) -> dict[str, Tensor]:
        draws, scaled_LV = self.config.draws, output.logits_LV / self.config.temperature
        log_p_LV = torch.log_softmax(scaled_LV, dim=-1)
        log_r_LV = torch.log_softmax(scaled_LV * self.config.tau, dim=-1)
        # In float32 a sum over a large vocabulary would drown the ids at its end.
        cumulative_LV = log_r_LV.exp().cumsum(-1, dtype=torch.float64)
        points_N = torch.arange(draws, dtype=torch.float64, device=scaled_LV.device)
        points_LN = (points_N + self._uniform(output.logits_LV)[:, None]) / draws * cumulative_LV[:, -1:]
        ids_LN = torch.searchsorted(cumulative_LV, points_LN, right=True)  # ascending, as the points are
        new_LN = ids_LN.diff(dim=-1, prepend=torch.full_like(ids_LN[:, :1], -1)) != 0
        starts_X = new_LN.flatten().nonzero()[:, 0]
        counts_X = starts_X.diff(append=starts_X.new_tensor([new_LN.numel()]))
        ratio_LN = (log_p_LV.gather(-1, ids_LN) - log_r_LV.gather(-1, ids_LN)).exp()
        return {
            "ids": ids_LN[new_LN],
            "weights": (counts_X / draws * ratio_LN[new_LN]).half(),
            "log_probs": log_p_LV.gather(-1, ids_LN)[new_LN].half(),
            f"{KEPT}/lengths": new_LN.sum(-1),
        }

    def _uniform(self, logits_LV: Tensor) -> Tensor:
        """A number in (0, 1) for each position, float64 [L], from the seed and all bits of its logits.

        Multilinear hashing: for random 64-bit factors the upper half of the sum is uniform, and independent between
        any two positions whose logits differ. Sums of integers do not depend on their order.
        """
        generator = torch.Generator().manual_seed(self.config.seed)
        factors = torch.randint(-(1 << 63), (1 << 63) - 1, (self.vocab_size + 1,), generator=generator)
        factors = factors.to(logits_LV.device)
        hash_L = logits_LV.view(torch.int32).long().mul_(factors[1:]).sum(-1) + factors[0]
        return ((hash_L >> 32).double() + (1 << 31) + 0.5) / (1 << 32)

    def decode(self, arrays: Mapping[str, Tensor], temperature: float) -> SampledSignal:
        """At most N weighted ids per position [L, K]; raises `CapabilityError` for any T but the stored one."""
        self.check_temperature(temperature)
        # A weight of 0 on an id that was drawn: no student gives that one a log-probability of minus infinity.
        places_LK, kept_LK = places(arrays[f"{KEPT}/lengths"], self.most)
        weights_LK = arrays["weights"].float()[places_LK].masked_fill(~kept_LK, 0)
        return SampledSignal(arrays["ids"].long()[places_LK], weights_LK, arrays["log_probs"].float()[places_LK])

    @property
    def temperatures(self) -> tuple[float, ...]:
        """The temperature of the draws alone."""
        return (self.config.temperature,)

    def check_temperature(self, temperature: float) -> None:
        """Only the temperature of the draws can be served."""
        if temperature != self.config.temperature:
            raise CapabilityError(
                f"Expected the temperature of the store's draws ({self.config.temperature:g}). Got {temperature:g}. "
                f"Train at {self.config.temperature:g}, or build with --codec-set temperature={temperature:g}."
            )

    def summary(self) -> str:
        """What is kept, in one line."""
        c = self.config
        return f"{c.draws} draws from p_T^{c.tau:g} at T = {c.temperature:g}, with weights and log-probabilities"
