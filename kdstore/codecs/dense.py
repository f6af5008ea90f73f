"""Every logit: the reference that other codecs are measured against."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from kdstore.codecs import CODECS, Codec, CodecConfig, DenseSignal, Output
from kdstore.codecs._integers import pack_nibbles, unpack_nibbles
from kdstore.codecs._logits import centre
from kdstore.schema import SignalArray

_FLOATS: dict[str, Literal["float16", "float32"]] = {"f16": "float16", "f32": "float32"}
_HIGHEST = {"int8": 255, "int4": 15}


class DenseConfig(CodecConfig):
    """``dtype`` of the kept logits: f32, f16, int8 or int4."""

    dtype: Literal["f32", "f16", "int8", "int4"] = "f16"


@CODECS.register("dense")
class Dense(Codec[DenseConfig]):
    r"""All logits, centred per position.

    Keeps :math:`x = z - \mathrm{mean}_V(z)`; softmax does not see the shift, and centred values are small, which is
    where few bits are fine. The integer forms keep levels :math:`n_v = \mathrm{round}((x_v - \min x) / s)`, 0 to m,
    with :math:`\min x` and the step :math:`s = (\max x - \min x) / m` of each position as float32, m = 255 (int8)
    or 15 (int4, two ids per byte). Decoding gives :math:`\min x + s n_v`. Mean, min and max are over ids that are
    ever emitted. Any temperature and any loss can be served.

    Size: ``4 V`` (f32), ``2 V`` (f16), ``V + 8`` (int8) or ``V / 2 + 8`` (int4) bytes per token before compression,
    128, 64, 32 and 16 KB for CodeT5. Error: f32 none beyond the subtraction; f16 at most
    :math:`2^{-11} |x_v| + 2^{-25}` per logit, for :math:`|x_v|` up to 65,504; int8 and int4 at most half a step,
    :math:`s / 2`; and for each of them :math:`2^{-21} \max |x|` of float32 arithmetic.
    """

    name: ClassVar[str] = "dense"
    Config: ClassVar[type[DenseConfig]] = DenseConfig
    ladder: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {"dtype": "int4"}, {"dtype": "int8"}, {"dtype": "f16"}, {"dtype": "f32"},
    )  # fmt: skip

    def arrays(self) -> tuple[SignalArray, ...]:
        """``logits`` [L, V]; or ``levels`` [L, V], of int4 [L, (V + 1) // 2], with ``low`` [L] and ``step`` [L]."""
        dtype, width = self.config.dtype, self.vocab_size
        if dtype in _FLOATS:
            return (SignalArray(name="logits", dtype=_FLOATS[dtype], shape=(width,)),)
        return (
            SignalArray(name="levels", dtype="uint8", shape=(width if dtype == "int8" else (width + 1) // 2,)),
            SignalArray(name="low", dtype="float32"),
            SignalArray(name="step", dtype="float32"),
        )

    def _encode(self, output: Output) -> dict[str, Tensor]:
        centred_LV = centre(output.logits_LV)
        if self.config.dtype == "f32":
            return {"logits": centred_LV}
        if self.config.dtype == "f16":
            limit = torch.finfo(torch.float16).max
            return {"logits": centred_LV.clamp(-limit, limit).half()}
        return self._levels(centred_LV, torch.isneginf(output.logits_LV))

    def _levels(self, centred_LV: Tensor, never_LV: Tensor) -> dict[str, Tensor]:
        highest = _HIGHEST[self.config.dtype]
        # Ids never emitted are 0 here, which lies between the others: their mean is 0.
        low_L1, high_L1 = centred_LV.amin(-1, keepdim=True), centred_LV.amax(-1, keepdim=True)
        step_L1 = ((high_L1 - low_L1) / highest).clamp(min=torch.finfo(torch.float32).tiny)
        levels_LV = ((centred_LV - low_L1) / step_L1).round().clamp(0, highest).masked_fill(never_LV, 0)
        levels_LV = levels_LV.to(torch.uint8) if self.config.dtype == "int8" else pack_nibbles(levels_LV)
        return {"levels": levels_LV, "low": low_L1[:, 0], "step": step_L1[:, 0]}

    def decode(self, arrays: Mapping[str, Tensor], temperature: float) -> DenseSignal:
        """The kept logits [L, V], whatever the temperature."""
        if self.config.dtype in _FLOATS:
            return DenseSignal(self.masked(arrays["logits"].float()))
        levels_LV = arrays["levels"]
        if self.config.dtype == "int4":
            levels_LV = unpack_nibbles(levels_LV, self.vocab_size)
        return DenseSignal(self.masked(arrays["low"][:, None] + arrays["step"][:, None] * levels_LV.float()))

    def summary(self) -> str:
        """What is kept, in one line."""
        return f"all {self.vocab_size} logits as {self.config.dtype}"
