"""What every codec must do, whatever it keeps. A new file in kdstore/codecs/ is picked up here by its name.

A teacher with hidden states and a linear head puts out what is encoded, so that codecs can use either.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kdstore.codecs import CODECS, DenseSignal, Head, Output, Sample, SampledSignal, Signal, build_codec, fit_codec
from kdstore.errors import CapabilityError, CorruptStoreError, InputError, UnknownNameError, UsageError
from kdstore.fidelity.divergence import DIVERGENCES

from ..codec_tools import fitted, linear_output, pieces, recorded, served, stored

each_codec = pytest.mark.parametrize("name", CODECS.names())
# The default and every rung of the ladder.
each_setting = pytest.mark.parametrize(
    ("name", "config"),
    [
        pytest.param(name, config, id="-".join([name, *map(str, config.values())]))
        for name in CODECS.names()
        for config in ({}, *(rung for rung in CODECS.get(name).ladder if rung))
    ],
)
Config = Mapping[str, Any]


def join(*outputs: Output) -> Output:
    hidden = [output.hidden_LD for output in outputs if output.hidden_LD is not None]
    return Output(torch.cat([output.logits_LV for output in outputs]), torch.cat(hidden))


def assert_same(found: Signal, expected: Signal) -> None:
    """Equal up to the order in which a matrix product was summed."""
    assert type(found) is type(expected)
    for name, values in vars(expected).items():
        torch.testing.assert_close(vars(found)[name], values, rtol=1e-4, atol=1e-4)


def assert_sound(signal: Signal, temperature: float, rows: int, vocab: int) -> None:
    """Of the right form, and a distribution; of draws, weights."""
    if isinstance(signal, DenseSignal):
        assert signal.logits_LV.shape == (rows, vocab)
        assert signal.logits_LV.dtype == torch.float32
        mass_L = signal.log_probs(temperature).exp().sum(-1)
    else:
        shapes = {tuple(values.shape) for name, values in vars(signal).items() if name.endswith("_LK")}
        assert len(shapes) == 1
        assert next(iter(shapes))[0] == rows
        assert signal.ids_LK.dtype == torch.int64
        assert ((signal.ids_LK >= 0) & (signal.ids_LK < vocab)).all()
        if isinstance(signal, SampledSignal):
            assert signal.log_probs_LK.isfinite().all()
            assert (signal.weights_LK.isfinite() & (signal.weights_LK >= 0)).all()
            return
        assert (signal.ids_LK.sort(-1).values.diff(dim=-1) > 0).all(), "an id stands twice in a row"
        mass_L = signal.log_probs_LK.exp().sum(-1) + signal.log_tail_L.exp()
    torch.testing.assert_close(mass_L, torch.ones(rows), atol=1e-4, rtol=0)


def likeliest(signal: Signal, temperature: float) -> tuple[Tensor, Tensor]:
    """The likeliest id of each position, [L], and its log p_T, [L]."""
    if isinstance(signal, DenseSignal):
        log_p_L, ids_L = signal.log_probs(temperature).max(-1)
        return ids_L, log_p_L
    log_p_L, slots_L = signal.log_probs_LK.max(-1)
    return signal.ids_LK.gather(-1, slots_L[:, None])[:, 0], log_p_L


def mass_on(signal: Signal, temperature: float, ids: Tensor) -> Tensor:
    """What the signal puts on some ids, float [L]."""
    if isinstance(signal, DenseSignal):
        return signal.log_probs(temperature).exp()[:, ids].sum(-1)
    p_LK = signal.weights_LK if isinstance(signal, SampledSignal) else signal.log_probs_LK.exp()
    return (p_LK * torch.isin(signal.ids_LK, ids)).sum(-1)


@each_codec
def test_the_file_holds_the_codec_of_its_name(name: str) -> None:
    codec = CODECS.get(name)
    assert codec.name == name
    assert codec.__doc__
    for expected in (":math:", "bytes per token", "Error:"):
        assert expected in codec.__doc__, "formula, size and error stand in the docstring"


@each_setting
def test_settings_survive_json(name: str, config: Config) -> None:
    settled = fitted(name, 50, config).config
    assert fitted(name, 50, json.loads(settled.model_dump_json())).config == settled


@each_codec
def test_unknown_settings_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no_such_setting"):
        fitted(name, 50, {"no_such_setting": 1})


@each_codec
def test_the_ladder_climbs(name: str) -> None:
    ladder = CODECS.get(name).ladder
    parsed = [CODECS.get(name).Config.model_validate(rung) for rung in ladder]
    sizes = [sum(array.bytes for array in fitted(name, 4000, rung).arrays()) for rung in ladder]
    assert all(rung not in parsed[:index] for index, rung in enumerate(parsed))
    assert sizes == sorted(sizes)


@each_setting
@given(
    rows=st.integers(0, 5),
    vocab=st.integers(1, 70),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 30.0, 1000.0]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=25, deadline=None)
def test_any_finite_logits_decode_to_a_distribution(
    name: str, config: Config, rows: int, vocab: int, scale: float, seed: int
) -> None:
    codec = fitted(name, vocab, config)
    output, _ = linear_output(rows, vocab, seed, scale)
    before = output.logits_LV.clone()
    arrays = stored(codec, output)
    for temperature in served(codec):
        assert_sound(codec.decode(arrays, temperature), temperature, rows, vocab)
    assert torch.equal(output.logits_LV, before), "the teacher's output is not the codec's to change"


@each_setting
@given(lengths=st.lists(st.integers(0, 4), min_size=1, max_size=4), seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_it_does_not_matter_how_positions_are_cut(name: str, config: Config, lengths: list[int], seed: int) -> None:
    codec = fitted(name, 60, config)
    outputs = [linear_output(length, 60, seed + index)[0] for index, length in enumerate(lengths)]
    whole, apart = stored(codec, join(*outputs)), [stored(codec, output) for output in outputs]
    for key, values in whole.items():
        joined = torch.cat([arrays[key] for arrays in apart])
        torch.testing.assert_close(joined, values, rtol=1e-5, atol=1e-6, msg=f"{key} depends on its neighbours")
    T = served(codec)[0]
    signal, start = codec.decode(whole, T), 0
    for length, piece in zip(lengths, pieces(codec, whole, lengths), strict=True):
        rows = slice(start, start + length)
        assert_same(codec.decode(piece, T), type(signal)(**{key: v[rows] for key, v in vars(signal).items()}))
        start += length


@each_codec
def test_the_likeliest_id_and_its_probability_survive(name: str) -> None:
    output, _ = linear_output(100, 300)
    codec = fitted(name, 300)
    for temperature in served(codec):
        ids_L, log_p_L = likeliest(codec.decode(stored(codec, output), temperature), temperature)
        expected_L, expected_id_L = torch.log_softmax(output.logits_LV / temperature, -1).max(-1)
        # Ids whose logits differ by less than the codec's resolution may change places.
        same_L = ids_L == expected_id_L
        assert same_L.float().mean() >= 0.97
        torch.testing.assert_close(log_p_L[same_L], expected_L[same_L], rtol=0, atol=0.1)


@each_setting
def test_ties_are_served(name: str, config: Config) -> None:
    """All ids alike, which is also a hidden state of zeros; and two that share the first place."""
    flat, head = linear_output(3, 40, scale=0.0)
    codec = fitted(name, 40, config)
    assert not flat.logits_LV.any()
    assert_sound(codec.decode(stored(codec, flat), 1.0), 1.0, 3, 40)
    twins = Head(torch.cat([head.weight_VD[:39], head.weight_VD[:1]]))
    hidden = 3 * head.weight_VD[:1]
    output = Output(twins.logits(hidden), hidden)
    assert output.logits_LV.topk(2).indices.sort().values.tolist() == [[0, 39]]
    codec = fit_codec(name, config, Sample(hidden_FD=linear_output(64, 40)[0].hidden_LD, head=twins))
    ids_L, _ = likeliest(codec.decode(stored(codec, output), 1.0), 1.0)
    assert ids_L.item() in (0, 39)


@each_codec
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite_are_refused_with_their_place(name: str, bad: float) -> None:
    output, _ = linear_output(4, 30)
    output.logits_LV[2, 7] = bad
    with pytest.raises(InputError, match="position 2, id 7"):
        fitted(name, 30).encode(output)
    with pytest.raises(InputError, match="position 2, id 7"):
        fit_codec(name, {}, Sample(logits_FV=output.logits_LV))


@each_codec
def test_logits_of_another_width_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="over 30 ids"):
        fitted(name, 30).encode(linear_output(2, 31)[0])


@each_setting
def test_ids_that_are_never_emitted_get_nothing(name: str, config: Config) -> None:
    vocab, never = 40, torch.tensor([3, 4, *range(35, 40)])
    bias = torch.zeros(vocab)
    bias[3], bias[4], bias[36] = -torch.inf, -1e4, 100.0  # padding is left out even where the model likes it
    codec = fitted(name, vocab, config, bias=bias, padded_from=35)
    output, _ = linear_output(6, vocab, bias=bias)
    assert codec.allowed == vocab - len(never)
    for T in served(codec):
        signal = codec.decode(stored(codec, output), T)
        assert_sound(signal, T, 6, vocab)
        assert (mass_on(signal, T, never) == 0).all()
        ids_L, _ = likeliest(signal, T)
        assert not torch.isin(ids_L, never).any()


@each_codec
def test_the_largest_vocabularies_fit(name: str) -> None:
    vocab = 262_144
    bias = torch.zeros(vocab)
    bias[-1] = 40.0
    codec = fitted(name, vocab, bias=bias)
    output, _ = linear_output(1, vocab, bias=bias)
    assert output.logits_LV.argmax() == vocab - 1
    signal = codec.decode(stored(codec, output), 1.0)
    assert_sound(signal, 1.0, 1, vocab)
    assert likeliest(signal, 1.0)[0].item() == vocab - 1


@each_setting
def test_decoding_a_temperature_agrees_with_the_check(name: str, config: Config) -> None:
    codec = fitted(name, 30, config)
    arrays = stored(codec, linear_output(2, 30)[0])
    for temperature in (1.0, 1.7, 2.0, 4.0):
        try:
            codec.check_temperature(temperature)
        except CapabilityError:
            with pytest.raises(CapabilityError, match=r"Expected .* Got .*--codec"):
                codec.decode(arrays, temperature)
        else:
            codec.decode(arrays, temperature)


@each_setting
def test_losses_that_pass_the_check_can_be_computed(name: str, config: Config) -> None:
    codec = fitted(name, 30, config)
    arrays = stored(codec, linear_output(5, 30)[0])
    student_LV = linear_output(5, 30, seed=9)[0].logits_LV
    losses = {*DIVERGENCES, "reverse_kl", "one of your own"}
    served_losses = losses if codec.divergences is None else set(codec.divergences)
    for loss in served_losses:
        codec.check_divergence(loss)
    for loss in set(DIVERGENCES) & served_losses:
        for temperature in served(codec):
            signal = codec.decode(arrays, temperature)
            leaf_LV = student_LV.clone().requires_grad_()
            value_L = DIVERGENCES[loss](signal, leaf_LV, temperature)
            (gradient_LV,) = torch.autograd.grad(value_L.sum(), leaf_LV)
            assert value_L.shape == (5,)
            assert value_L.isfinite().all()
            assert (gradient_LV.isfinite().all(-1) & gradient_LV.any(-1)).all()
    for loss in losses - served_losses:
        with pytest.raises(CapabilityError, match=f"Got '{loss}'"):
            codec.check_divergence(loss)


@each_setting
@pytest.mark.parametrize("with_bias", [False, True])
def test_shared_arrays_rebuild_the_codec(name: str, config: Config, with_bias: bool) -> None:
    vocab = 40
    bias = torch.linspace(-1, 1, vocab) if with_bias else None
    output, head = linear_output(64, vocab, bias=bias)
    # A head as a model in half precision has it: its own parameters, which no cast copies.
    weight = torch.nn.Parameter(head.weight_VD.half())
    parameters = Head(weight, None if bias is None else torch.nn.Parameter(bias))
    with torch.no_grad():
        codec = fit_codec(name, config, Sample(hidden_FD=output.hidden_LD, head=parameters, padded_from=vocab - 2))
    record, shared = recorded(codec)
    assert set(shared) >= {"mask"}
    kept = {key: values.copy() for key, values in shared.items()}
    again = build_codec(record.name, record.config, vocab, kept)
    assert again.arrays() == codec.arrays()
    arrays = stored(codec, output)
    for T in served(codec):
        assert_same(again.decode(arrays, T), codec.decode(arrays, T))


@each_codec
def test_shared_arrays_have_the_names_that_the_codec_says(name: str) -> None:
    """A reader knows them before it reads any."""
    codec = fitted(name, 40, padded_from=38)
    assert set(codec.shared) - {"mask"} <= set(codec.shared_names)


@each_codec
def test_an_id_that_the_sample_never_saw_emitted_is_refused_when_it_is(name: str) -> None:
    output, head = linear_output(64, 40)
    bias = torch.zeros(40)
    bias[5] = -1e4
    off = Head(head.weight_VD, bias)
    codec = fit_codec(name, {}, Sample(hidden_FD=output.hidden_LD, head=off))
    codec.encode(Output(off.logits(output.hidden_LD), output.hidden_LD))
    with pytest.raises(InputError, match="Expected id 5 never to be emitted"):
        codec.encode(output)


@each_codec
def test_shared_arrays_of_another_shape_are_refused(name: str) -> None:
    shared = {key: values.numpy() for key, values in fitted(name, 40, padded_from=38).shared.items()}
    wrong = [{**shared, "no_such_array": np.zeros(3, np.float32)}]
    for key, values in shared.items():
        wrong.append({**shared, key: values[None]})
        if len(values) == 40:
            wrong.append({**shared, key: values[:-1]})
        if key != "mask":
            wrong.append({other: kept for other, kept in shared.items() if other != key})
    for given_instead in wrong:
        with pytest.raises(CorruptStoreError, match=r"Expected .* Got "):
            build_codec(name, {}, 40, given_instead)


@each_codec
def test_unknown_names_get_a_hint(name: str) -> None:
    with pytest.raises(UnknownNameError, match=name):
        CODECS.get(f"{name}x")
