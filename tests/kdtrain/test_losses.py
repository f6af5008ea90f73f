"""Losses and gradients against closed forms and brute force in float64."""

import math

import pytest
import torch

from kdstore.codecs import DenseSignal, Output, SampledSignal, SparseSignal
from kdstore.errors import UnknownNameError, UsageError
from kdstore.fidelity.measure import _gradient
from kdtrain.config import LossConfig
from kdtrain.losses import LOSSES
from kdtrain.mix import Mix, distillation_mix

from ..codec_tools import fitted_on

L, V, K = 5, 11, 4


def random_logits(seed, scale=2.0):
    return scale * torch.randn(L, V, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def sparse(logits_LV, temperature, k=K):
    """The coarse-grained teacher, computed naively."""
    p_LV = torch.softmax(logits_LV / temperature, -1)
    ids_LK = logits_LV.topk(k).indices
    head_LK = p_LV.gather(-1, ids_LK)
    return SparseSignal(ids_LK, head_LK.log(), (1 - head_LK.sum(-1)).clamp(min=0).log())


def coarse(p_LV, ids_LK):
    """Probabilities of the candidates and of all others, one position after the other."""
    rows = []
    for p_V, ids_K in zip(p_LV, ids_LK.tolist(), strict=True):
        rest = sum(p_V[v] for v in range(V) if v not in ids_K)
        rows.append(torch.stack([*(p_V[v] for v in ids_K), rest]))
    return torch.stack(rows)


def kl(p_LC, q_LC):
    return (p_LC * (p_LC / q_LC).log()).sum()


def jsd(p_LC, q_LC):
    m_LC = (p_LC + q_LC) / 2
    return (kl(p_LC, m_LC) + kl(q_LC, m_LC)) / 2


def value_and_gradient(function, z_LV):
    z_LV = z_LV.clone().requires_grad_()
    value = function(z_LV)
    return value.detach(), torch.autograd.grad(value, z_LV)[0]


LABELS = torch.tensor([0, 3, 3, 10, 7])


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
@pytest.mark.parametrize(("name", "reference"), [("kl", kl), ("jsd", jsd)])
@pytest.mark.parametrize("kind", ["dense", "sparse", "all ids"])
def test_divergences_equal_brute_force(name, reference, kind, temperature):
    teacher_LV, student_LV = random_logits(0), random_logits(1)
    p_LV = torch.softmax(teacher_LV / temperature, -1)
    if kind == "dense":
        signal = DenseSignal(teacher_LV)
    else:
        signal = sparse(teacher_LV, temperature, K if kind == "sparse" else V)

    def expected(z_LV):
        q_LV = torch.softmax(z_LV / temperature, -1)
        if kind == "sparse":
            return temperature**2 * reference(coarse(p_LV, signal.ids_LK), coarse(q_LV, signal.ids_LK))
        return temperature**2 * reference(p_LV, q_LV)

    loss = LOSSES.get(name)()
    value, gradient = value_and_gradient(lambda z_LV: loss(z_LV, LABELS, signal, temperature), student_LV)
    wanted, wanted_gradient = value_and_gradient(expected, student_LV)
    torch.testing.assert_close(value, wanted, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient, wanted_gradient, rtol=1e-7, atol=1e-10)


def signal_of(kind, logits_LV, temperature):
    if kind == "dense":
        return DenseSignal(logits_LV)
    if kind == "sparse":
        return sparse(logits_LV, temperature)
    ids_LK, log_p_LV = torch.tensor([[3, 0, 7]] * L), torch.log_softmax(logits_LV / temperature, -1)
    weights_LK = torch.tensor([[0.6, 0.5, 0.0]] * L, dtype=torch.float64)
    return SampledSignal(ids_LK, weights_LK, log_p_LV.gather(-1, ids_LK))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize(
    ("name", "kind"), [("kl", "dense"), ("kl", "sparse"), ("kl", "sampled"), ("jsd", "dense"), ("jsd", "sparse")]
)
def test_fidelity_measures_the_gradient_that_is_trained(name, kind, temperature):
    """The angles that a store claims are those of the loss itself: gradient of the mix, weight and T included."""
    signal, student_LV = signal_of(kind, random_logits(0), temperature), random_logits(1)
    measured_LV = _gradient(name, signal, student_LV, temperature)
    mix = Mix({name: 0.25}, temperature)
    _, trained_LV = value_and_gradient(lambda z_LV: mix(z_LV, LABELS, signal).total, student_LV)
    assert measured_LV.abs().max() > 0
    torch.testing.assert_close(trained_LV, 0.25 * measured_LV)


def test_closed_form_gradients():
    teacher_LV, student_LV = random_logits(0), random_logits(1)
    signal = DenseSignal(teacher_LV)
    _, gradient = value_and_gradient(lambda z: LOSSES.get("kl")()(z, LABELS, signal, 4.0), student_LV)
    expected = 4 * (torch.softmax(student_LV / 4, -1) - torch.softmax(teacher_LV / 4, -1))
    torch.testing.assert_close(gradient, expected)
    value, gradient = value_and_gradient(lambda z: LOSSES.get("ce")()(z, LABELS, None, 4.0), student_LV)
    one_hot_LV = torch.nn.functional.one_hot(LABELS, V)
    torch.testing.assert_close(gradient, torch.softmax(student_LV, -1) - one_hot_LV)
    torch.testing.assert_close(value, -(torch.softmax(student_LV, -1).log() * one_hot_LV).sum())


@pytest.mark.parametrize("name", ["kl", "jsd"])
def test_coarse_graining_is_a_lower_bound(name):
    loss, teacher_LV, student_LV = LOSSES.get(name)(), random_logits(0), random_logits(1)
    full = loss(student_LV, LABELS, DenseSignal(teacher_LV), 2.0)
    assert 0 < loss(student_LV, LABELS, sparse(teacher_LV, 2.0), 2.0) < full


def test_jsd_is_bounded():
    apart = torch.eye(V, dtype=torch.float64)[:L] * 1e3
    value = LOSSES.get("jsd")()(apart, LABELS, DenseSignal(apart.roll(1, -1)), 1.0)
    assert value.item() == pytest.approx(L * math.log(2))


@pytest.mark.parametrize("name", ["kl", "jsd"])
def test_stored_signals_of_the_student_itself_give_nearly_zero(name):
    logits_LV = random_logits(0).float()
    for codec_name, config in [("topk", {"k": K}), ("dense", {"dtype": "f32"})]:
        codec = fitted_on(codec_name, logits_LV, config)
        signal = codec.decode(codec.encode(Output(logits_LV)), 2.0)
        assert LOSSES.get(name)()(logits_LV, LABELS, signal, 2.0).item() == pytest.approx(0, abs=1e-4)


def test_a_mix_weighs_and_reports_raw_sums():
    signal, student_LV = DenseSignal(random_logits(0)), random_logits(1).requires_grad_()
    out = distillation_mix(LossConfig(alpha=0.3, temperature=2.0, distillation="jsd"))(student_LV, LABELS, signal)
    ce, js = out.components["ce"], out.components["jsd"]
    assert out.total.item() == pytest.approx(0.3 * ce.item() + 0.7 * js.item())
    assert out.total.requires_grad
    assert not ce.requires_grad


def test_weight_zero_leaves_a_component_out():
    assert list(distillation_mix(LossConfig(alpha=1)).weights) == ["ce"]
    assert not distillation_mix(LossConfig(alpha=1)).needs_signal
    assert list(distillation_mix(LossConfig(alpha=0)).weights) == ["kl"]


def test_wrong_mixes_are_refused():
    with pytest.raises(UsageError, match="weight"):
        Mix({"ce": 0}, 1.0)
    with pytest.raises(UsageError, match="compares with the teacher"):
        distillation_mix(LossConfig(distillation="ce"))
    with pytest.raises(UnknownNameError, match="'kl'"):
        distillation_mix(LossConfig(distillation="kll"))
