"""What codecs share that keep some ids of a position exactly, and only the mass of all others."""

from typing import Annotated, TypeVar

import torch
from pydantic import Field, field_validator
from torch import Tensor

from kdstore.codecs import Codec, CodecConfig
from kdstore.errors import CapabilityError

# The largest float16 below zero: a tail that holds all the mass would leave the head none, and log 0.
_LARGEST_LOG_TAIL = -(2.0**-24)


class CandidateConfig(CodecConfig):
    """``temperatures`` at which the tail's mass is kept."""

    temperatures: tuple[Annotated[float, Field(ge=0.05, le=100)], ...] = Field(
        default=(1.0, 2.0, 4.0), min_length=1, max_length=16
    )

    @field_validator("temperatures")
    @classmethod
    def _check_distinct(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(value)) < len(value):
            raise ValueError("temperatures must differ from each other")
        return value


K = TypeVar("K", bound=CandidateConfig)


class CandidateCodec(Codec[K]):
    """Base of the codecs that keep log p_1 of some ids, and the log mass of all others at a few temperatures."""

    def log_tail(self, log_probs_LV: Tensor, ids_LK: Tensor, kept_LK: Tensor) -> Tensor:
        """Log mass outside the kept ids at each temperature, float16 [L, number of temperatures]."""
        own_LK = log_probs_LV.gather(-1, ids_LK)
        rest_LV = log_probs_LV.scatter(-1, ids_LK, own_LK.masked_fill(kept_LK, -torch.inf))
        tails = [
            torch.logsumexp(rest_LV / T, dim=-1) - torch.logsumexp(log_probs_LV / T, dim=-1)
            for T in self.config.temperatures
        ]
        return torch.stack(tails, dim=-1).clamp(max=_LARGEST_LOG_TAIL).half()

    def at(self, temperature: float, log_probs_LK: Tensor, log_tail: Tensor) -> tuple[Tensor, Tensor]:
        """log p_T of the candidates, float32 [L, K], and of all others, float32 [L]; together they sum to one.

        Raises
        ------
        CapabilityError
            No tail mass is kept for this temperature.
        """
        self.check_temperature(temperature)
        log_tail_L = log_tail[:, self.config.temperatures.index(temperature)].float()
        log_head_L = torch.log(-torch.expm1(log_tail_L))
        return torch.log_softmax(log_probs_LK.float() / temperature, dim=-1) + log_head_L[:, None], log_tail_L

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Those whose tail mass is kept."""
        return self.config.temperatures

    def check_temperature(self, temperature: float) -> None:
        """Only kept temperatures can be served."""
        if temperature not in self.config.temperatures:
            raise CapabilityError(
                f"Expected a temperature whose tail mass the store keeps ({self._kept}). Got {temperature:g}. "
                f"Train at one of these, or build with --codec-set 'temperatures=[{self._kept}, {temperature:g}]'."
            )

    @property
    def _kept(self) -> str:
        return ", ".join(f"{T:g}" for T in self.config.temperatures)
