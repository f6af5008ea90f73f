"""Every logit: the reference that other codecs are measured against."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from torch import Tensor

from kdstore.codecs import CODECS, Codec, CodecConfig, DenseSignal
from kdstore.schema import SignalArray

_DTYPES: dict[str, Literal["float16", "float32"]] = {"f16": "float16", "f32": "float32"}


class DenseConfig(CodecConfig):
    """``dtype`` of the kept logits: f16 or f32."""

    dtype: Literal["f16", "f32"] = "f16"


@CODECS.register("dense")
class Dense(Codec[DenseConfig]):
    r"""All logits, centred per position.

    Keeps :math:`z - \mathrm{mean}_V(z)`; softmax does not see the shift, and centred values are small, which is
    where float16 is fine. Any temperature and any loss can be served.

    Size: ``2 V`` (f16) or ``4 V`` (f32) bytes per token before compression, 64 KB for CodeT5. Error: f32 none
    beyond the subtraction, f16 at most :math:`2^{-11} \max |z - \mathrm{mean}(z)|` per logit.
    """

    name: ClassVar[str] = "dense"
    Config: ClassVar[type[DenseConfig]] = DenseConfig

    def arrays(self) -> tuple[SignalArray, ...]:
        """``logits`` [L, V]."""
        return (SignalArray(name="logits", dtype=_DTYPES[self.config.dtype], shape=(self.vocab_size,)),)

    def _encode(self, logits_LV: Tensor) -> dict[str, Tensor]:
        centred_LV = logits_LV.float() - logits_LV.float().mean(dim=-1, keepdim=True)
        return {"logits": centred_LV.half() if self.config.dtype == "f16" else centred_LV}

    def decode(self, arrays: Mapping[str, Tensor], temperature: float) -> DenseSignal:
        """The kept logits, whatever the temperature."""
        return DenseSignal(arrays["logits"].float())

    def check_temperature(self, temperature: float) -> None:
        """Every temperature can be served."""

    def summary(self) -> str:
        """What is kept, in one line."""
        return f"all {self.vocab_size} logits as {self.config.dtype}"
