"""Top-k keeps the head exactly and the tail's mass exactly, at the kept temperatures and no other."""

import pytest
import torch

from kdstore.codecs import build_codec
from kdstore.codecs.topk import TopK
from kdstore.errors import CapabilityError


def encode(values: torch.Tensor, **config: object) -> tuple[TopK, dict[str, torch.Tensor]]:
    codec = build_codec("topk", config, values.shape[1])
    assert isinstance(codec, TopK)
    return codec, codec.encode(values)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("scale", [0.5, 3.0, 12.0])
def test_head_and_tail_are_the_teachers(temperature: float, scale: float) -> None:
    values = torch.randn(64, 1000, generator=torch.Generator().manual_seed(1)) * scale
    codec, arrays = encode(values, k=16)
    signal = codec.decode(arrays, temperature)
    log_p = torch.log_softmax(values.double() / temperature, -1)
    head = log_p.gather(-1, signal.ids_LK)
    # The bound of the class docstring: float16 log-probabilities, twice after renormalisation, and a float16 tail.
    bound = 2 * 2.0**-11 * torch.log_softmax(values.double(), -1).gather(-1, signal.ids_LK).abs().max() / temperature
    assert (signal.log_probs_LK - head).abs().max() <= bound + 2e-3
    tail = torch.log1p(-head.exp().sum(-1))
    torch.testing.assert_close(signal.log_tail_L.double(), tail, rtol=2e-3, atol=1e-4)


def test_a_temperature_without_tail_is_refused_and_the_fix_is_named() -> None:
    codec, arrays = encode(torch.randn(2, 50))
    with pytest.raises(CapabilityError, match=r"keeps \(1, 2, 4\). Got 3.*temperatures=\[1, 2, 4, 3\]"):
        codec.decode(arrays, 3.0)


def test_nothing_is_left_outside_when_k_covers_the_vocabulary() -> None:
    values = torch.randn(3, 8)
    codec, arrays = encode(values, k=32)
    signal = codec.decode(arrays, 2.0)
    assert signal.ids_LK.shape == (3, 8)
    assert torch.isneginf(signal.log_tail_L).all()
    expected = torch.softmax(values / 2, -1).gather(-1, signal.ids_LK)
    torch.testing.assert_close(signal.log_probs_LK.exp(), expected, rtol=2e-3, atol=1e-6)


def test_ties_keep_k_distinct_ids() -> None:
    codec, arrays = encode(torch.zeros(2, 100), k=10)
    signal = codec.decode(arrays, 1.0)
    assert all(len(set(row)) == 10 for row in signal.ids_LK.tolist())
    torch.testing.assert_close(signal.log_tail_L.exp(), torch.full((2,), 0.9), rtol=1e-3, atol=0)


def test_a_flat_huge_vocabulary_leaves_the_head_a_finite_mass() -> None:
    codec, arrays = encode(torch.zeros(1, 262_144), k=1)
    assert torch.isfinite(codec.decode(arrays, 4.0).log_probs_LK).all()
