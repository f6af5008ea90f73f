"""The distillation head beside the dense path: tied heads, frozen ones, autocast, accumulation, memory."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from kdstore.codecs import Output
from kdstore.errors import CapabilityError
from kdstore.fidelity.divergence import DIVERGENCES
from kdstore.fidelity.measure import _gradient
from kdtrain.losses import LOSSES
from kdtrain.losses.fused import DistillationHead, Targets

from ..codec_tools import fitted_on

L, V, D, T = 40, 301, 16, 1.7
COEFFICIENTS = {"ce": 0.4 / L, "kl": 0.6 / L}


@pytest.fixture(scope="module")
def teacher():
    generator = torch.Generator().manual_seed(0)
    logits_LV = 2 * torch.randn(L, V, generator=generator)
    codec = fitted_on("lowrank", logits_LV, {"rank": 16})
    return codec, codec.encode(Output(logits_LV))


def inputs():
    generator = torch.Generator().manual_seed(1)
    hidden_LD = torch.randn(L, D, generator=generator)
    return hidden_LD, torch.randint(0, V, (L,), generator=generator)


def make_head(chunk=16, tile=5, **names):
    torch.manual_seed(2)
    components = {name: LOSSES.get(name)() for name in names or COEFFICIENTS}
    return DistillationHead(nn.Linear(D, V, bias=False), components, chunk, tile)


def dense(linear, hidden_LD, labels_L, teacher, scale=1.0):
    codec, arrays = teacher
    z_LV = linear(hidden_LD).float() * scale
    log_p_LV = codec.decode(arrays, T).log_probs(T)
    kl = T**2 * functional.kl_div(functional.log_softmax(z_LV / T, -1), log_p_LV, log_target=True, reduction="sum")
    return COEFFICIENTS["ce"] * functional.cross_entropy(z_LV, labels_L, reduction="sum") + COEFFICIENTS["kl"] * kl


def targets(labels_L, teacher):
    return Targets(labels_L, codec=teacher[0], signal=teacher[1], temperature=T)


def test_a_head_tied_to_the_input_embedding(teacher):
    """The embedding's gradient is that of both of its uses."""
    head, (hidden_LD, labels_L) = make_head(), inputs()
    embedding = nn.Embedding(V, D)
    head.weight = embedding.weight
    found, expected = (
        torch.autograd.grad(total, embedding.weight)[0]
        for total in (
            head(embedding(labels_L) + hidden_LD, targets(labels_L, teacher), COEFFICIENTS).total,
            dense(head, embedding(labels_L) + hidden_LD, labels_L, teacher),
        )
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


def test_a_frozen_head_gets_no_gradient_and_costs_no_product(teacher, monkeypatch):
    head, (hidden_LD, labels_L) = make_head(), inputs()
    head.requires_grad_(False)
    hidden_LD.requires_grad_()
    shapes = []
    addmm = torch.Tensor.addmm_
    monkeypatch.setattr(
        torch.Tensor, "addmm_", lambda self, *a, **k: (shapes.append(self.shape), addmm(self, *a, **k))[1]
    )
    out = head(hidden_LD, targets(labels_L, teacher), COEFFICIENTS)
    out.total.backward()
    assert head.weight.grad is None
    assert {shape[-1] for shape in shapes} == {D}
    assert (V, D) not in shapes
    expected = torch.autograd.grad(dense(head, hidden_LD, labels_L, teacher), hidden_LD)[0]
    torch.testing.assert_close(hidden_LD.grad, expected, rtol=1e-4, atol=1e-7)


def test_accumulated_batches_add_up(teacher):
    head, (hidden_LD, labels_L) = make_head(), inputs()
    codec, arrays = teacher
    head(hidden_LD, targets(labels_L, teacher), COEFFICIENTS).total.backward()
    whole, head.weight.grad = head.weight.grad, None
    sizes = (13, L - 13)
    pieces = zip(hidden_LD.split(sizes), labels_L.split(sizes), codec.pieces(arrays, sizes), strict=True)
    for hidden, labels, signal in pieces:
        head(hidden, Targets(labels, codec=codec, signal=signal, temperature=T), COEFFICIENTS).total.backward()
    torch.testing.assert_close(head.weight.grad, whole, rtol=1e-5, atol=1e-8)


def test_bf16_products_and_float32_everything_else(teacher):
    head, (hidden_LD, labels_L) = make_head(), inputs()
    hidden_LD.requires_grad_()
    exact = head(hidden_LD, targets(labels_L, teacher), COEFFICIENTS)
    exact.total.backward()
    gradients = [hidden_LD.grad.clone(), head.weight.grad.clone()]
    hidden_LD.grad = head.weight.grad = None
    with torch.autocast("cpu", torch.bfloat16):
        half = head(hidden_LD, targets(labels_L, teacher), COEFFICIENTS)
    half.total.backward()
    assert half.total.dtype == torch.float32
    assert half.total.item() == pytest.approx(exact.total.item(), rel=1e-2)
    for found, expected in zip((hidden_LD.grad, head.weight.grad), gradients, strict=True):
        assert found.dtype == torch.float32
        assert functional.cosine_similarity(found.flatten(), expected.flatten(), dim=0) > 0.999


def test_small_coefficients_survive_half_precision(teacher):
    """A coefficient as of a step of a million tokens; fp16 alone would round its gradients away."""
    head, (hidden_LD, labels_L) = make_head().half(), inputs()
    scaler, found = 2.0**16, []
    for scale in (1.0, 1e-6):
        hidden_LD_half = hidden_LD.half().requires_grad_()
        total = head(hidden_LD_half, targets(labels_L, teacher), {"ce": scale, "kl": scale}).total
        (total * (scaler if scale < 1 else 1.0)).backward()
        found.append(hidden_LD_half.grad.float() / (scale * scaler if scale < 1 else 1.0))
    torch.testing.assert_close(found[1], found[0], rtol=5e-2, atol=2e-3)
    assert found[1].abs().max() > 0.1


def test_without_gradients_the_value_is_the_same(teacher):
    head, (hidden_LD, labels_L) = make_head(), inputs()
    with torch.no_grad():
        out = head(hidden_LD, targets(labels_L, teacher), COEFFICIENTS)
    assert not out.total.requires_grad
    torch.testing.assert_close(out.total, head(hidden_LD, targets(labels_L, teacher), COEFFICIENTS).total.detach())


def test_weights_of_tokens_multiply_label_losses_alone(teacher):
    head, (hidden_LD, labels_L) = make_head(ce=1, kl=1), inputs()
    weights_L = torch.linspace(0.5, 3, L)
    given = targets(labels_L, teacher)
    weighted = Targets(labels_L, (), weights_L, given.codec, given.signal, T)
    plain, out = (head(hidden_LD, one, COEFFICIENTS).components for one in (given, weighted))
    assert out["kl"] == plain["kl"]
    each_L = functional.cross_entropy(head(hidden_LD), labels_L, reduction="none")
    torch.testing.assert_close(out["ce"], (each_L * weights_L).sum().detach())


@pytest.mark.parametrize("name", ["ce", "kl", "pans"])
def test_no_tokens_give_nothing(teacher, name):
    codec, arrays = teacher
    head = make_head(**{name: 1})
    none = Targets(torch.zeros(0, dtype=torch.long), [0], None, codec, next(codec.pieces(arrays, [0, L])))
    out = head(torch.zeros(0, D, requires_grad=True), none, {name: 1.0})
    out.total.backward()
    assert out.total.item() == 0
    assert not head.weight.grad.any()


def test_rows_without_labels_have_no_part():
    head, (hidden_LD, labels_L) = make_head(pans=1), inputs()
    found = [
        head(hidden_LD, Targets(labels_L, lengths), {"pans": 1.0}).total.item()
        for lengths in ([15, 25], [15, 0, 25], [0, 15, 25, 0])
    ]
    assert found[0] == found[1] == found[2]


def test_a_divergence_without_a_signal_is_refused():
    head, (hidden_LD, labels_L) = make_head(), inputs()
    with pytest.raises(CapabilityError, match="signal"):
        head(hidden_LD, Targets(labels_L), COEFFICIENTS)


def test_hidden_states_alone_give_logits():
    head, (hidden_LD, _) = make_head(), inputs()
    torch.testing.assert_close(head(hidden_LD), hidden_LD @ head.weight.T)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize(
    ("name", "codec_name"),
    [(name, codec) for name in DIVERGENCES for codec in ("dense", "topk")] + [("kl", "sampled")],
)
def test_fidelity_measures_the_gradient_that_is_trained(name, codec_name, temperature):
    """The angles that a store claims are those of the loss itself, weight and T included."""
    generator = torch.Generator().manual_seed(4)
    teacher_LV, student_LV = (2 * torch.randn(L, V, generator=generator) for _ in range(2))
    settings = {"dense": {"dtype": "f32"}, "topk": {"k": 8}, "sampled": {"temperature": temperature}}
    codec = fitted_on(codec_name, teacher_LV, settings[codec_name])
    signal = codec.encode(Output(teacher_LV))
    measured_LV = _gradient(name, codec.decode(signal, temperature), student_LV, temperature)
    head = DistillationHead(nn.Linear(V, V, bias=False), {name: LOSSES.get(name)()}, 16, 5)
    nn.init.eye_(head.weight)
    student_LV.requires_grad_()
    given = Targets(torch.zeros(L, dtype=torch.long), codec=codec, signal=signal, temperature=temperature)
    (trained_LV,) = torch.autograd.grad(head(student_LV, given, {name: 0.25}).total, student_LV)
    assert measured_LV.abs().max() > 0
    torch.testing.assert_close(trained_LV, 0.25 * measured_LV, rtol=1e-4, atol=1e-6)


def test_jsd_is_bounded():
    apart_LV = 1e3 * torch.eye(V)[:L]
    codec = fitted_on("dense", apart_LV.roll(1, -1), {"dtype": "f32"})
    head = DistillationHead(nn.Linear(V, V, bias=False), {"jsd": LOSSES.get("jsd")()})
    nn.init.eye_(head.weight)
    given = Targets(torch.zeros(L, dtype=torch.long), codec=codec, signal=codec.encode(Output(apart_LV.roll(1, -1))))
    assert head(apart_LV, given, {"jsd": 1.0}).total.item() == pytest.approx(L * math.log(2), rel=1e-4)


def test_a_second_backward_pass_is_refused(teacher):
    head, (hidden_LD, labels_L) = make_head(), inputs()
    total = head(hidden_LD, targets(labels_L, teacher), COEFFICIENTS).total
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="one backward pass"):
        total.backward()
