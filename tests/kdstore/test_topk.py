"""Top-k keeps the head exactly and the tail's mass exactly, at the kept temperatures and no other."""

import pytest
import torch

from kdstore.codecs import Output, SparseSignal
from kdstore.codecs.topk import TopK
from kdstore.errors import CapabilityError, UsageError

from ..codec_tools import fitted_on


def encode(values: torch.Tensor, **config: object) -> tuple[TopK, dict[str, torch.Tensor]]:
    codec = fitted_on("topk", values, config)
    assert isinstance(codec, TopK)
    return codec, codec.encode(Output(values))


def assert_within_the_bound(signal: SparseSignal, values: torch.Tensor, temperature: float) -> None:
    """The bound that the docstrings of `topk` and `topp` state, over the candidates that are no filling."""
    listed_LK = ~torch.isneginf(signal.log_probs_LK)
    log_p_LK = torch.log_softmax(values.double() / temperature, -1).gather(-1, signal.ids_LK)
    log_p1_LK = torch.log_softmax(values.double(), -1).gather(-1, signal.ids_LK)
    largest_L = log_p1_LK.abs().masked_fill(~listed_LK, 0).amax(-1)
    head_L = log_p_LK.exp().masked_fill(~listed_LK, 0).sum(-1)
    bound_L = 2**-10 * largest_L / temperature + 2**-10 + 2**-24 / head_L
    error_LK = (signal.log_probs_LK.double() - log_p_LK).abs().masked_fill(~listed_LK, 0)
    assert (error_LK <= bound_L[:, None]).all()
    tail_L = torch.log((1 - head_L).clamp(min=0))
    torch.testing.assert_close(signal.log_tail_L.double(), tail_L, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0, 12.0])
def test_head_and_tail_are_the_teachers(temperature: float, scale: float) -> None:
    values = torch.randn(64, 1000, generator=torch.Generator().manual_seed(1)) * scale
    codec, arrays = encode(values, k=16)
    assert_within_the_bound(codec.decode(arrays, temperature), values, temperature)


def test_a_temperature_without_tail_is_refused_and_the_fix_is_named() -> None:
    codec, arrays = encode(torch.randn(2, 50))
    with pytest.raises(CapabilityError, match=r"keeps \(1, 2, 4\). Got 3.*temperatures=\[1, 2, 4, 3\]"):
        codec.decode(arrays, 3.0)


@pytest.mark.parametrize("temperatures", [[], [1, 1], [0], [1000]])
def test_wrong_temperatures_are_refused(temperatures: list[float]) -> None:
    with pytest.raises(UsageError, match="temperatures"):
        encode(torch.randn(2, 50), temperatures=temperatures)


def test_nothing_is_left_outside_when_k_covers_the_vocabulary() -> None:
    values = torch.randn(3, 8)
    codec, arrays = encode(values, k=32)
    signal = codec.decode(arrays, 2.0)
    assert signal.ids_LK.shape == (3, 8)
    assert torch.isneginf(signal.log_tail_L).all()
    expected = torch.softmax(values / 2, -1).gather(-1, signal.ids_LK)
    torch.testing.assert_close(signal.log_probs_LK.exp(), expected, rtol=2e-3, atol=1e-6)


def test_nothing_is_left_outside_when_k_covers_all_ids_that_are_emitted() -> None:
    values = torch.randn(3, 12)
    values[:, 8:] = -torch.inf
    codec, arrays = encode(values, k=10)
    signal = codec.decode(arrays, 1.0)
    assert signal.ids_LK.sort(-1).values.tolist() == [list(range(8))] * 3
    assert torch.isneginf(signal.log_tail_L).all()


def test_ties_keep_k_distinct_ids() -> None:
    codec, arrays = encode(torch.zeros(2, 100), k=10)
    signal = codec.decode(arrays, 1.0)
    assert all(len(set(row)) == 10 for row in signal.ids_LK.tolist())
    torch.testing.assert_close(signal.log_tail_L.exp(), torch.full((2,), 0.9), rtol=1e-3, atol=0)


def test_a_flat_huge_vocabulary_leaves_the_head_a_finite_mass() -> None:
    codec, arrays = encode(torch.zeros(1, 262_144), k=1)
    assert torch.isfinite(codec.decode(arrays, 4.0).log_probs_LK).all()
