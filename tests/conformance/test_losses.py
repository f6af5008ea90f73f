"""What every loss component must satisfy; a new component is picked up by its file."""

import inspect

import pytest
import torch

from kdstore.codecs import DenseSignal, Output, SparseSignal
from kdtrain.losses import LOSSES

from ..codec_tools import fitted

L, V, T = 12, 31, 2.0
LABELS_L = torch.randint(0, V, (L,), generator=torch.Generator().manual_seed(2))

pytestmark = pytest.mark.parametrize("name", LOSSES.names())


def logits(seed, dtype=torch.float64, scale=2.0):
    return scale * torch.randn(L, V, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def signals(logits_LV, dtype=torch.float64):
    """A dense and a sparse signal of the same teacher."""
    p_LV = torch.softmax(logits_LV.double() / T, -1)
    ids_LK = logits_LV.topk(5).indices
    head_LK = p_LV.gather(-1, ids_LK)
    tail_L = p_LV.scatter(-1, ids_LK, 0).sum(-1)
    return DenseSignal(logits_LV), SparseSignal(ids_LK, head_LK.log().to(dtype), tail_L.log().to(dtype))


def part(signal, rows):
    """The signal of some positions."""
    return type(signal)(**{name: values[rows] for name, values in vars(signal).items()})


def gradient(component, student_LV, labels_L, signal):
    student_LV = student_LV.clone().requires_grad_()
    value = component(student_LV, labels_L, signal, T)
    assert value.shape == ()
    return value.detach(), torch.autograd.grad(value, student_LV)[0]


def test_name_and_formula(name):
    component = LOSSES.get(name)
    assert component.name == name
    assert LOSSES.origin(name).rpartition(".")[2] == name
    assert ".. math::" in inspect.getdoc(component)


@pytest.mark.parametrize("kind", [0, 1])
def test_gradient_reaches_the_student_and_is_right(name, kind):
    component, signal = LOSSES.get(name)(), signals(logits(0))[kind]
    _, found = gradient(component, logits(1), LABELS_L, signal)
    assert (found.abs().sum(-1) > 0).all()
    assert torch.autograd.gradcheck(
        lambda z_LV: component(z_LV, LABELS_L, signal, T), logits(1).requires_grad_(), atol=1e-6
    )


@pytest.mark.parametrize("kind", [0, 1])
def test_zero_at_the_teacher_and_positive_elsewhere(name, kind):
    component, signal = LOSSES.get(name)(), signals(logits(0))[kind]
    if component.needs_signal:
        assert component(logits(0), LABELS_L, signal, T).item() == pytest.approx(0, abs=1e-9)
        assert component(logits(1), LABELS_L, signal, T) > 0
    else:
        # A token loss vanishes for a student that is certain of the reference.
        certain_LV = 1e3 * torch.nn.functional.one_hot(LABELS_L, V).double()
        assert component(certain_LV, LABELS_L, None, T).item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("kind", [0, 1])
def test_sums_do_not_depend_on_how_tokens_are_batched(name, kind):
    component, signal = LOSSES.get(name)(), signals(logits(0))[kind]
    whole, whole_gradient = gradient(component, logits(1), LABELS_L, signal)
    halves = [
        gradient(component, logits(1)[rows], LABELS_L[rows], part(signal, rows)) for rows in (slice(5), slice(5, L))
    ]
    torch.testing.assert_close(sum(value for value, _ in halves), whole)
    torch.testing.assert_close(torch.cat([piece for _, piece in halves]), whole_gradient)


@pytest.mark.parametrize("scale", [1e3, 1e6, 1e30])
@pytest.mark.parametrize("kind", [0, 1])
def test_finite_for_extreme_logits(name, kind, scale):
    component = LOSSES.get(name)()
    for teacher_LV, student_LV in [
        (logits(0, torch.float32), logits(1, torch.float32, scale)),
        (logits(0, torch.float32, scale), logits(1, torch.float32)),
    ]:
        value, found = gradient(component, student_LV, LABELS_L, signals(teacher_LV, torch.float32)[kind])
        assert torch.isfinite(value)
        assert torch.isfinite(found).all()


def test_empty_tails_are_served(name):
    """A teacher whose stored tail mass is exactly zero, from the codec itself."""
    teacher_LV = logits(0, torch.float32, 1e5)
    codec = fitted("topk", V, {"k": 5})
    signal = codec.decode(codec.encode(Output(teacher_LV)), T)
    assert torch.isinf(signal.log_tail_L).any()
    value, found = gradient(LOSSES.get(name)(), logits(1, torch.float32), LABELS_L, signal)
    assert torch.isfinite(value)
    assert torch.isfinite(found).all()


def test_half_precision_signals_are_served(name):
    codec = fitted("dense", V, {"dtype": "f16"})
    signal = codec.decode(codec.encode(Output(logits(0, torch.float32))), T)
    value, _ = gradient(LOSSES.get(name)(), logits(1, torch.float32), LABELS_L, signal)
    assert torch.isfinite(value)
