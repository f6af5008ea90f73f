"""Draws are unbiased for any function of the vocabulary, and the same however positions are batched."""

import pytest
import torch
from torch import Tensor

from kdstore.codecs import DenseSignal, Output, SampledSignal
from kdstore.errors import CapabilityError, UsageError
from kdstore.fidelity.divergence import kl

from ..codec_tools import fitted_on

V = 60


def logits(rows: int, seed: int = 0, scale: float = 2.0) -> Tensor:
    return torch.randn(rows, V, generator=torch.Generator().manual_seed(seed)) * scale


def draw(values: Tensor, temperature: float = 1.0, **config: object) -> SampledSignal:
    codec = fitted_on("sampled", values, {"temperature": temperature, **config})
    return codec.decode(codec.encode(Output(values)), temperature)


def weights(signal: SampledSignal) -> Tensor:
    """Weight of every id, float64 [L, V]."""
    dense_LV = torch.zeros(len(signal.ids_LK), V, dtype=torch.float64)
    return dense_LV.scatter_add(-1, signal.ids_LK, signal.weights_LK.double())


@pytest.mark.parametrize(("tau", "temperature"), [(1.0, 1.0), (1.0, 2.0), (0.5, 1.0), (0.8, 4.0)])
def test_the_mean_over_seeds_is_that_of_the_teacher(tau: float, temperature: float) -> None:
    values, seeds = logits(4), 2000
    p_LV = torch.softmax(values.double() / temperature, -1)
    sample = torch.stack([weights(draw(values, temperature, draws=10, tau=tau, seed=s)) for s in range(seeds)])
    error = sample.std(0) / seeds**0.5
    # Every id for itself, which is every f; 5 standard errors, and float16.
    assert ((sample.mean(0) - p_LV).abs() <= 5 * error + 1e-3 * p_LV + 2e-4).all()
    f_V = torch.linspace(-1, 3, V, dtype=torch.float64)
    means, deviation = (sample @ f_V).mean(0), (sample @ f_V).std(0)
    assert ((means - p_LV @ f_V).abs() <= 5 * deviation / seeds**0.5 + 1e-3).all()
    assert (deviation > 0).all()


def test_the_mean_gradient_is_the_full_teachers() -> None:
    """Over many positions of equal teachers up to a tiny difference, as over many tokens of a batch."""
    values = logits(1).expand(4000, -1) + 1e-4 * logits(4000, seed=1)
    student_LV = logits(1, seed=2).expand(4000, -1).clone().requires_grad_()
    gradients = [
        torch.autograd.grad(kl(signal, student_LV, 2.0).sum(), student_LV)[0].mean(0)
        for signal in (draw(values, 2.0, draws=20, tau=0.7), DenseSignal(values))
    ]
    torch.testing.assert_close(*gradients, atol=4e-3, rtol=0)


def test_draws_spread_less_than_independent_ones() -> None:
    values, draws = logits(1), 20
    counts = torch.stack([weights(draw(values, draws=draws, seed=s)) * draws for s in range(500)])
    r_V = torch.softmax(values.double(), -1)[0]
    assert (counts.var(0)[0] <= 0.26).all()
    assert ((counts[:, 0] - draws * r_V).abs() < 1 + 0.01).all(), "a count is N r rounded up or down"


def test_weights_and_log_probs_are_what_the_docstring_says() -> None:
    values, T, tau, draws = logits(50), 2.0, 0.6, 30
    signal = draw(values, T, draws=draws, tau=tau)
    log_p_LV = torch.log_softmax(values.double() / T, -1)
    r_LV = torch.softmax(values.double() / T * tau, -1)
    kept = signal.weights_LK > 0
    log_p_LK = log_p_LV.gather(-1, signal.ids_LK)
    assert ((signal.log_probs_LK - log_p_LK).abs() <= 2**-11 * log_p_LK.abs() + 1e-6).all()
    counts_LK = signal.weights_LK * draws * r_LV.gather(-1, signal.ids_LK) / log_p_LK.exp()
    whole_LK = counts_LK.round()
    assert ((counts_LK - whole_LK).abs() <= 2**-10 * whole_LK + 1e-4).all()
    assert (whole_LK[kept] >= 1).all()
    assert (whole_LK.sum(-1) == draws).all()
    for row, slots in zip(signal.ids_LK, kept, strict=True):
        assert len(set(row[slots].tolist())) == slots.sum()


def test_draws_depend_on_the_seed_and_the_logits_and_nothing_else() -> None:
    values = logits(40, scale=0.5)
    first = draw(values, draws=5)
    assert torch.equal(draw(values.clone(), draws=5).ids_LK, first.ids_LK)
    assert torch.equal(draw(values.flip(0), draws=5).ids_LK.flip(0), first.ids_LK)
    assert not torch.equal(draw(values, draws=5, seed=1).ids_LK, first.ids_LK)
    nearly = values + 1e-6 * torch.eye(40, V)
    changed = (draw(nearly, draws=5).ids_LK != first.ids_LK).any(-1)
    assert changed.float().mean() > 0.9, "positions are drawn independently, even of nearly equal logits"


def test_equal_rows_of_zeros_are_drawn_anew_with_each_seed() -> None:
    seen = {tuple(draw(torch.zeros(1, V), draws=3, seed=s).ids_LK[0].tolist()) for s in range(50)}
    assert len(seen) > 10


def test_filling_carries_nothing_and_breaks_nothing() -> None:
    values = logits(3)
    values[1, 9] = 80.0  # certain: one id, 49 slots of filling
    signal = draw(values)
    assert signal.ids_LK.shape == (3, 50)
    assert signal.ids_LK[1].tolist() == [9] * 50
    assert signal.weights_LK[1].tolist() == [1.0] + [0.0] * 49
    student_LV = logits(3, seed=1)
    student_LV[:, 0] = -torch.inf  # a student that cannot say an id that no draw stands for
    assert not (signal.ids_LK == 0).any()
    assert kl(signal, student_LV, 1.0).isfinite().all()


def test_another_temperature_is_refused_and_the_fix_is_named() -> None:
    codec = fitted_on("sampled", logits(2), {"temperature": 2.0})
    with pytest.raises(CapabilityError, match=r"draws \(2\). Got 1. .*--codec-set temperature=1"):
        codec.check_temperature(1.0)


@pytest.mark.parametrize("config", [{"draws": 0}, {"tau": 1.5}, {"tau": 0.1}, {"temperature": 0}, {"seed": -1}])
def test_settings_out_of_range_are_refused(config: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(config))):
        fitted_on("sampled", logits(2), config)
