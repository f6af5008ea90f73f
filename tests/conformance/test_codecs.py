"""What every codec must do, whatever it keeps. A new file in kdstore/codecs/ is picked up here by its name."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdstore.codecs import CODECS, Codec, DenseSignal, Signal, build_codec
from kdstore.errors import CapabilityError, InputError, UnknownNameError, UsageError

pytestmark = pytest.mark.parametrize("name", CODECS.names())


def logits(rows: int, vocab: int, seed: int = 0, scale: float = 4.0) -> torch.Tensor:
    return torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed)) * scale


def stored(codec: Codec, values: torch.Tensor) -> dict[str, torch.Tensor]:
    """Encode, and put the arrays through the dtypes and shapes that the codec declares."""
    arrays = codec.encode(values)
    assert set(arrays) == {array.name for array in codec.arrays()}
    result = {}
    for array in codec.arrays():
        assert tuple(arrays[array.name].shape) == (len(values), *array.shape)
        kept = arrays[array.name].cpu().numpy().astype(array.dtype)
        np.testing.assert_array_equal(kept, arrays[array.name].cpu().numpy(), f"{array.name} does not fit its dtype")
        result[array.name] = torch.from_numpy(kept)
    return result


def mass(signal: Signal, temperature: float) -> torch.Tensor:
    if isinstance(signal, DenseSignal):
        return signal.log_probs(temperature).exp().sum(-1)
    return signal.log_probs_LK.exp().sum(-1) + signal.log_tail_L.exp()


def test_the_file_holds_the_codec_of_its_name(name: str) -> None:
    codec = CODECS.get(name)
    assert codec.name == name
    assert codec.__doc__
    assert ":math:" in codec.__doc__, "the formula stands in the docstring"
    assert "bytes per token" in codec.__doc__, "the size stands in the docstring"


def test_settings_survive_json_and_unknown_ones_are_refused(name: str) -> None:
    config = build_codec(name, {}, 50).config
    again = build_codec(name, json.loads(config.model_dump_json()), 50)
    assert again.config == config
    with pytest.raises(UsageError, match="no_such_setting"):
        build_codec(name, {"no_such_setting": 1}, 50)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_probabilities_sum_to_one(name: str, temperature: float) -> None:
    codec = build_codec(name, {}, 300)
    signal = codec.decode(stored(codec, logits(20, 300)), temperature)
    torch.testing.assert_close(mass(signal, temperature), torch.ones(20), atol=1e-5, rtol=0)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_the_likeliest_id_and_its_probability_survive(name: str, temperature: float) -> None:
    values = logits(50, 300, scale=3.0)
    codec = build_codec(name, {}, 300)
    signal = codec.decode(stored(codec, values), temperature)
    expected_p, expected_id = torch.softmax(values / temperature, -1).max(-1)
    if isinstance(signal, DenseSignal):
        log_p, index = signal.log_probs(temperature).max(-1)
    else:
        log_p, order = signal.log_probs_LK.max(-1)
        index = signal.ids_LK.gather(-1, order[:, None])[:, 0]
    # Ids whose logits differ by less than the codec's resolution may change places.
    same = index == expected_id
    assert same.float().mean() >= 0.98
    torch.testing.assert_close(log_p.exp()[same], expected_p[same], rtol=0.01, atol=1e-5)


@given(
    rows=st.integers(0, 5),
    vocab=st.integers(1, 70),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 30.0, 1000.0]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_any_finite_logits_decode_to_a_distribution(
    name: str, rows: int, vocab: int, scale: float, seed: int
) -> None:
    codec = build_codec(name, {}, vocab)
    signal = codec.decode(stored(codec, logits(rows, vocab, seed, scale)), 1.0)
    torch.testing.assert_close(mass(signal, 1.0), torch.ones(rows), atol=1e-4, rtol=0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite_are_refused_with_their_place(name: str, bad: float) -> None:
    values = logits(4, 30)
    values[2, 7] = bad
    with pytest.raises(InputError, match="position 2, id 7"):
        build_codec(name, {}, 30).encode(values)


def test_logits_of_another_width_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="over 30 ids"):
        build_codec(name, {}, 30).encode(logits(2, 31))


def test_the_largest_vocabularies_fit(name: str) -> None:
    vocab = 262_144
    values = logits(2, vocab)
    values[0, vocab - 1] = 100.0
    codec = build_codec(name, {}, vocab)
    signal = codec.decode(stored(codec, values), 1.0)
    first = signal.logits_LV.argmax(-1) if isinstance(signal, DenseSignal) else signal.ids_LK[:, 0]
    assert first[0] == vocab - 1


def test_decoding_a_temperature_agrees_with_the_check(name: str) -> None:
    codec = build_codec(name, {}, 30)
    arrays = stored(codec, logits(2, 30))
    for temperature in (1.0, 1.7, 2.0, 4.0):
        try:
            codec.check_temperature(temperature)
        except CapabilityError:
            with pytest.raises(CapabilityError):
                codec.decode(arrays, temperature)
        else:
            codec.decode(arrays, temperature)


def test_unknown_names_get_a_hint(name: str) -> None:
    with pytest.raises(UnknownNameError, match=name):
        CODECS.get(f"{name}x")
