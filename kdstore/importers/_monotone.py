"""DistillKit's coding of sorted log-probabilities: exact head, polynomial, quantised residuals, differences."""

from enum import Enum
from typing import Annotated, Final

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from kdstore.importers._candidates import MAX_CANDIDATES

_MOST_BITS: Final = 32  # per residual; DistillKit allows 64, which is more than its numbers have


class Term(Enum):
    """A term of the polynomial that is no power of t."""

    SQRT = "sqrt"
    EXP = "exp"


class Float(Enum):
    """A number format."""

    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"
    FLOAT64 = "float64"

    @property
    def torch(self) -> torch.dtype:
        """As torch knows it."""
        return _DTYPES[self]


_DTYPES = {
    Float.FLOAT16: torch.float16, Float.BFLOAT16: torch.bfloat16,
    Float.FLOAT32: torch.float32, Float.FLOAT64: torch.float64,
}  # fmt: skip


class Bin(BaseModel):
    """``num_elements`` residuals of ``element_bits`` each, with one scale."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    scale_dtype: Float
    element_bits: Annotated[int, Field(gt=0, le=_MOST_BITS)]
    num_elements: Annotated[int, Field(gt=0, le=MAX_CANDIDATES)]

    @property
    def packed_bytes(self) -> int:
        """Bytes of the residuals, without the scale."""
        return -(-self.element_bits * self.num_elements // 8)


Power = Annotated[int, Field(ge=0, le=16)]


class CompressionConfig(BaseModel):
    """``compression_config.yaml``: ``d`` ids, ``k`` of them kept, and how their log-probabilities are coded."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    d: Annotated[int, Field(gt=1, le=1 << 24)]
    k: Annotated[int, Field(gt=0, le=MAX_CANDIDATES)]
    exact_k: Annotated[int, Field(ge=0)]
    exact_dtype: Float = Float.FLOAT32
    polynomial_terms: Annotated[list[Term | Power], Field(max_length=64)] | None = None
    term_dtype: Float = Float.FLOAT32
    residual_bins: Annotated[list[Bin], Field(max_length=64)]
    delta_encoding: bool = True
    error_diffusion: bool = False
    normalize_t: bool = False

    @model_validator(mode="after")
    def _check_counts(self) -> "CompressionConfig":
        approximate = self.k - self.exact_k
        if approximate < 0 or sum(part.num_elements for part in self.residual_bins) > approximate:
            raise ValueError("exact_k and the elements of residual_bins must not exceed k")
        if approximate > 0 and not self.polynomial_terms and not self.residual_bins:
            raise ValueError("exact_k below k needs polynomial_terms or residual_bins")
        return self

    @property
    def id_bits(self) -> int:
        """Bits of a packed id; the logarithm is taken in float32, as DistillKit does."""
        return int(np.ceil(np.log2(np.float32(self.d))))

    @property
    def id_bytes(self) -> int:
        """Bytes of the ids of one position."""
        return -(-self.k * self.id_bits // 8)

    @property
    def log_prob_bytes(self) -> int:
        """Bytes of the log-probabilities of one position."""
        terms = len(self.polynomial_terms or ())
        bins = sum(part.scale_dtype.torch.itemsize + part.packed_bytes for part in self.residual_bins)
        return self.exact_k * self.exact_dtype.torch.itemsize + terms * self.term_dtype.torch.itemsize + bins


def unpack(bytes_LB: Tensor, bits: int, count: int) -> Tensor:
    """``count`` unsigned integers of ``bits`` bits, int64 [L, count]: the highest bit first, without gaps."""
    shifts_8 = torch.arange(7, -1, -1)
    bits_LN = ((bytes_LB[..., None] >> shifts_8) & 1).flatten(-2)[:, : bits * count]
    weights_E = 2 ** torch.arange(bits - 1, -1, -1)
    return (bits_LN.reshape(len(bytes_LB), count, bits) * weights_E).sum(-1)


def decode_ids(bytes_LB: Tensor, config: CompressionConfig) -> Tensor:
    """Ids of the candidates, int64 [L, K], the likeliest first."""
    return unpack(bytes_LB, config.id_bits, config.k)


def decode_log_probs(bytes_LB: Tensor, config: CompressionConfig) -> Tensor:
    """Log-probabilities of the candidates, float [L, K] in ``exact_dtype``.

    The bytes hold, one after the other: ``exact_k`` numbers; the polynomial's coefficients; and for each bin of
    residuals its scale and its packed numbers. What lies behind ``exact_k`` is polynomial plus residual, over t = 0,
    1, ... Numbers that come out are differences to the one before them under ``delta_encoding``.
    """
    length, position = len(bytes_LB), 0

    def take(size: int) -> Tensor:
        nonlocal position
        position += size
        return bytes_LB[:, position - size : position].contiguous()

    def take_floats(count: int, kind: Float) -> Tensor:
        return take(count * kind.torch.itemsize).view(kind.torch).reshape(length, count)

    exact_dtype, rest = config.exact_dtype.torch, config.k - config.exact_k
    exact_LE = take_floats(config.exact_k, config.exact_dtype)
    terms = config.polynomial_terms or []
    coefficients_LP = take_floats(len(terms), config.term_dtype)
    residual_LR = torch.zeros(length, rest, dtype=exact_dtype)
    start = 0
    for part in config.residual_bins:
        scale_L1 = take_floats(1, part.scale_dtype)
        levels_LN = unpack(take(part.packed_bytes), part.element_bits, part.num_elements)
        residual_LR[:, start : start + part.num_elements] = _centred(levels_LN, part.element_bits) * scale_L1
        start += part.num_elements
    approximate_LR = residual_LR
    if terms:
        powers_RP = _powers(terms, rest, config)
        approximate_LR = (powers_RP * coefficients_LP[:, None, :]).sum(-1) + residual_LR
    log_probs_LK = torch.cat([exact_LE, approximate_LR], dim=-1)
    if config.delta_encoding:
        log_probs_LK = log_probs_LK.float().cumsum(-1).to(exact_dtype)
    return log_probs_LK


def _centred(levels_LN: Tensor, bits: int) -> Tensor:
    """Quantised residuals in units of their scale: two's complement shifted to start at 0, or signs for one bit."""
    return levels_LN.float() * 2 - 1 if bits == 1 else (levels_LN - 2 ** (bits - 1)).float()


def _powers(terms: list[Term | int], count: int, config: CompressionConfig) -> Tensor:
    """Every term at every t, [count, terms] in ``term_dtype``."""
    dtype = config.term_dtype.torch
    t_R = torch.linspace(0, 1, count, dtype=dtype) if config.normalize_t else torch.arange(count, dtype=dtype)
    functions = {Term.SQRT: torch.sqrt, Term.EXP: torch.exp}
    return torch.stack([functions[term](t_R) if isinstance(term, Term) else t_R**term for term in terms], dim=-1)
