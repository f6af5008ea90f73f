"""The default codec: what it promises of corrected ids, how its basis is found, and what its settings buy."""

import pytest
import torch
from torch import Tensor

from kdstore.codecs import Codec, DenseSignal, Head, Output, Sample, fit_codec
from kdstore.codecs._basis import weighted_basis
from kdstore.codecs.lowrank import LowRank
from kdstore.errors import CorruptStoreError, UsageError
from kdstore.fidelity.divergence import kl

from ..codec_tools import linear_output

V = 500
FINE = {"rank": 16, "step": 0.02, "threshold": 0.002, "value_step": 0.02}


def teacher(rows: int, seed: int = 1, width: int = 32, scale: float = 3.0) -> tuple[Output, Head]:
    return linear_output(rows, V, seed, scale, width)


def fit(head: Head, width: int = 32, **config: float) -> LowRank:
    codec = fit_codec("lowrank", config, Sample(hidden_FD=teacher(400, 2, width)[0].hidden_LD, head=head))
    assert isinstance(codec, LowRank)
    return codec


def stored(codec: Codec, output: Output) -> DenseSignal:
    signal = codec.decode(codec.encode(output), 1.0)
    assert isinstance(signal, DenseSignal)
    return signal


def divergence(codec: Codec, output: Output, temperature: float) -> Tensor:
    return kl(DenseSignal(output.logits_LV), stored(codec, output).logits_LV, temperature).mean() / temperature**2


@pytest.mark.parametrize("scale", [2.0, 5.0, 30.0])
def test_corrected_ids_are_within_half_a_step_of_each_other(scale: float) -> None:
    output, head = teacher(60, scale=scale)
    codec = fit(head, rank=4, step=0.3, threshold=0.01, value_step=0.1)
    arrays = codec.encode(output)
    difference_LV = stored(codec, output).logits_LV - output.logits_LV
    rank_X = arrays["places"].long() + 256 * arrays["pages"].long()
    position_X = torch.repeat_interleave(arrays["kept/lengths"].long())
    error_X = difference_LV[position_X, codec.shared["ids"][rank_X].long()]
    assert len(error_X) > 60
    for position in range(60):
        errors = error_X[position_X == position]
        # All are off by the same shift, which softmax does not see, up to half a step either way.
        assert len(errors) == 0 or errors.max() - errors.min() <= 0.1 + 1e-3


def test_a_correction_beyond_one_byte_is_kept_whole() -> None:
    output, head = teacher(5)
    codec = fit(head)
    logits_LV = output.logits_LV.clone()
    logits_LV[2, 77] = logits_LV[2].max() + 40  # 400 steps; the basis knows nothing of it
    arrays = codec.encode(Output(logits_LV))
    decoded = codec.decode(arrays, 1.0).log_probs(1.0)[2]
    expected = torch.log_softmax(logits_LV[2], -1)
    assert decoded.argmax() == 77
    assert (decoded.exp() - expected.exp()).abs().max() < 0.01
    assert (arrays["kept/lengths"].long() <= codec.arrays()[-1].most).all()


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_finer_settings_are_truer(temperature: float) -> None:
    output, head = teacher(80)
    coarse = fit(head, rank=4, step=0.3, threshold=0.05, value_step=0.2)
    middle = fit(head, rank=16, step=0.1, threshold=0.01, value_step=0.1)
    fine = fit(head, rank=32, step=0.01, threshold=0.002, value_step=0.02)
    found = [float(divergence(codec, output, temperature)) for codec in (coarse, middle, fine)]
    assert found[0] > 2 * found[1] > 4 * found[2]
    assert found[2] < 1e-3


def test_logits_alone_give_the_same_directions_as_hidden_states_and_a_head() -> None:
    """Randomized iteration against the exact Gram matrix: the same subspace and the same variances."""
    output, head = teacher(300)
    by_head, through = weighted_basis(Sample(hidden_FD=output.hidden_LD, head=head), 8)
    by_logits, randomized = weighted_basis(Sample(logits_FV=output.logits_LV), 8)
    torch.testing.assert_close(through, randomized, rtol=0.01, atol=1e-4)
    weights_V = Sample(logits_FV=output.logits_LV).moments.weights_V
    overlap = (by_head * weights_V) @ by_logits.T
    torch.testing.assert_close(torch.linalg.svdvals(overlap), torch.ones(8), atol=0.01, rtol=0)


def test_the_basis_is_orthonormal_under_the_weights_and_blind_to_a_shift() -> None:
    output, head = teacher(200)
    sample = Sample(hidden_FD=output.hidden_LD, head=head, padded_from=V - 7)
    basis_RV, deviations_R = weighted_basis(sample, 8)
    weights_V = sample.moments.weights_V
    torch.testing.assert_close((basis_RV * weights_V) @ basis_RV.T, torch.eye(8), atol=1e-3, rtol=0)
    assert (basis_RV @ weights_V).abs().max() < 1e-3
    assert (basis_RV[:, -7:] == 0).all()
    assert (deviations_R.diff() <= 1e-6).all()


def test_what_the_fit_never_saw_is_still_a_distribution() -> None:
    """Another teacher's output, on which every coefficient and correction overflows what the fit provided for."""
    _, head = teacher(1)
    other, _ = linear_output(20, V, seed=9, scale=40.0, width=32)
    log_probs = stored(fit(head), Output(other.logits_LV.flip(-1))).log_probs(1.0)
    assert torch.isfinite(log_probs).all()
    assert (log_probs.argmax(-1) == other.logits_LV.flip(-1).argmax(-1)).float().mean() >= 0.95


@pytest.mark.parametrize("positions", [0, 1, 2])
def test_a_sample_of_hardly_any_positions_gives_a_codec_that_works(positions: int) -> None:
    output, head = teacher(12)
    codec = fit_codec("lowrank", FINE, Sample(hidden_FD=teacher(positions, 3)[0].hidden_LD, head=head))
    top = stored(codec, output).log_probs(1.0).argmax(-1)
    assert (top == output.logits_LV.argmax(-1)).float().mean() >= 0.9


def test_damaged_shared_arrays_are_refused() -> None:
    _, head = teacher(1)
    codec = fit(head, step=0.5)
    doubled = {**codec.shared, "ids": torch.zeros_like(codec.shared["ids"])}
    with pytest.raises(CorruptStoreError, match="every id once"):
        LowRank(codec.config, V, doubled)
    assert codec.counts[8]
    assert codec.counts[4]
    with pytest.raises(CorruptStoreError, match="then 8, then"):
        LowRank(codec.config, V, {**codec.shared, "bits": codec.shared["bits"].flip(0)})


def test_an_id_outside_the_vocabulary_is_refused() -> None:
    output, head = teacher(10)
    codec = fit(head)
    arrays = codec.encode(output)
    arrays["pages"] = torch.full_like(arrays["pages"], 255)
    with pytest.raises(CorruptStoreError, match="below 500"):
        codec.decode(arrays, 1.0)


def test_an_odd_rank_is_refused() -> None:
    with pytest.raises(UsageError, match="even"):
        fit(teacher(1)[1], rank=7)
