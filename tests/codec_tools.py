"""Fit codecs on given logits, for tests that need a codec and no teacher."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdstore.codecs import Codec, Head, Output, Sample, fit_codec
from kdstore.errors import CapabilityError
from kdstore.schema import KEPT, Arrays, TeacherSignal
from kdstore.store.manifest import CodecRecord
from kdstore.store.shared import shared_records

WIDTH = 8


def linear_output(
    rows: int, vocab: int, seed: int = 0, scale: float = 4.0, width: int = WIDTH, bias: Tensor | None = None
) -> tuple[Output, Head]:
    """Output of a teacher with random hidden states [rows, width] and a random linear head."""
    generator = torch.Generator().manual_seed(seed)
    head = Head(torch.randn(vocab, width, generator=torch.Generator().manual_seed(vocab)), bias)
    hidden = torch.randn(rows, width, generator=generator) * scale / width**0.5
    return Output(head.logits(hidden), hidden), head


def fitted(
    name: str,
    vocab: int,
    config: Mapping[str, Any] | None = None,
    seed: int = 100,
    scale: float = 4.0,
    bias: Tensor | None = None,
    padded_from: int | None = None,
) -> Codec:
    """The codec fitted on 64 positions of `linear_output`."""
    output, head = linear_output(64, vocab, seed, scale, bias=bias)
    return fit_codec(name, config or {}, Sample(hidden_FD=output.hidden_LD, head=head, padded_from=padded_from))


def fitted_on(name: str, logits_LV: torch.Tensor, config: dict[str, Any] | None = None) -> Codec:
    """The codec fitted on these logits."""
    return fit_codec(name, config or {}, Sample(logits_FV=logits_LV))


def recorded(codec: Codec) -> tuple[CodecRecord, Arrays]:
    """What a manifest says of a codec, and its shared arrays."""
    shared = {name: values.numpy() for name, values in codec.shared.items()}
    config = codec.config.model_dump(mode="json")
    return CodecRecord(name=codec.name, config=config, shared=shared_records(shared)), shared


def stored(codec: Codec, output: Output) -> dict[str, Tensor]:
    """Encode, and put the arrays through the dtypes and shapes that the codec declares; nothing may be lost."""
    encoded = {name: values.numpy() for name, values in codec.encode(output).items()}
    signal = TeacherSignal(name="teacher", arrays=codec.arrays())
    specs = {spec.path.removeprefix("teacher/"): spec for spec in signal.specs()}
    assert set(encoded) == set(specs)
    lengths = encoded.get(f"{KEPT}/lengths", np.zeros(0, int)).astype(int)
    assert all(lengths.max(initial=0) <= array.most for array in codec.arrays() if array.most)
    packed = signal.pack([encoded])
    result = {}
    for name, spec in specs.items():
        extent = lengths.sum() if spec.axis == f"teacher/{KEPT}" else len(output.logits_LV)
        assert packed[spec.path].shape == (extent, *spec.shape), name
        np.testing.assert_array_equal(packed[spec.path], encoded[name], f"{name} does not fit its dtype")
        result[name] = torch.from_numpy(packed[spec.path])
    return result


def pieces(codec: Codec, arrays: Mapping[str, Tensor], lengths: Sequence[int]) -> list[dict[str, Tensor]]:
    """A codec's arrays cut into those of consecutive runs of positions, as a store cuts them into rows."""
    signal = TeacherSignal(name="teacher", arrays=codec.arrays())
    split = signal.split({name: values.numpy() for name, values in arrays.items()}, lengths)
    return [{name: torch.from_numpy(values) for name, values in piece.items()} for piece in split]


def served(codec: Codec, temperatures: Sequence[float] = (1.0, 2.0, 4.0)) -> list[float]:
    """The temperatures that a codec does not refuse; at least one."""
    found = []
    for temperature in temperatures:
        try:
            codec.check_temperature(temperature)
        except CapabilityError:
            continue
        found.append(temperature)
    assert found
    return found
