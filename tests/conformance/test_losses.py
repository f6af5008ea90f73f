"""What every loss component must satisfy; a new component is picked up by its file.

Components at tokens run through the distillation head, with the identity as its weight: hidden states are then
logits. The reference is written out densely, in float64, and differentiated by autograd.
"""

import inspect
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from kdstore.codecs import DenseSignal, Output
from kdstore.fidelity.divergence import DIVERGENCES
from kdtrain.losses import LOSSES, Divergence, EncoderLoss, LabelLoss, SampleLoss, SequenceLoss
from kdtrain.losses.fused import DistillationHead, Targets

from ..codec_tools import fitted_on

V, T = 31, 2.0
LENGTHS = [5, 1, 3, 8]
L = sum(LENGTHS)
LABELS_L = torch.randint(0, V, (L,), generator=torch.Generator().manual_seed(2))
KINDS = {name: LOSSES.get(name) for name in LOSSES.names()}
AT_TOKENS = [name for name, kind in KINDS.items() if issubclass(kind, LabelLoss | Divergence | SequenceLoss)]
OF_LABELS = [name for name, kind in KINDS.items() if issubclass(kind, LabelLoss | SequenceLoss)]
DIVERGENT = [name for name, kind in KINDS.items() if issubclass(kind, Divergence)]
# Those that are written out below; another one is held against finite differences.
WRITTEN_OUT = {"ce", "focal", "pans", *DIVERGENCES}
OF_ENCODER = [name for name, kind in KINDS.items() if issubclass(kind, EncoderLoss)]
CODECS = {
    "dense": {"dtype": "f32"}, "lowrank": {"rank": 8}, "topk": {"k": 5}, "topp": {}, "sampled": {"temperature": T},
}  # fmt: skip


def logits(seed, dtype=torch.float64, scale=2.0):
    return scale * torch.randn(L, V, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def targets(codec=None, teacher_LV=None, lengths=LENGTHS, labels_L=LABELS_L, rows=slice(None)):
    signal = codec.encode(Output(teacher_LV[rows])) if codec else {}
    return Targets(labels_L[rows], lengths, None, codec, signal, T)


def fused(name, student_LV, given, chunk=6, tile=4, coefficient=1.0):
    """The sum of one component, and its gradient by the student's logits."""
    linear = nn.Linear(V, V, bias=False, dtype=student_LV.dtype).requires_grad_(False)
    linear.weight.copy_(torch.eye(V))
    student_LV = student_LV.clone().requires_grad_()
    out = DistillationHead(linear, {name: KINDS[name]()}, chunk, tile)(student_LV, given, {name: coefficient})
    (gradient,) = torch.autograd.grad(out.total, student_LV)
    torch.testing.assert_close(out.total, coefficient * out.components[name])
    return out.components[name], gradient


def pans(q_NN):
    """One row's loss, written out: ``q_NN[j, i]`` is the probability of label i at position j."""
    length = len(q_NN)
    similar = 0
    for n in range(1, min(4, length) + 1):
        best = []
        for i in range(length - n + 1):
            found = [
                math.exp(-0.1 * abs(i - j)) * torch.stack([q_NN[j + m, i + m] for m in range(n)]).prod()
                for j in range(length - n + 1)
            ]
            best.append(torch.stack(found).max())
        similar = similar + torch.stack(best).mean()
    return 1 - similar / min(4, length)


def dense(name, student_LV, signal=None):
    """The sum of one component by autograd, from logits alone."""
    q_LV = torch.softmax(student_LV, -1)
    own_L = q_LV.gather(-1, LABELS_L[:, None])[:, 0]
    if name == "ce":
        return functional.cross_entropy(student_LV, LABELS_L, reduction="sum")
    if name == "focal":
        return (-0.25 * (1 - own_L) ** 2 * own_L.log()).sum()
    if name == "pans":
        rows = zip(q_LV.split(LENGTHS), LABELS_L.split(LENGTHS), strict=True)
        return torch.stack([pans(q_NV[:, labels_N]) for q_NV, labels_N in rows]).sum()
    return DIVERGENCES[name](signal, student_LV, T).sum()


@pytest.mark.parametrize("name", LOSSES.names())
def test_name_and_formula(name):
    assert KINDS[name].name == name
    assert LOSSES.origin(name).rpartition(".")[2] == name
    assert ".. math::" in inspect.getdoc(KINDS[name])
    assert KINDS[name].per in ("token", "row", "sample")


def test_every_component_is_of_a_kind_that_is_tested():
    sampled = [name for name, kind in KINDS.items() if issubclass(kind, SampleLoss)]
    assert {*AT_TOKENS, *OF_ENCODER, *sampled} == {*LOSSES.names()}


@pytest.mark.parametrize("name", [name for name in OF_LABELS if name in WRITTEN_OUT])
@pytest.mark.parametrize(("chunk", "tile"), [(6, 4), (1, 1), (100, 100)])
def test_values_and_gradients_from_labels_are_those_of_the_dense_reference(name, chunk, tile):
    value, gradient = fused(name, logits(1), targets(), chunk, tile)
    student_LV = logits(1).requires_grad_()
    expected = dense(name, student_LV)
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, student_LV)[0])


@pytest.mark.parametrize("name", [name for name in DIVERGENT if name in WRITTEN_OUT])
@pytest.mark.parametrize("codec_name", CODECS)
def test_values_and_gradients_of_stored_signals_are_those_of_the_dense_reference(name, codec_name):
    codec = fitted_on(codec_name, logits(0, torch.float32), CODECS[codec_name])
    if codec.divergences and name not in codec.divergences:
        pytest.skip(f"the codec {codec_name} does not serve {name}")
    given = targets(codec, logits(0, torch.float32))
    value, gradient = fused(name, logits(1), given)
    signal = codec.decode(given.signal, T)
    signal = type(signal)(
        **{key: item.double() if item.is_floating_point() else item for key, item in vars(signal).items()}
    )
    student_LV = logits(1).requires_grad_()
    expected = dense(name, student_LV, signal)
    torch.testing.assert_close(value, expected.detach(), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, student_LV)[0], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", AT_TOKENS)
def test_the_gradient_is_that_of_the_value(name):
    """By finite differences along random directions of hidden states, weight and bias, through an ordinary head."""
    codec = fitted_on("dense", logits(0, torch.float32), {"dtype": "f32"})
    given = targets(codec, logits(0, torch.float32))
    generator = torch.Generator().manual_seed(3)
    shapes = ((L, 3), (V, 3), (V,))
    point = [torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_() for shape in shapes]
    head = DistillationHead(nn.Linear(3, V, dtype=torch.float64), {name: KINDS[name]()}, 6, 4)

    def total(hidden_LD, weight_VD, bias_V):
        parameters = {"weight": weight_VD, "bias": bias_V}
        return torch.func.functional_call(head, parameters, (hidden_LD, given, {name: 0.7})).total

    gradients = torch.autograd.grad(3 * total(*point), point)
    for which, gradient in enumerate(gradients):
        step = 1e-6 * torch.randn(*shapes[which], dtype=torch.float64, generator=generator)
        ends = []
        for sign in (1, -1):
            moved = [x.detach() + sign * step if i == which else x.detach() for i, x in enumerate(point)]
            ends.append(3 * total(*moved))
        torch.testing.assert_close(ends[0] - ends[1], 2 * (gradient * step).sum(), rtol=1e-4, atol=1e-13)


@pytest.mark.parametrize("name", AT_TOKENS)
def test_the_gradient_moves_every_token(name):
    codec = fitted_on("dense", logits(0, torch.float32), {"dtype": "f32"})
    _, gradient = fused(name, logits(1), targets(codec, logits(0, torch.float32)))
    assert (gradient.abs().sum(-1) > 0).all()
    torch.testing.assert_close(gradient.sum(-1), torch.zeros(L, dtype=torch.float64), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", DIVERGENT)
@pytest.mark.parametrize("codec_name", ["dense", "topk"])
def test_zero_at_the_teacher_and_positive_elsewhere(name, codec_name):
    teacher_LV = logits(0, torch.float32)
    codec = fitted_on(codec_name, teacher_LV, CODECS[codec_name])
    given = targets(codec, teacher_LV)
    value, gradient = fused(name, teacher_LV.double(), given)
    # The head sees what the codec kept: float16 log-probabilities for topk.
    assert value.item() == pytest.approx(0, abs=1e-5 if codec_name == "dense" else 1e-3)
    assert gradient.abs().max() < (1e-6 if codec_name == "dense" else 2e-3)
    assert fused(name, logits(1), given)[0] > 0.1


@pytest.mark.parametrize("name", OF_LABELS)
def test_zero_for_a_student_that_is_certain_of_the_reference(name):
    certain_LV = 1e3 * functional.one_hot(LABELS_L, V).double()
    assert fused(name, certain_LV, targets())[0].item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", AT_TOKENS)
def test_sums_do_not_depend_on_how_rows_are_batched(name):
    codec = fitted_on("lowrank", logits(0, torch.float32), {"rank": 8})
    teacher_LV = logits(0, torch.float32)
    whole, gradient = fused(name, logits(1), targets(codec, teacher_LV))
    cut = sum(LENGTHS[:2])
    halves = [
        fused(name, logits(1)[rows], targets(codec, teacher_LV, lengths, rows=rows))
        for rows, lengths in ((slice(cut), LENGTHS[:2]), (slice(cut, L), LENGTHS[2:]))
    ]
    torch.testing.assert_close(sum(value for value, _ in halves), whole)
    torch.testing.assert_close(torch.cat([piece for _, piece in halves]), gradient)


@pytest.mark.parametrize("scale", [1e3, 1e6, 1e30])
@pytest.mark.parametrize("codec_name", ["dense", "topk"])
@pytest.mark.parametrize("name", AT_TOKENS)
def test_finite_for_extreme_logits(name, codec_name, scale):
    for teacher_LV, student_LV in [
        (logits(0, torch.float32), logits(1, torch.float32, scale)),
        (logits(0, torch.float32, min(scale, 1e6)), logits(1, torch.float32)),
    ]:
        codec = fitted_on(codec_name, teacher_LV, CODECS[codec_name])
        value, gradient = fused(name, student_LV, targets(codec, teacher_LV))
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", DIVERGENT)
def test_ids_never_emitted_have_no_part(name):
    """The teacher gives some ids no probability at all, and the student does."""
    teacher_LV = logits(0, torch.float32)
    teacher_LV[:, 20:25] = -torch.inf
    codec = fitted_on("dense", teacher_LV, {"dtype": "f32"})
    value, gradient = fused(name, logits(1), targets(codec, teacher_LV))
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()
    # Moving against the gradient takes probability from them.
    assert (gradient[:, 20:25] > 0).all()


@pytest.mark.parametrize("name", OF_ENCODER)
def test_losses_of_the_encoder(name):
    generator = torch.Generator().manual_seed(5)
    loss = KINDS[name](4, 3).double()
    pooled_BD = torch.randn(5, 4, dtype=torch.float64, generator=generator).requires_grad_()
    embedding_BE = torch.randn(5, 3, dtype=torch.float64, generator=generator)
    assert torch.autograd.gradcheck(lambda x: loss(x, embedding_BE), (pooled_BD,))
    (gradient,) = torch.autograd.grad(loss(pooled_BD, embedding_BE), pooled_BD)
    assert (gradient.abs().sum(-1) > 1e-6).all()
    # At the reference itself, whatever its length, the least value.
    nn.init.eye_(loss.projection.weight)
    nn.init.zeros_(loss.projection.bias)
    at = functional.pad(embedding_BE, (0, 1))
    assert loss(3 * at, embedding_BE) < loss(pooled_BD, embedding_BE)
    if name == "semantic":
        assert loss(3 * at, embedding_BE).item() == pytest.approx(0, abs=1e-9)
        split = loss(pooled_BD[:2], embedding_BE[:2]) + loss(pooled_BD[2:], embedding_BE[2:])
        torch.testing.assert_close(split, loss(pooled_BD, embedding_BE))


def test_contrastive_is_info_nce_and_takes_no_row_of_the_same_reference_as_a_negative():
    generator = torch.Generator().manual_seed(6)
    loss = KINDS["contrastive"](3, 3)
    nn.init.eye_(loss.projection.weight)
    nn.init.zeros_(loss.projection.bias)
    state_BD, gold_BE = torch.randn(4, 3, generator=generator), torch.randn(4, 3, generator=generator)
    gold_BE[3] = gold_BE[1]
    scores = functional.cosine_similarity(state_BD[:, None], gold_BE[None], dim=-1) / 0.1
    expected = 0.0
    for row, others in enumerate([[0, 1, 2, 3], [0, 1, 2], [0, 1, 2, 3], [0, 2, 3]]):
        expected += scores[row, others].logsumexp(0) - scores[row, row]
    torch.testing.assert_close(loss(state_BD, gold_BE), expected)


def test_half_precision_signals_are_served():
    teacher_LV = logits(0, torch.float32)
    codec = fitted_on("dense", teacher_LV, {"dtype": "f16"})
    value, _ = fused("kl", logits(1, torch.float32), targets(codec, teacher_LV))
    exact = dense("kl", logits(1, torch.float32), DenseSignal(teacher_LV))
    assert value.item() == pytest.approx(exact.item(), rel=1e-2)
