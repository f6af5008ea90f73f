"""Full-vocabulary logits from a few coefficients and the few ids that these get wrong. The default codec."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field, field_validator
from torch import Tensor

from kdstore.codecs import CODECS, Codec, CodecConfig, DenseSignal, Output, Sample
from kdstore.codecs._basis import weighted_basis
from kdstore.codecs._integers import pack_nibbles, unpack_nibbles
from kdstore.codecs._logits import centre
from kdstore.errors import CorruptStoreError
from kdstore.schema import Dtype, SignalArray

_BITS = (16, 8, 4)  # widths of coefficients, in the order that they are kept in
_MOST = {16: 32_767, 8: 127, 4: 7}  # largest quantised coefficient
_DEVIATION = {16: 16.0, 8: 1.25, 4: 0.0}  # in steps: coefficients that vary more take so many bits
_PAGE = 256  # ids are kept as a page and a place in it
_REPEATS = 16  # a correction beyond 127 steps is kept as several of the same id, which add up


class LowRankConfig(CodecConfig):
    """``rank`` directions, coefficients in multiples of ``step``; ids wrong by more than ``threshold`` are corrected.

    ``step`` and ``value_step`` are in nats: of the root mean square of logit differences, weighted by probability,
    and of corrections. ``threshold`` is a probability.
    """

    rank: int = Field(default=96, ge=2, le=1024)
    step: float = Field(default=0.1, gt=0, le=10)
    threshold: float = Field(default=0.008, ge=0.001, lt=1)
    value_step: float = Field(default=0.1, gt=0, le=1)

    @field_validator("rank")
    @classmethod
    def _check_even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("the rank must be even: two coefficients share a byte")
        return value


@CODECS.register("lowrank")
class LowRank(Codec[LowRankConfig]):
    r"""Low-rank logits with sparse corrections.

    Logits are linear in a hidden state, so that few directions carry the whole vocabulary; what they miss are the
    likeliest ids of each position, which are corrected one by one.

    Once per store, from a sample of row-centred logits :math:`z` (`kdstore.codecs._basis`): their mean :math:`\mu`,
    weights :math:`w_v`, the mean of :math:`p_T(v)` over positions and T in {1, 2, 4}, and R directions
    :math:`B`, orthonormal under the weights, that leave the least weighted error.

    Per position: :math:`c = \mathrm{round}((z - \mu)\,\mathrm{diag}(w)\,B^\top / s)`, with one step s for all
    coefficients, so that those which vary little take few bits; :math:`\hat z = \mu + s\,c\,B`; the set
    :math:`S = \{v : |p_1(v) - \hat p_1(v)| > \epsilon\}`, with :math:`\hat p_1 \propto e^{\hat z}` scaled so that ids
    of :math:`p_1 \le 2 \epsilon` hold the mass that they should; and for v in S the correction
    :math:`r_v = \mathrm{round}((z_v - \hat z_v - \delta) / s')`. The tail shift :math:`\delta` is what the mass
    outside S asks for, :math:`\delta_T = T (\mathrm{LSE}_{v \notin S}\, z/T - \mathrm{LSE}_{v \notin S}\, \hat z/T)`,
    the mean of :math:`\delta_1` and :math:`\delta_2`. It is not kept: softmax does not see a shift of all logits, so
    corrections are taken relative to the shifted tail.

    Decoding gives :math:`\hat z + s' r`, a full row of logits: every loss at every temperature is its plain dense
    formula.

    Keeps ``wide`` int16 and ``coarse`` int8 (coefficients that vary most; few of the first or none), ``fine`` (two
    of the others in a byte), and for each id of S its rank by popularity (``places`` and ``pages``: common ids have
    small ranks, and compress) with ``values``; an id may occur several times, for a correction beyond 127 steps.

    Size: 15 to 35 bytes per token after compression, by the settings; ``(R + 16) V`` bytes once per store. Error: for
    v in S, :math:`|\hat z_v + s' r_v + \delta - z_v| \le s'/2`, up to corrections of :math:`2032 s'`, which are cut;
    outside S it is measured when the store is built, not guaranteed. Supports kl, jsd and reverse_kl at every
    temperature. It fits the mixture of rows it was fitted on: later parts are watched for drift.
    """

    name: ClassVar[str] = "lowrank"
    Config: ClassVar[type[LowRankConfig]] = LowRankConfig
    shared_names: ClassVar[tuple[str, ...]] = ("mean", "weights", "basis", "scales", "bits", "ids")
    fitted: ClassVar[bool] = True
    ladder: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {"rank": 32, "step": 0.3, "threshold": 0.02, "value_step": 0.125},
        {"rank": 56, "step": 0.18, "threshold": 0.01, "value_step": 0.125},
        {"rank": 96, "step": 0.1, "threshold": 0.008, "value_step": 0.1},
        {"rank": 128, "step": 0.07, "threshold": 0.005, "value_step": 0.06},
        {"rank": 256, "step": 0.03, "threshold": 0.002, "value_step": 0.03},
    )

    def __init__(self, config: LowRankConfig, vocab_size: int, shared: Mapping[str, Tensor]) -> None:
        super().__init__(config, vocab_size, shared)
        bits_R = shared["bits"].tolist()
        self.counts = {bits: bits_R.count(bits) for bits in _BITS}
        if bits_R != [bits for bits in _BITS for _ in range(self.counts[bits])] or self.counts[4] % 2:
            raise CorruptStoreError(
                f"Expected widths of 16 bits, then 8, then an even number of 4. Got {bits_R}. Build the store again."
            )
        if not torch.equal(shared["ids"].long().sort().values, torch.arange(vocab_size)):
            raise CorruptStoreError(
                "Expected every id once in the shared array 'ids'. Got others. Build the store again."
            )

    @classmethod
    def fit(cls, config: LowRankConfig, sample: Sample) -> dict[str, Tensor]:
        """The arrays to keep once.

        ``mean`` and ``weights`` float32 [V]; ``basis`` int8 [R, V], in multiples of ``scales`` float32 [V]; ``bits``
        uint8 [R], 16, 8 or 4, of each coefficient; ``ids`` int32 [V], the most popular first.
        """
        given = sample.moments
        basis_RV, deviations_R = weighted_basis(sample, config.rank)
        if len(basis_RV) < 2:  # a sample of one row, or of equal ones: nothing varies
            basis_RV = torch.zeros(2, sample.vocab_size, device=sample.device)
            deviations_R = torch.zeros(2)
        rank = len(basis_RV) // 2 * 2
        # Rare ids have small weights and so large entries: a scale for each id keeps the common ones exact.
        scale_V = basis_RV[:rank].abs().amax(0).clamp(min=1e-30) / _MOST[8]
        steps_R = deviations_R[:rank].cpu() / config.step
        bits_R = torch.full((rank,), 4, dtype=torch.uint8)
        bits_R[: -(-int((steps_R > _DEVIATION[8]).sum()) // 2) * 2] = 8  # 4-bit ones are left in pairs
        bits_R[: int((steps_R > _DEVIATION[16]).sum())] = 16
        return {
            "mean": given.mean_V,
            "weights": given.weights_V,
            "basis": (basis_RV[:rank] / scale_V).round().to(torch.int8),
            "scales": scale_V,
            "bits": bits_R,
            "ids": given.popularity_V.argsort(descending=True, stable=True).int(),
        }

    def shared_shapes(self) -> dict[str, tuple[int, ...]]:
        """See `fit`."""
        V, bits = self.vocab_size, self.shared.get("bits")
        rank = 2 if bits is None else len(bits)
        return {"mean": (V,), "weights": (V,), "basis": (rank, V), "scales": (V,), "bits": (rank,), "ids": (V,)}

    def arrays(self) -> tuple[SignalArray, ...]:
        """``wide``, ``coarse`` and ``fine`` [L, ...], ragged ``places``, ``pages``, ``values`` [X]."""
        # Of two distributions at most 2 / threshold ids can differ by the threshold, and half as many again where
        # the likeliest ids are compared by themselves.
        most = min(self.vocab_size, math.ceil(3 / self.config.threshold)) * _REPEATS
        found = []
        if self.counts[16]:
            found.append(SignalArray(name="wide", dtype="int16", shape=(self.counts[16],)))
        if self.counts[8]:
            found.append(SignalArray(name="coarse", dtype="int8", shape=(self.counts[8],)))
        if self.counts[4]:
            found.append(SignalArray(name="fine", dtype="uint8", shape=(self.counts[4] // 2,)))
        pages: Dtype = "uint8" if self.vocab_size <= _PAGE * _PAGE else "uint16"
        return (
            *found,
            SignalArray(name="places", dtype="uint8", most=most),
            SignalArray(name="pages", dtype=pages, most=most),
            SignalArray(name="values", dtype="int8", most=most),
        )

    def _encode(self, output: Output) -> dict[str, Tensor]:
        logits_LV = centre(output.logits_LV)
        coefficients_LR = self._coefficients(logits_LV)
        low_LV = self._logits(coefficients_LR)
        wrong_LV, shift_L = self._corrections(logits_LV, low_LV)
        position_X, id_X = wrong_LV.nonzero(as_tuple=True)
        error_X = logits_LV[position_X, id_X] - low_LV[position_X, id_X] - shift_L[position_X]
        value_X = _rounded(error_X / self.config.value_step, _MOST[8] * _REPEATS).int()
        repeats_X = (value_X.abs() + _MOST[8] - 1).div(_MOST[8], rounding_mode="floor").clamp(min=1)
        rank_X = self._ranks(logits_LV.device)[id_X].repeat_interleave(repeats_X)
        arrays = {
            "places": (rank_X % _PAGE).to(torch.uint8),
            "pages": (rank_X // _PAGE).to(torch.uint8 if self.vocab_size <= _PAGE * _PAGE else torch.uint16),
            "values": _in_parts(value_X, repeats_X),
            "kept/lengths": torch.bincount(position_X, repeats_X, minlength=len(logits_LV)).to(torch.uint16),
        }
        wide_LR, coarse_LR, fine_LR = self._by_width(coefficients_LR)
        if self.counts[16]:
            arrays["wide"] = wide_LR.to(torch.int16)
        if self.counts[8]:
            arrays["coarse"] = coarse_LR.to(torch.int8)
        if self.counts[4]:
            arrays["fine"] = pack_nibbles(fine_LR.to(torch.int8) & 15)
        return arrays

    def _coefficients(self, logits_LV: Tensor) -> Tensor:
        """Quantised coefficients as whole float32 numbers [L, R]."""
        device = logits_LV.device
        scaled_LR = (logits_LV - self.shared_on("mean", device)) @ self._dual(device).T / self.config.step
        pieces = zip(_BITS, self._by_width(scaled_LR), strict=True)
        return torch.cat([_rounded(piece_LR, _MOST[bits]) for bits, piece_LR in pieces], dim=-1)

    def _by_width(self, values_LR: Tensor) -> tuple[Tensor, ...]:
        return torch.split(values_LR, [self.counts[bits] for bits in _BITS], dim=-1)

    def _logits(self, coefficients_LR: Tensor) -> Tensor:
        device = coefficients_LR.device
        mean_V, basis_RV = self.shared_on("mean", device), self._basis(device)
        return torch.addmm(mean_V, coefficients_LR * self.config.step, basis_RV)

    def _corrections(self, logits_LV: Tensor, low_LV: Tensor) -> tuple[Tensor, Tensor]:
        """Which ids are corrected, bool [L, V], and the shift of all others, [L]."""
        top_L, low_top_L = logits_LV.amax(-1), low_LV.amax(-1)
        # exp(z / 2) serves both temperatures: p_1 is proportional to its square.
        root_LV, low_root_LV = self._root(logits_LV, top_L), self._root(low_LV, low_top_L)
        p_LV, low_p_LV = root_LV.square(), low_root_LV.square()
        p_LV /= p_LV.sum(-1, keepdim=True)
        # Where a few ids hold nearly all the mass, the others are compared by their share of the rest.
        likely_LV = p_LV > 2 * self.config.threshold
        rest_L1 = p_LV.masked_fill(likely_LV, 0).sum(-1, keepdim=True)
        low_rest_L1 = low_p_LV.masked_fill(likely_LV, 0).sum(-1, keepdim=True)
        low_p_LV *= rest_L1 / low_rest_L1.clamp(min=1e-30)
        wrong_LV = (p_LV - low_p_LV).abs() > self.config.threshold
        root_LV.masked_fill_(wrong_LV, 0)
        low_root_LV.masked_fill_(wrong_LV, 0)
        shift_1_L = 2 * (_log(root_LV.norm(dim=-1)) - _log(low_root_LV.norm(dim=-1)))
        shift_2_L = 2 * (_log(root_LV.sum(-1)) - _log(low_root_LV.sum(-1)))
        return wrong_LV, top_L - low_top_L + (shift_1_L + shift_2_L) / 2

    def _root(self, logits_LV: Tensor, top_L: Tensor) -> Tensor:
        """exp((z - max z) / 2), 0 for ids never emitted."""
        root_LV = ((logits_LV - top_L[:, None]) / 2).exp()
        mask_V = self.mask_on(logits_LV.device)
        return root_LV if mask_V is None else root_LV.masked_fill(mask_V, 0)

    def decode(self, arrays: Mapping[str, Tensor], temperature: float) -> DenseSignal:
        """Logits float32 [L, V] from ``wide``, ``coarse`` and ``fine`` [L, ...], and the ragged arrays [X].

        Raises
        ------
        CorruptStoreError
            An id lies outside the vocabulary.
        """
        parts = [arrays[name].float() for name in ("wide", "coarse") if name in arrays]
        if "fine" in arrays:
            parts.append(_signed(unpack_nibbles(arrays["fine"], self.counts[4])).float())
        logits_LV = self._logits(torch.cat(parts, dim=-1))
        rank_X = arrays["places"].long() + _PAGE * arrays["pages"].long()
        # On a GPU the lookup itself refuses, without waiting for it here.
        if rank_X.device.type == "cpu" and len(rank_X) and int(rank_X.max()) >= self.vocab_size:
            raise CorruptStoreError(
                f"Expected ranks of ids below {self.vocab_size}. Got {int(rank_X.max())}. Build the store again."
            )
        id_X = self.shared_on("ids", rank_X.device)[rank_X].long()
        counts_L = arrays["kept/lengths"].long()
        position_X = torch.repeat_interleave(counts_L, output_size=len(rank_X))
        value_X = arrays["values"].float() * self.config.value_step
        logits_LV.index_put_((position_X, id_X), value_X, accumulate=True)
        return DenseSignal(self.masked(logits_LV))

    def summary(self) -> str:
        """What is kept, in one line."""
        config = self.config
        return (
            f"{len(self.shared['bits'])} coefficients in steps of {config.step:g}, and ids wrong by more than "
            f"{config.threshold:g}"
        )

    def _basis(self, device: torch.device) -> Tensor:
        """float32 [R, V]."""
        return self.derived("basis as float32", device, lambda: self._scaled_basis().to(device))

    def _scaled_basis(self) -> Tensor:
        return self.shared["basis"].float() * self.shared["scales"]

    def _dual(self, device: torch.device) -> Tensor:
        """What gives coefficients: the basis times the weights, float32 [R, V]."""
        return self.derived("dual", device, lambda: self._basis(device) * self.shared_on("weights", device))

    def _ranks(self, device: torch.device) -> Tensor:
        """Rank by popularity of each id, int64 [V]; the inverse of the shared ``ids``."""
        return self.derived("ranks", device, lambda: self.shared_on("ids", device).long().argsort())


def _rounded(values: Tensor, most: int) -> Tensor:
    return values.round().clamp(-most, most)


def _in_parts(value_X: Tensor, repeats_X: Tensor) -> Tensor:
    """Numbers as sums of int8: ``repeats_X`` [X] parts of each, one after the other."""
    part_Y = torch.arange(int(repeats_X.sum()), device=value_X.device)
    part_Y -= (repeats_X.cumsum(0) - repeats_X).repeat_interleave(repeats_X)
    left_Y = value_X.abs().repeat_interleave(repeats_X) - part_Y * _MOST[8]
    return (left_Y.clamp(max=_MOST[8]) * value_X.sign().repeat_interleave(repeats_X)).to(torch.int8)


def _signed(nibbles: Tensor) -> Tensor:
    """Numbers from -7 to 7 of their nibbles in two's complement, int8."""
    return (nibbles.to(torch.int8) ^ 8) - 8


def _log(values: Tensor) -> Tensor:
    return values.clamp(min=1e-30).log()
