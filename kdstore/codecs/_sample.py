"""What a teacher puts out, and a sample of it to fit a codec on."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kdstore.codecs._logits import centre, check_finite

CHUNK = 256  # positions at once: bounds the [L, V] temporaries
WEIGHT_TEMPERATURES = (1.0, 2.0, 4.0)

# Nats below the likeliest id. Models switch ids off with -inf, with the least float of their dtype, or with
# -10,000; real logits do not come near this.
NEVER = 1000.0
_UNIFORM = 0.1  # share of the weights that is equal for all ids: even one that was never likely counts a little


@dataclass(frozen=True)
class Head:
    """The linear map from hidden states to logits: ``weight_VD`` [V, D], and ``bias_V`` [V] where there is one."""

    weight_VD: Tensor
    bias_V: Tensor | None = None

    def logits(self, hidden_LD: Tensor) -> Tensor:
        """Logits float32 [L, V]."""
        return torch.nn.functional.linear(hidden_LD.float(), self.weight_VD.float(), _float(self.bias_V))


@dataclass(frozen=True)
class Output:
    """What the teacher puts out for L label tokens.

    ``logits_LV`` float32 [L, V]. ``hidden_LD`` [L, D] is exactly what its linear `Head` was applied to, with any
    scaling that the model does before; None where there is no such head, or only logits are known.
    """

    logits_LV: Tensor
    hidden_LD: Tensor | None = None

    def split(self, size: int = CHUNK) -> Iterator["Output"]:
        """The same in pieces of at most ``size`` positions; one empty piece where there are none."""
        hidden = (None,) * len(self.logits_LV) if self.hidden_LD is None else torch.split(self.hidden_LD, size)
        for logits_LV, hidden_LD in zip(torch.split(self.logits_LV, size), hidden, strict=False):
            yield Output(logits_LV, hidden_LD)


@dataclass(frozen=True)
class Moments:
    """Means over a sample: of centred logits; of p_T over T in {1, 2, 4}, as weights; of p_1 + p_2, as popularity.

    Float32 [V] each; ids never emitted have mean 0 and weight 0.
    """

    mean_V: Tensor
    weights_V: Tensor
    popularity_V: Tensor


@dataclass(frozen=True, eq=False)
class Sample:
    """The teacher's output at F positions, in a form that fits into memory.

    Either hidden states and the head that turns them into logits again, or the logits themselves.

    Parameters
    ----------
    hidden_FD, head
        Hidden states [F, D] and the head.
    logits_FV
        Logits [F, V], without head.
    padded_from
        Ids from here on are padding of the vocabulary: no tokenizer makes them. None where there are none.
    """

    hidden_FD: Tensor | None = None
    head: Head | None = None
    logits_FV: Tensor | None = None
    padded_from: int | None = None

    @property
    def positions(self) -> int:
        """F."""
        return len(self._values)

    @property
    def vocab_size(self) -> int:
        """V."""
        return len(self.head.weight_VD) if self.head else self._values.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the sample lies, and where its logits are computed."""
        return self._values.device

    @property
    def _values(self) -> Tensor:
        values = self.logits_FV if self.hidden_FD is None else self.hidden_FD
        assert values is not None
        return values

    def slice(self, start: int, stop: int) -> "Sample":
        """Some of the positions."""
        hidden = None if self.hidden_FD is None else self.hidden_FD[start:stop]
        logits = None if self.logits_FV is None else self.logits_FV[start:stop]
        return Sample(hidden, self.head, logits, self.padded_from)

    def chunks(self, size: int = CHUNK) -> Iterator[Output]:
        """The output in pieces of at most ``size`` positions, on the sample's device."""
        for values in torch.split(self._values, size):
            if self.head is None:
                yield Output(values.float())
            else:
                yield Output(self.head.logits(values), values)

    @cached_property
    def never_emitted(self) -> Tensor:
        """Which ids are never emitted, bool [V]: padding of the vocabulary, and ids switched off at every position.

        Raises
        ------
        InputError
            Any other logit is not finite.
        """
        mask_V = torch.full((self.vocab_size,), self.positions > 0, device=self.device)
        finite = True
        for output in self.chunks():
            top_L1 = output.logits_LV.amax(-1, keepdim=True)
            mask_V &= (output.logits_LV < top_L1 - NEVER).all(0)
            finite &= bool(torch.isfinite(output.logits_LV).all())
        if self.padded_from is not None:
            mask_V[self.padded_from :] = True
        if not finite:
            for output in self.chunks():
                check_finite(output.logits_LV, mask_V)
        return mask_V

    def centred(self) -> Iterator[Tensor]:
        """Row-centred logits, float32 [l, V] at a time, 0 for ids never emitted."""
        for output in self.chunks():
            yield centre(output.logits_LV.masked_fill(self.never_emitted, -torch.inf))

    @cached_property
    def moments(self) -> Moments:
        """See `Moments`; uniform weights for an empty sample."""
        logits_V = torch.zeros(self.vocab_size, dtype=torch.float64, device=self.device)
        mass_TV = logits_V.new_zeros(len(WEIGHT_TEMPERATURES), self.vocab_size)
        for logits_LV in self.centred():
            logits_V += logits_LV.sum(0)
            emitted_LV = logits_LV.masked_fill(self.never_emitted, -torch.inf)
            for row, T in enumerate(WEIGHT_TEMPERATURES):
                mass_TV[row] += torch.softmax(emitted_LV / T, dim=-1).sum(0)
        positions = max(1, self.positions)
        uniform_V = (~self.never_emitted).double() / (~self.never_emitted).sum()
        uniform = _UNIFORM if self.positions else 1.0
        weights_V = (1 - uniform) * mass_TV.mean(0) / positions + uniform * uniform_V
        return Moments((logits_V / positions).float(), weights_V.float(), mass_TV[:2].sum(0).float())


def _float(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.float()
