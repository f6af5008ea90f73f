"""Hidden states and the head give the logits back to the stated error."""

import pytest
import torch
from torch import Tensor

from kdstore.codecs import Codec, Head, Output, Sample, fit_codec
from kdstore.errors import CapabilityError, InputError

from ..codec_tools import linear_output

V = 200


def fit(head: Head, **config: str) -> Codec:
    return fit_codec("hidden", config, Sample(hidden_FD=linear_output(4, V)[0].hidden_LD, head=head))


def stored_logits(codec: Codec, output: Output) -> Tensor:
    return codec.decode(codec.encode(output), 1.0).logits_LV


@pytest.mark.parametrize(("dtype", "greatest"), [("int8", 127), ("int4", 7)])
@pytest.mark.parametrize("scale", [0.0, 1e-4, 4.0, 1e4])
@pytest.mark.parametrize("width", [7, 8])
def test_every_logit_is_within_the_stated_error(dtype: str, greatest: int, scale: float, width: int) -> None:
    bias = torch.linspace(-3, 3, V)
    output, head = linear_output(50, V, scale=scale, width=width, bias=bias)
    usual, _ = linear_output(4, V, width=width)  # logits of scale 10,000 would look as if ids were switched off
    codec = fit_codec("hidden", {"dtype": dtype}, Sample(hidden_FD=usual.hidden_LD, head=head))
    arrays = codec.encode(output)
    step_L1 = arrays["step"].double()[:, None]
    assert output.hidden_LD is not None
    hidden_LD, weight_VD = output.hidden_LD.double(), head.weight_VD.double()
    assert (step_L1[:, 0] >= hidden_LD.abs().amax(-1) / greatest).all(), "levels cover the largest state"
    assert (step_L1[:, 0] <= hidden_LD.abs().amax(-1) / greatest * (1 + 2**-10) + 2**-24).all()
    exact_LV = torch.nn.functional.linear(hidden_LD, weight_VD, bias.double())
    # A rounded state is at most its exact value and half a step.
    rounded_LD = hidden_LD.abs() + step_L1 / 2
    head_LV = 2**-11 * rounded_LD @ weight_VD.abs().T + 2**-25 * rounded_LD.sum(-1, keepdim=True)
    bound_LV = step_L1 / 2 * weight_VD.abs().sum(-1) + head_LV
    error_LV = (codec.decode(arrays, 1.0).logits_LV - exact_LV).abs()
    assert (error_LV <= bound_LV + 1e-6 * (1 + exact_LV.abs().amax())).all()
    if scale == 4.0:
        assert error_LV.max() > bound_LV.max() / 20, "the bound says something"


def test_int4_lies_two_to_a_byte_the_low_nibble_first_and_eight_is_zero() -> None:
    head = Head(torch.eye(3))
    hidden = torch.tensor([[0.0, 7.0, -7.0]])
    codec = fit_codec("hidden", {"dtype": "int4"}, Sample(hidden_FD=hidden, head=head))
    arrays = codec.encode(Output(head.logits(hidden), hidden))
    assert arrays["states"].tolist() == [[0xF8, 0x01]]
    assert arrays["step"].tolist() == [1.0]
    assert codec.decode(arrays, 1.0).logits_LV.tolist() == [[0.0, 7.0, -7.0]]


def test_a_teacher_without_linear_head_is_refused_and_the_fix_is_named() -> None:
    with pytest.raises(CapabilityError, match=r"Got one with another head.*--codec lowrank or --codec dense"):
        fit_codec("hidden", {}, Sample(logits_FV=torch.zeros(3, V)))
    output, head = linear_output(3, V)
    with pytest.raises(CapabilityError, match=r"Got logits alone.*--codec lowrank or --codec dense"):
        fit(head).encode(Output(output.logits_LV))


def test_a_head_beyond_half_precision_is_refused() -> None:
    with pytest.raises(CapabilityError, match=r"fit into float16. Got 100000"):
        fit(Head(torch.full((V, 8), 1e5)))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e8])
def test_hidden_states_beyond_any_step_are_refused_with_their_place(bad: float) -> None:
    output, head = linear_output(4, V)
    assert output.hidden_LD is not None
    output.hidden_LD[2, 3] = bad
    with pytest.raises(InputError, match=r"label position 2"):
        fit(head).encode(output)


def test_hidden_states_of_another_width_are_refused() -> None:
    output, _ = linear_output(4, V, width=9)
    with pytest.raises(InputError, match=r"width 8, the head's. Got 9"):
        fit(linear_output(0, V)[1]).encode(output)


def test_the_bias_is_kept_where_there_is_one() -> None:
    bias = torch.linspace(-5, 5, V)
    output, head = linear_output(20, V, bias=bias)
    with_bias, without = fit(head), fit(Head(head.weight_VD))
    assert sorted(with_bias.shared) == ["bias", "head"]
    assert sorted(without.shared) == ["head"]
    difference_LV = stored_logits(with_bias, output) - stored_logits(without, output)
    torch.testing.assert_close(difference_LV, bias.expand(20, -1), atol=1e-5, rtol=1e-5)
