"""Dense forms keep every logit to the stated error, in steps of a position's own."""

import pytest
import torch
from torch import Tensor

from kdstore.codecs import Output
from kdstore.codecs._integers import half_not_below, pack_nibbles, unpack_nibbles
from kdstore.codecs._logits import centre

from ..codec_tools import fitted_on


def logits(rows: int, vocab: int, scale: float) -> Tensor:
    return torch.randn(rows, vocab, generator=torch.Generator().manual_seed(3)) * scale + 50


def bound(dtype: str, centred_LV: Tensor) -> Tensor:
    """The docstring's, float64 [L, V]."""
    arithmetic_L1 = 2**-21 * centred_LV.abs().amax(-1, keepdim=True)
    if dtype == "f32":
        return arithmetic_L1.expand_as(centred_LV)
    if dtype == "f16":
        return 2**-11 * centred_LV.abs() + 2**-25 + arithmetic_L1
    range_L1 = centred_LV.amax(-1, keepdim=True) - centred_LV.amin(-1, keepdim=True)
    return (range_L1 / {"int8": 255, "int4": 15}[dtype] / 2 + arithmetic_L1).expand_as(centred_LV)


@pytest.mark.parametrize("dtype", ["f32", "f16", "int8", "int4"])
@pytest.mark.parametrize("scale", [0.0, 1e-3, 4.0, 3000.0])
@pytest.mark.parametrize("vocab", [1, 2, 501])
def test_every_logit_is_within_the_stated_error(dtype: str, scale: float, vocab: int) -> None:
    values = logits(30, vocab, scale)
    codec = fitted_on("dense", logits(30, vocab, 1.0), {"dtype": dtype})
    found = codec.decode(codec.encode(Output(values)), 1.0).logits_LV
    expected = centre(values).double()
    assert ((found - expected).abs() <= bound(dtype, expected)).all()


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_ids_that_are_never_emitted_do_not_widen_the_steps(dtype: str) -> None:
    values = logits(5, 40, 2.0)
    masked = torch.cat([values, torch.full((5, 3), -1e4)], dim=-1)
    codec = fitted_on("dense", masked, {"dtype": dtype})
    arrays = codec.encode(Output(masked))
    plain = fitted_on("dense", values, {"dtype": dtype}).encode(Output(values))
    torch.testing.assert_close(arrays["step"], plain["step"])
    found = codec.decode(arrays, 1.0).logits_LV
    assert torch.isneginf(found[:, 40:]).all()
    assert torch.isfinite(found[:, :40]).all()


def test_int4_lies_two_to_a_byte_the_low_nibble_first() -> None:
    values = torch.tensor([[0.0, 15.0, 3.0, 4.0, 10.0]])
    codec = fitted_on("dense", values, {"dtype": "int4"})
    arrays = codec.encode(Output(values))
    assert arrays["levels"].tolist() == [[0xF0, 0x43, 0x0A]]
    assert arrays["step"].tolist() == [1.0]
    assert arrays["low"].item() == pytest.approx(-6.4)


def test_huge_logits_stay_finite_in_half_precision() -> None:
    values = torch.tensor([[0.0, 0.0, 3e5]])
    codec = fitted_on("dense", torch.zeros(1, 3))
    assert torch.softmax(codec.decode(codec.encode(Output(values)), 1.0).logits_LV, -1).tolist() == [[0, 0, 1]]


@pytest.mark.parametrize("width", [0, 1, 2, 7])
def test_nibbles_come_back(width: int) -> None:
    values = torch.randint(0, 16, (5, width), generator=torch.Generator().manual_seed(1))
    packed = pack_nibbles(values)
    assert packed.shape == (5, (width + 1) // 2)
    assert torch.equal(unpack_nibbles(packed, width).long(), values)


def test_half_not_below_is_the_next_half() -> None:
    halves = torch.arange(0, 0x7C00, dtype=torch.int16).view(torch.float16)  # every one from 0 to the largest
    assert torch.equal(half_not_below(halves.float()), halves)
    between = (halves[:-1].float() + halves[1:].float()) / 2
    assert torch.equal(half_not_below(between), halves[1:])
    assert half_not_below(torch.tensor([70000.0])).isinf().all()
