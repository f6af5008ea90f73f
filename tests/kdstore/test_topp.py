"""The nucleus keeps as many ids as each position needs, and the tail's mass exactly."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdstore.codecs import DenseSignal, Output
from kdstore.codecs.topp import TopP
from kdstore.errors import UsageError
from kdstore.fidelity.divergence import DIVERGENCES

from ..codec_tools import fitted_on
from .test_topk import assert_within_the_bound


def encode(values: torch.Tensor, **config: object) -> tuple[TopP, dict[str, torch.Tensor]]:
    codec = fitted_on("topp", values, config)
    assert isinstance(codec, TopP)
    return codec, codec.encode(Output(values))


def logits(rows: int, vocab: int, seed: int = 0) -> torch.Tensor:
    """Sharp and flat rows."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, vocab, generator=generator) * torch.logspace(-1, 1, rows)[:, None]


@given(
    rows=st.integers(1, 6),
    vocab=st.integers(2, 40),
    p=st.sampled_from([0.01, 0.5, 0.9, 1.0]),
    bounds=st.tuples(st.integers(1, 50), st.integers(1, 50)).map(sorted),
    seed=st.integers(0, 1000),
)
@settings(max_examples=150, deadline=None)
def test_the_set_is_the_smallest_that_reaches_p(
    rows: int, vocab: int, p: float, bounds: list[int], seed: int
) -> None:
    values = logits(rows, vocab, seed)
    k_min, k_max = bounds
    codec, arrays = encode(values, p=p, k_min=k_min, k_max=k_max)
    signal = codec.decode(arrays, 1.0)
    start = 0
    for row, length in enumerate(arrays["kept/lengths"].tolist()):
        ids = arrays["ids"][start : start + length]
        probs, order = torch.softmax(values[row].double(), -1).sort(descending=True)
        assert ids.tolist() == order[:length].tolist()
        assert min(k_min, vocab - 1) <= length <= min(k_max, vocab - 1)
        if length < min(k_max, vocab - 1):
            assert probs[:length].sum() >= p - 1e-6
        if length > k_min:
            assert probs[: length - 1].sum() < p + 1e-6
        # Decoded: the same ids, then others that carry nothing.
        assert signal.ids_LK[row, :length].tolist() == ids.tolist()
        assert len(set(signal.ids_LK[row].tolist())) == codec.k
        assert torch.isneginf(signal.log_probs_LK[row, length:]).all()
        start += length
    assert start == len(arrays["ids"])


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_head_and_tail_are_the_teachers(temperature: float) -> None:
    values = logits(64, 1000)
    codec, arrays = encode(values, p=0.8)
    assert len(arrays["kept/lengths"].unique()) > 10, "rows of many lengths"
    assert_within_the_bound(codec.decode(arrays, temperature), values, temperature)


def test_sure_positions_keep_few_ids_and_doubtful_ones_many() -> None:
    values = torch.zeros(2, 1000)
    values[0, 7] = 30.0
    _, arrays = encode(values, p=0.8995, k_max=4096)
    assert arrays["kept/lengths"].tolist() == [1, 900]


@pytest.mark.parametrize("divergence", ["kl", "jsd"])
@pytest.mark.parametrize("k_max", [20, 4096])
def test_a_student_that_equals_the_teacher_has_no_loss(divergence: str, k_max: int) -> None:
    """Also where filling takes ids whose mass is in the tail, and lists are as long as the vocabulary allows."""
    values = logits(16, 30)
    codec, arrays = encode(values, p=0.5, k_max=k_max)
    assert int(arrays["kept/lengths"].min()) < codec.k
    loss_L = DIVERGENCES[divergence](codec.decode(arrays, 2.0), values, 2.0)
    torch.testing.assert_close(loss_L, torch.zeros(16), atol=1e-4, rtol=0)


def test_one_id_in_the_tail_loses_nothing() -> None:
    teacher, student = logits(8, 12), logits(8, 12, seed=1)
    codec, arrays = encode(teacher, p=1.0, k_min=12, k_max=12)
    assert codec.k == 11
    found_L = DIVERGENCES["kl"](codec.decode(arrays, 2.0), student, 2.0)
    torch.testing.assert_close(found_L, DIVERGENCES["kl"](DenseSignal(teacher), student, 2.0), atol=0.01, rtol=0.01)


def test_fewer_ids_at_least_than_at_most() -> None:
    with pytest.raises(UsageError, match="k_min = 9 must not be above k_max = 8"):
        encode(torch.zeros(1, 20), k_min=9, k_max=8)
