"""How others keep teacher signals, for comparison: written as codecs, so that the same measure serves."""

import json
from collections.abc import Mapping
from typing import ClassVar

import lz4.frame
import torch
from pydantic import Field
from torch import Tensor

from kdstore.codecs import Codec, CodecConfig, DenseSignal, Output, SparseSignal
from kdstore.codecs._integers import pack_nibbles, unpack_nibbles
from kdstore.schema import SignalArray, token_dtype


class LeftoverConfig(CodecConfig):
    """``k`` ids per position."""

    k: int = Field(default=64, ge=1)


class TopKLeftover(Codec[LeftoverConfig]):
    r"""Top-k log-probabilities in half precision, as current tools keep them.

    What is left of the mass at T = 1 stands for all other ids as one more candidate, and is softened like one:
    :math:`p_T \propto (p_1(v_1), ..., p_1(v_k), 1 - \sum_i p_1(v_i))^{1/T}`. Ids are int16 or int32.
    """

    name: ClassVar[str] = "topk-leftover-tail"
    Config: ClassVar[type[LeftoverConfig]] = LeftoverConfig

    def arrays(self) -> tuple[SignalArray, ...]:
        """``ids`` and ``log_probs`` [L, K]."""
        return (
            SignalArray(name="ids", dtype=token_dtype(self.vocab_size), shape=(self.config.k,)),
            SignalArray(name="log_probs", dtype="float16", shape=(self.config.k,)),
        )

    def _encode(self, output: Output) -> dict[str, Tensor]:
        log_probs_LK, ids_LK = torch.log_softmax(output.logits_LV, dim=-1).topk(self.config.k, dim=-1)
        return {"ids": ids_LK, "log_probs": log_probs_LK.half()}

    def decode(self, arrays: Mapping[str, Tensor], temperature: float) -> SparseSignal:
        """See the class."""
        log_probs_LK = arrays["log_probs"].float()
        leftover_L = torch.log((1 - log_probs_LK.exp().sum(-1)).clamp(min=1e-7))
        softened_LC = torch.log_softmax(torch.cat([log_probs_LK, leftover_L[:, None]], -1) / temperature, dim=-1)
        return SparseSignal(arrays["ids"].long(), softened_LC[:, :-1], softened_LC[:, -1])

    def summary(self) -> str:
        """What is kept, in one line."""
        return f"top {self.config.k} in float16, the tail from the leftover mass"


class Packed4Bit(Codec[CodecConfig]):
    """The predecessor's rows: all logits in 4 bits, one scale and zero point per row, LZ4, hex in JSON.

    Positions are encoded row by row (`encode_rows`), since a row shares its scale.
    """

    name: ClassVar[str] = "predecessor-4bit-jsonl"
    Config: ClassVar[type[CodecConfig]] = CodecConfig

    def arrays(self) -> tuple[SignalArray, ...]:
        """``levels`` uint8 [L, V / 2] and the row's ``scale`` and ``zero_point``, repeated for each position."""
        return (
            SignalArray(name="levels", dtype="uint8", shape=((self.vocab_size + 1) // 2,)),
            SignalArray(name="scale", dtype="float32"),
            SignalArray(name="zero_point", dtype="float32"),
        )

    def _encode(self, output: Output) -> dict[str, Tensor]:
        logits_LV = output.logits_LV
        least, most = logits_LV.min(), logits_LV.max()
        scale = (most - least).clamp(min=1e-6) / 15
        zero_point = (-least / scale).round()
        levels_LV = (logits_LV / scale + zero_point).round().clamp(0, 15).to(torch.uint8)
        ones_L = torch.ones(len(logits_LV))
        return {
            "levels": pack_nibbles(levels_LV),
            "scale": ones_L * scale,
            "zero_point": ones_L * zero_point,
        }

    def decode(self, arrays: Mapping[str, Tensor], temperature: float) -> DenseSignal:
        """value = (q - zero_point) * scale."""
        levels_LV = unpack_nibbles(arrays["levels"], self.vocab_size).float()
        return DenseSignal((levels_LV - arrays["zero_point"][:, None]) * arrays["scale"][:, None])

    def summary(self) -> str:
        """What is kept, in one line."""
        return "all logits in 4 bits per row, LZ4, hex in JSON"


def row_json_bytes(arrays: Mapping[str, Tensor], vocab_size: int) -> int:
    """Bytes of ``compressed_logits`` of one row as the predecessor's JSON Lines hold it."""
    packed = arrays["levels"].numpy().tobytes()
    record = {
        "format": "lz4", "bits": 4, "shape": [len(arrays["scale"]), vocab_size], "scale": float(arrays["scale"][0]),
        "zero_point": float(arrays["zero_point"][0]), "packed": True,
        "data_encoded": {"encoding": "hex", "data": lz4.frame.compress(packed).hex(), "original_size": len(packed)},
    }  # fmt: skip
    return len(json.dumps({"compressed_logits": record}))
