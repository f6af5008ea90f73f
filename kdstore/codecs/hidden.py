"""The teacher's final hidden states on few bits, and its head once per store."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from kdstore.codecs import CODECS, Codec, CodecConfig, DenseSignal, Head, Output, Sample
from kdstore.codecs._integers import half_not_below, pack_nibbles, unpack_nibbles
from kdstore.errors import CapabilityError, InputError
from kdstore.schema import SignalArray

_GREATEST = {"int8": 127, "int4": 7}
_ZERO = 8  # what 0 is kept as in a nibble, which has no sign


class HiddenConfig(CodecConfig):
    """``dtype`` of the kept hidden states: int8 or int4."""

    dtype: Literal["int8", "int4"] = "int8"


@CODECS.register("hidden")
class Hidden(Codec[HiddenConfig]):
    r"""Final hidden states, and the linear head that turns them into logits.

    For the head's input h in D dimensions, as the model scales it, keeps :math:`n_d = \mathrm{round}(h_d / s)` with
    the position's step :math:`s = \max_d |h_d| / m`, m = 127 (int8) or 7 (int4), rounded up to float16; and once per
    store the head W as float16 and its bias b as float32. Decoding gives :math:`\hat z_v = s \, W_v \cdot n + b_v`:
    a full row of logits, for any temperature and any loss.

    Size: ``D + 2`` (int8) or ``D / 2 + 2`` (int4) bytes per token before compression, 770 and 386 for CodeT5-base;
    and ``2 V D`` bytes per store, 49 MB for it. Error: :math:`|\hat z_v - z_v| \le \frac{s}{2} \|W_v\|_1 +
    2^{-11} s \, |W_v| \cdot |n|`, the second term from the head's float16 (and 2^-25 s |n|_1 where its weights are
    below 6e-5).

    What it cannot do: a teacher whose logits are no linear map of hidden states, such as one with a soft cap; and
    the store contains a part of the teacher's weights.
    """

    name: ClassVar[str] = "hidden"
    shared_names: ClassVar[tuple[str, ...]] = ("head", "bias")
    Config: ClassVar[type[HiddenConfig]] = HiddenConfig
    ladder: ClassVar[tuple[Mapping[str, Any], ...]] = ({"dtype": "int4"}, {"dtype": "int8"})

    def __init__(self, config: HiddenConfig, vocab_size: int, shared: Mapping[str, Tensor]) -> None:
        super().__init__(config, vocab_size, shared)
        self.width = self.shared["head"].shape[1]

    @classmethod
    def fit(cls, config: HiddenConfig, sample: Sample) -> dict[str, Tensor]:
        """``head`` float16 [V, D], and ``bias`` float32 [V] where there is one; the positions do not matter."""
        if sample.head is None:
            raise CapabilityError(
                "Expected a teacher whose logits are a linear map of its hidden states. Got one with another head, "
                "or logits alone. Use --codec lowrank or --codec dense."
            )
        # Detached: they may be the teacher's parameters themselves.
        head_VD = sample.head.weight_VD.detach().half()
        if not head_VD.isfinite().all():
            raise CapabilityError(
                f"Expected a head whose weights fit into float16. Got {sample.head.weight_VD.abs().max():g}. "
                "Use --codec lowrank or --codec dense."
            )
        bias_V = sample.head.bias_V
        return {"head": head_VD} | ({} if bias_V is None else {"bias": bias_V.detach().float()})

    def shared_shapes(self) -> dict[str, tuple[int, ...]]:
        """``head`` [V, D] for whatever D, and ``bias`` [V] where there is one."""
        width = self.shared["head"].shape[-1] if "head" in self.shared else 1
        return {"head": (self.vocab_size, width)} | ({"bias": (self.vocab_size,)} if "bias" in self.shared else {})

    def arrays(self) -> tuple[SignalArray, ...]:
        """``states`` [L, D] or, two dimensions per byte, [L, (D + 1) // 2]; ``step`` [L]."""
        step = SignalArray(name="step", dtype="float16")
        if self.config.dtype == "int8":
            return SignalArray(name="states", dtype="int8", shape=(self.width,)), step
        return SignalArray(name="states", dtype="uint8", shape=((self.width + 1) // 2,)), step

    def _encode(self, output: Output) -> dict[str, Tensor]:
        step_L, greatest = self._step(output.hidden_LD), _GREATEST[self.config.dtype]
        assert output.hidden_LD is not None
        # A position of zeros has step 0: any other keeps its zeros.
        divisor_L1 = torch.where(step_L > 0, step_L.float(), 1.0)[:, None]
        states_LD = (output.hidden_LD.float() / divisor_L1).round().clamp(-greatest, greatest)
        states_LD = states_LD.to(torch.int8) if self.config.dtype == "int8" else pack_nibbles(states_LD + _ZERO)
        return {"states": states_LD, "step": step_L}

    def _step(self, hidden_LD: Tensor | None) -> Tensor:
        """The step of each position, float16 [L], after a check of the hidden states."""
        if hidden_LD is None:
            raise CapabilityError(
                "Expected hidden states beside the logits. Got logits alone. Use --codec lowrank or --codec dense."
            )
        if hidden_LD.shape[1] != self.width:
            raise InputError(
                f"Expected hidden states of width {self.width}, the head's. Got {hidden_LD.shape[1]}. "
                "Encode with the teacher that the store was started with."
            )
        step_L = half_not_below(hidden_LD.float().abs().amax(-1) / _GREATEST[self.config.dtype])
        if not (finite_L := step_L.isfinite()).all():
            position = int((~finite_L).nonzero()[0])
            raise InputError(
                f"Expected finite hidden states whose step fits into float16. Got others at label position "
                f"{position}. Check the teacher's weights and dtype, or use --codec lowrank."
            )
        return step_L

    def decode(self, arrays: Mapping[str, Tensor], temperature: float) -> DenseSignal:
        """The head's logits [L, V] of the kept states, whatever the temperature."""
        states_LD = arrays["states"]
        if self.config.dtype == "int4":
            states_LD = unpack_nibbles(states_LD, self.width).float() - _ZERO
        hidden_LD, device = states_LD.float() * arrays["step"].float()[:, None], states_LD.device
        head_VD = self.derived("head as float32", device, lambda: self.shared_on("head", device).float())
        bias_V = self.shared_on("bias", device) if "bias" in self.shared else None
        return DenseSignal(self.masked(Head(head_VD, bias_V).logits(hidden_LD)))

    def summary(self) -> str:
        """What is kept, in one line."""
        return f"hidden states of width {self.width} as {self.config.dtype}, the teacher's head once"
