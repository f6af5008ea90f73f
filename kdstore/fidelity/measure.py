"""Compare stored signals with the teacher they came from, on positions that no fit has seen."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor

from kdstore.codecs import Codec, DenseSignal, Output, SampledSignal, Signal
from kdstore.errors import CapabilityError
from kdstore.fidelity.divergence import DIVERGENCES, LOG_ZERO, aligned_log_probs, kl, relative_entropy
from kdstore.fidelity.probe import Probe
from kdstore.fidelity.reference import LogitGradient, Reference
from kdstore.store.manifest import Fidelity

TEMPERATURES: Final = (1.0, 2.0, 4.0)
POSITIONS: Final = 2048
"""Label positions of a batch, over which gradients are averaged as in an optimizer step."""

_LEAST_KL = 1e-6  # nats: nearer to the teacher, gradients are rounding errors
_LIKELIEST = 100  # ids whose outside is called the tail

Arrays = Mapping[str, Tensor]


@dataclass(frozen=True)
class Subject:
    """A codec to measure; ``bytes_per_token`` is only passed on.

    ``stored`` gives the arrays of some positions of the probe where they were encoded before; by default they are
    encoded anew.
    """

    codec: Codec[Any]
    bytes_per_token: float
    stored: Callable[[slice], Arrays] | None = None

    def arrays(self, output: Output, positions: slice) -> Arrays:
        """The codec's arrays for some positions of the probe."""
        return self.stored(positions) if self.stored else self.codec.encode(output)

    def serves(self, divergence: str, temperature: float) -> bool:
        """Whether the codec can serve a loss at a temperature at all."""
        try:
            self.codec.check_temperature(temperature)
            self.codec.check_divergence(divergence)
        except CapabilityError:
            return False
        return True


@torch.no_grad()
def measure(
    subjects: Sequence[Subject],
    probe: Probe,
    reference: Reference,
    *,
    divergences: Sequence[str] = tuple(DIVERGENCES),
    batch_positions: int = POSITIONS,
    advance: Callable[[int], None] = lambda steps: None,
) -> list[list[Fidelity]]:
    """Measure every subject at every temperature and divergence that it can serve, in that order.

    Parameters
    ----------
    subjects
        What is compared with the teacher.
    probe
        Rows that no fit has seen.
    reference
        Whose gradients are compared.
    divergences
        Of which losses; at T = 1, 2 and 4, and at the temperatures that a subject serves alone.
    batch_positions
        Label positions per batch, at least.
    advance
        Told after each batch how many positions are done.
    """
    if not probe.positions:
        return [[] for _ in subjects]
    own = (T for subject in subjects for T in subject.codec.temperatures or ())
    temperatures = sorted({*TEMPERATURES, *own})
    found = [defaultdict[tuple[str, float], _Readings](_Readings) for _ in subjects]
    reference_kl, offset = [], 0
    for batch in probe.batches(batch_positions):
        pieces = _Pieces(subjects, batch, offset)
        reference_kl.append(_reference_kl(reference, batch))
        _check_reference(reference, reference_kl[-1])
        for T in temperatures:
            distances = pieces.distances(T)
            for divergence in divergences:
                served = [i for i, subject in enumerate(subjects) if subject.serves(divergence, T)]
                if not served:
                    continue
                products = reference.products(batch, pieces.gradient(served, divergence, T))
                for index, angle, ratio in zip(served, products.angles, products.norm_ratios, strict=True):
                    found[index][divergence, T].add(float(angle), float(ratio), distances[index])
        offset += batch.positions
        advance(batch.positions)
    common: dict[str, Any] = {
        "reference": reference.name,
        "reference_kl": float(torch.cat(reference_kl).mean()),
        "positions": offset,
        "batch_positions": min(batch_positions, offset),
    }
    return [_records(subject, readings, common) for subject, readings in zip(subjects, found, strict=True)]


def _records(
    subject: Subject, readings: Mapping[tuple[str, float], "_Readings"], common: Mapping[str, Any]
) -> list[Fidelity]:
    codec = subject.codec
    identity = {
        "codec": codec.name,
        "settings": codec.config.model_dump(mode="json"),
        "bytes_per_token": subject.bytes_per_token,
        "shared_bytes": codec.shared_bytes,
    }
    return [
        Fidelity(**common, **identity, **reading.summary(), divergence=divergence, temperature=T)
        for (divergence, T), reading in readings.items()
    ]


def _check_reference(reference: Reference, kl_L: Tensor) -> None:
    if not kl_L.isfinite().all() or float(kl_L.mean()) < _LEAST_KL:
        raise CapabilityError(
            f"Expected a student with finite logits that differs from the teacher. Got {reference.name}, "
            f"{float(kl_L.mean()):.2g} nats from it. Measure at another one."
        )


@dataclass
class _Readings:
    """What one subject gave over the batches at one divergence and temperature."""

    angles: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    distances: dict[str, list[Tensor]] = field(default_factory=lambda: defaultdict(list))

    def add(self, angle: float, ratio: float, distances: Mapping[str, Tensor]) -> None:
        self.angles.append(angle)
        self.ratios.append(ratio)
        for name, values_L in distances.items():
            self.distances[name].append(values_L)

    def summary(self) -> dict[str, Any]:
        all_L = {name: torch.cat(values) for name, values in self.distances.items()}
        means = {name: float(values_L.mean()) for name, values_L in all_L.items()}
        if "kl" in all_L:
            means |= {"kl_mean": means.pop("kl"), "kl_p99": float(torch.quantile(all_L["kl"], 0.99))}
        return {
            "angle_deg": sum(self.angles) / len(self.angles),
            "angle_worst_deg": max(self.angles),
            "norm_ratio": sum(self.ratios) / len(self.ratios),
            **means,
        }


class _Pieces:
    """The subjects' arrays for one batch, encoded once, piece by piece."""

    def __init__(self, subjects: Sequence[Subject], batch: Probe, offset: int) -> None:
        self._subjects, self._batch, self._offset = subjects, batch, offset
        self._arrays: dict[tuple[int, int, int], Arrays] = {}

    def distances(self, temperature: float) -> list[dict[str, Tensor]]:
        """Distances of each position by name, float [L] each, per subject."""
        found: list[dict[str, list[Tensor]]] = [defaultdict(list) for _ in self._subjects]
        start = 0
        for output in self._batch.sample.chunks():
            piece = slice(start, start + len(output.logits_LV))
            for index, subject in enumerate(self._subjects):
                if not subject.serves("kl", temperature):
                    continue
                signal = self._signal(index, output, piece, temperature)
                if not isinstance(signal, SampledSignal):  # draws are no distribution to compare
                    for name, values_L in _distances(_teacher(subject, output), signal, temperature).items():
                        found[index][name].append(values_L)
            start = piece.stop
        return [{name: torch.cat(values) for name, values in named.items()} for named in found]

    def gradient(self, served: Sequence[int], divergence: str, temperature: float) -> LogitGradient:
        """Gradients of the loss at student logits: the full teacher's, then those of the served subjects."""

        def at(logits_LV: Tensor, piece: slice) -> list[Tensor]:
            output = next(self._batch.sample.slice(piece.start, piece.stop).chunks(piece.stop - piece.start))
            signals = [self._signal(index, output, piece, temperature) for index in served]
            full = _teacher(self._subjects[served[0]], output)
            return [_gradient(divergence, signal, logits_LV, temperature) for signal in (full, *signals)]

        return at

    def _signal(self, index: int, output: Output, piece: slice, temperature: float) -> Signal:
        key, subject = (index, piece.start, piece.stop), self._subjects[index]
        if key not in self._arrays:
            place = slice(self._offset + piece.start, self._offset + piece.stop)
            self._arrays[key] = subject.arrays(output, place)
        return subject.codec.decode(self._arrays[key], temperature)


def _teacher(subject: Subject, output: Output) -> DenseSignal:
    """The full teacher, over the ids that it emits."""
    return DenseSignal(subject.codec.masked(output.logits_LV))


def _gradient(divergence: str, signal: Signal, logits_LV: Tensor, temperature: float) -> Tensor:
    """The gradient of a divergence at student logits, float [L, V]."""
    if divergence == "kl" and isinstance(signal, DenseSignal):  # T (q - p) takes a third of autograd's time
        q_LV = torch.softmax(logits_LV / temperature, dim=-1)
        return q_LV.sub_(signal.log_probs(temperature).exp_()).mul_(temperature)
    with torch.enable_grad():
        leaf_LV = logits_LV.detach().requires_grad_()
        loss = DIVERGENCES[divergence](signal, leaf_LV, temperature).sum()
        return torch.autograd.grad(loss, leaf_LV)[0]


def _reference_kl(reference: Reference, batch: Probe) -> Tensor:
    """KL(p_1 || q_1) of each position, float [L]."""
    found = []
    for logits_LV, piece in reference.logits(batch):
        output = next(batch.sample.slice(piece.start, piece.stop).chunks(piece.stop - piece.start))
        found.append(kl(DenseSignal(output.logits_LV), logits_LV, 1.0))
    return torch.cat(found)


def _distances(teacher: DenseSignal, signal: Signal, temperature: float) -> dict[str, Tensor]:
    """Distances between the teacher and a stored signal at each position, float [L] each."""
    log_p_LV = teacher.log_probs(temperature)
    # Stored on the left: it says what the categories are.
    stored_LC, full_LC = aligned_log_probs(signal, teacher.logits_LV, temperature)
    difference_LC = stored_LC.exp() - full_LC.exp()
    if isinstance(signal, DenseSignal):
        likeliest = log_p_LV.topk(min(_LIKELIEST, log_p_LV.shape[1]), dim=-1).indices
        tail_L = difference_LC.gather(-1, likeliest).sum(-1).abs()
        top_L = signal.logits_LV.argmax(-1)
    else:
        assert not isinstance(signal, SampledSignal)
        tail_L = difference_LC[:, : signal.ids_LK.shape[1]].sum(-1).abs()
        top_L = signal.ids_LK.gather(-1, signal.log_probs_LK.argmax(-1, keepdim=True))[:, 0]
    return {
        "kl": relative_entropy(full_LC.clamp(min=LOG_ZERO), stored_LC),
        "total_variation": difference_LC.abs().sum(-1) / 2,
        "top1_agreement": (top_L == log_p_LV.argmax(-1)).float(),
        "tail_mass_error": tail_L,
    }
