"""Try codecs and settings on the same positions: fit, encode, write, decode, measure."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from kdstore.codecs import Codec, Sample, fit_codec
from kdstore.fidelity.divergence import DIVERGENCES
from kdstore.fidelity.measure import POSITIONS, TEMPERATURES, Arrays, Subject, measure
from kdstore.fidelity.probe import Probe
from kdstore.fidelity.reference import Reference
from kdstore.fidelity.size import Layout, signal_bytes_per_token
from kdstore.store.manifest import Fidelity

R = TypeVar("R")

_LARGE_ENTRY = 1 << 13  # bytes per label token
_WARM_UP = 512  # positions


@dataclass(frozen=True)
class Candidate:
    """A codec by name, with settings."""

    codec: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Trial:
    """What came of a candidate. ``encode_tok_s``: label tokens per second on the sample's device."""

    codec: Codec[Any]
    fidelity: tuple[Fidelity, ...]
    bytes_per_token: float
    encode_tok_s: float

    def total_bytes(self, tokens: int) -> float:
        """Bytes of the signal of so many label tokens, with what is kept once."""
        return self.bytes_per_token * tokens + self.codec.shared_bytes

    def angle(self, divergence: str = "kl") -> float:
        """The largest mean angle over the measured temperatures, degrees; 180 where nothing was measured."""
        angles = [record.angle_deg for record in self.fidelity if record.divergence == divergence]
        return max(angles, default=180.0)

    @property
    def temperatures(self) -> frozenset[float]:
        """At which it was measured."""
        return frozenset(record.temperature for record in self.fidelity)


@dataclass(frozen=True)
class Storage:
    """What keeping a signal takes: bytes per label token on disk, and label tokens per second."""

    bytes_per_token: float
    encode_tok_s: float
    decode_tok_s: float


def run_trials(
    candidates: Sequence[Candidate],
    fit: Sample,
    probe: Probe,
    reference: Reference,
    layout: Layout,
    *,
    divergences: Sequence[str] = tuple(DIVERGENCES),
    advance: Callable[[int], None] = lambda steps: None,
) -> list[Trial]:
    """Fit every candidate on ``fit``, then measure all of them on ``probe``, which ``fit`` must not contain.

    Raises
    ------
    KDError
        As for `fit_codec` and `Codec.encode`.
    """
    codecs = [fit_codec(candidate.codec, candidate.settings, fit) for candidate in candidates]
    kept = [try_storage(codec, probe, layout) for codec in codecs]
    subjects = [Subject(codec, storage.bytes_per_token) for codec, storage in zip(codecs, kept, strict=True)]
    found = measure(subjects, probe, reference, divergences=divergences, advance=advance)
    return [
        Trial(codec, tuple(records), storage.bytes_per_token, storage.encode_tok_s)
        for codec, records, storage in zip(codecs, found, kept, strict=True)
    ]


@torch.no_grad()
def try_storage(codec: Codec[Any], probe: Probe, layout: Layout) -> Storage:
    """Encode, write and decode a probe; of entries too large to keep them all, a few thousand positions."""
    if sum(array.bytes for array in codec.arrays()) > _LARGE_ENTRY:
        probe, _ = probe.head(POSITIONS)
    temperature = codec.temperatures[0] if codec.temperatures else TEMPERATURES[0]
    # The first pieces warm up allocator and threads, so that speeds are those of a long run.
    for output in probe.sample.slice(0, _WARM_UP).chunks():
        codec.decode(codec.encode(output), temperature)
    encoded: list[Arrays] = []
    encode_s = decode_s = 0.0
    for output in probe.sample.chunks():
        seconds, piece = _timed(codec.encode, output)
        encode_s += seconds
        encoded.append(piece)
        decode_s += _timed(codec.decode, piece, temperature)[0]
    arrays = {name: torch.cat([piece[name] for piece in encoded]) for name in encoded[0]}
    lengths = [len(row) for row in probe.labels]
    size = signal_bytes_per_token(codec, arrays, lengths, layout)
    return Storage(size, probe.positions / encode_s, probe.positions / decode_s)


def _timed(work: Callable[..., R], *args: Any) -> tuple[float, R]:
    start = time.perf_counter()
    result = work(*args)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start, result
