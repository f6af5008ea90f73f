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
from kdstore.fidelity.size import signal_bytes_per_token
from kdstore.store.manifest import Fidelity

R = TypeVar("R")


@dataclass(frozen=True)
class Candidate:
    """A codec by name, with settings."""

    codec: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Trial:
    """What came of a candidate. Speeds are in label tokens per second on the sample's device."""

    codec: Codec[Any]
    fidelity: tuple[Fidelity, ...]
    bytes_per_token: float
    fit_s: float
    encode_tok_s: float
    decode_tok_s: float

    @property
    def shared_bytes(self) -> int:
        """Bytes of the arrays kept once for the whole store."""
        return sum(values.nbytes for values in self.codec.shared.values())

    def total_bytes(self, tokens: int) -> float:
        """Bytes of the signal of so many label tokens, with what is kept once."""
        return self.bytes_per_token * tokens + self.shared_bytes

    def angle(self, divergence: str = "kl") -> float:
        """The largest mean angle over the measured temperatures, degrees; 180 where nothing was measured."""
        angles = [record.angle_deg for record in self.fidelity if record.divergence == divergence]
        return max(angles, default=180.0)

    @property
    def temperatures(self) -> frozenset[float]:
        """At which it was measured."""
        return frozenset(record.temperature for record in self.fidelity)


@dataclass(frozen=True)
class Layout:
    """Rows per block and per part of the store to come: they settle what a token costs on disk."""

    block_rows: int
    part_rows: int


def run_trials(
    candidates: Sequence[Candidate],
    fit: Sample,
    probe: Probe,
    reference: Reference,
    layout: Layout,
    *,
    temperatures: Sequence[float] | None = None,
    divergences: Sequence[str] = tuple(DIVERGENCES),
    batch_positions: int = POSITIONS,
    advance: Callable[[int], None] = lambda steps: None,
) -> list[Trial]:
    """Fit every candidate on ``fit``, then measure all of them on ``probe``, which ``fit`` must not contain.

    Raises
    ------
    KDError
        As for `fit_codec` and `Codec.encode`.
    """
    prepared = [_prepare(candidate, fit, probe, layout) for candidate in candidates]
    subjects = [Subject(codec, size) for codec, size, *_ in prepared]
    found = measure(
        subjects, probe, reference,
        temperatures=temperatures, divergences=divergences, batch_positions=batch_positions, advance=advance,
    )  # fmt: skip
    return [
        Trial(codec, tuple(records), size, *speeds)
        for (codec, size, *speeds), records in zip(prepared, found, strict=True)
    ]


@torch.no_grad()
def _prepare(candidate: Candidate, fit: Sample, probe: Probe, layout: Layout) -> tuple[Any, ...]:
    """The fitted codec, its bytes per token, the seconds of the fit, and tokens per second of encode and decode."""
    start = time.perf_counter()
    codec = fit_codec(candidate.codec, candidate.settings, fit)
    fit_s = time.perf_counter() - start
    # The first pieces warm up allocator and threads, so that speeds are those of a long run.
    outputs = list(probe.sample.slice(0, 512).chunks())
    temperature = codec.temperatures[0] if codec.temperatures else TEMPERATURES[0]
    for output in outputs:
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
    size = signal_bytes_per_token(codec, arrays, lengths, layout.block_rows, layout.part_rows)
    return codec, size, fit_s, probe.positions / encode_s, probe.positions / decode_s


def _timed(work: Callable[..., R], *args: Any) -> tuple[float, R]:
    start = time.perf_counter()
    result = work(*args)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start, result
