"""Whose gradients are compared: a trained student's, or a student's that knows only label frequencies."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdstore.errors import MismatchError
from kdstore.fidelity.probe import Probe

LogitGradient = Callable[[Tensor, slice], Sequence[Tensor]]
"""From student logits [l, V] at positions of a probe to gradients there, [l, V] each: the full teacher's first."""


@dataclass(frozen=True)
class Products:
    """Inner products of the stored gradients with the full one: ``dot``, and the squared norms."""

    dot: Tensor
    full: Tensor
    stored: Tensor

    @property
    def angles(self) -> Tensor:
        """Degrees between full and stored gradient, float64 per stored signal; 90 where one of them is zero."""
        norms = (self.full * self.stored).sqrt()
        cosine = torch.where(norms > 0, self.dot / norms.clamp(min=1e-300), 0.0)
        # Two equal gradients have angle 0 although both are zero.
        cosine = torch.where((self.full == 0) & (self.stored == 0), 1.0, cosine)
        return torch.rad2deg(torch.arccos(cosine.clamp(-1, 1)))

    @property
    def norm_ratios(self) -> Tensor:
        """Norm of the stored gradient divided by the full one's, float64 per stored signal."""
        return (self.stored / self.full).sqrt()


class Reference(ABC):
    """A student at whose gradients fidelity is measured."""

    name: str

    @abstractmethod
    def logits(self, probe: Probe) -> list[tuple[Tensor, slice]]:
        """The student's logits, float32 [l, V], piece by piece, with the positions of the probe they belong to."""

    @abstractmethod
    def products(self, probe: Probe, gradient: LogitGradient) -> Products:
        """Compare gradients over all positions of ``probe``."""


class LabelFrequencies(Reference):
    """A student whose logits are the log of add-one-smoothed label frequencies, the same at every position.

    Its parameters are its logits, so gradients are those at the logits, averaged over positions like any student's.
    Logits are divided by T as the teacher's are. It sees what is wrong on average, not what is wrong at single
    positions; a trained student sees both.

    Parameters
    ----------
    counts_V
        How often each id is a label, [V].
    """

    name = "label frequencies"

    def __init__(self, counts_V: Tensor) -> None:
        smoothed_V = counts_V.double() + 1
        self.logits_V = (smoothed_V / smoothed_V.sum()).log().float()

    @classmethod
    def of(cls, label_counts: NDArray[np.int64], vocab_size: int) -> "LabelFrequencies":
        """From counts of the tokenizer's ids, which may be fewer than the ``vocab_size`` that the teacher scores."""
        counts_V = torch.zeros(vocab_size, dtype=torch.long)
        counts_V[: len(label_counts)] = torch.from_numpy(label_counts)
        return cls(counts_V)

    def logits(self, probe: Probe) -> list[tuple[Tensor, slice]]:
        """See `Reference`."""
        pieces = [slice(s, min(s + 256, probe.positions)) for s in range(0, probe.positions, 256)]
        return [(self.logits_V.expand(piece.stop - piece.start, -1), piece) for piece in pieces]

    def products(self, probe: Probe, gradient: LogitGradient) -> Products:
        """See `Reference`."""
        pieces = (gradient(logits_LV, piece) for logits_LV, piece in self.logits(probe))
        sums = [torch.stack([found_LV.double().sum(0) for found_LV in found]) for found in pieces]
        full_V, *stored = torch.stack(sums).sum(0)
        return Products(*_products(full_V, stored))


class Model(Protocol):
    """What is needed of a student; `kdstore.encode.teacher.Teacher` has it."""

    name: str
    model: torch.nn.Module

    def logits(self, inputs: Sequence[list[int]], labels: Sequence[list[int]]) -> Tensor:
        """Logits of every label token, float32 [L, V], differentiable in the parameters."""


class TrainedStudent(Reference):
    """A trained seq2seq student; gradients are those with respect to all of its parameters, dropout off.

    Parameters
    ----------
    model
        The student, in evaluation mode.
    fingerprint
        SHA-256 of its weights.
    rows
        Rows of a forward pass, whose activations are kept.

    Raises
    ------
    MismatchError
        It scores another number of ids than the teacher (at first use).
    """

    def __init__(self, model: Model, fingerprint: str, rows: int = 8) -> None:
        self.model = model
        self._rows = rows
        self.name = f"student {model.name} ({fingerprint[:12]})"
        self.parameters = [parameter for parameter in model.model.parameters() if parameter.requires_grad]

    def logits(self, probe: Probe) -> list[tuple[Tensor, slice]]:
        """See `Reference`."""
        with torch.no_grad():
            return [(logits_LV, piece) for logits_LV, piece in self._forward(probe)]

    @torch.enable_grad()
    def products(self, probe: Probe, gradient: LogitGradient) -> Products:
        """See `Reference`."""
        totals: list[Tensor] = []
        for logits_LV, piece in self._forward(probe):
            gradients = gradient(logits_LV.detach(), piece)
            for index, at_logits_LV in enumerate(gradients):
                flat = self._at_parameters(logits_LV, at_logits_LV)
                if index == len(totals):
                    totals.append(flat)
                else:
                    totals[index] += flat
        return Products(*_products(totals[0], totals[1:]))

    def _forward(self, probe: Probe) -> Iterator[tuple[Tensor, slice]]:
        start = 0
        for row in range(0, len(probe.labels), self._rows):
            inputs, labels = probe.inputs[row : row + self._rows], probe.labels[row : row + self._rows]
            logits_LV = self.model.logits(inputs, labels)
            if logits_LV.shape[1] != probe.sample.vocab_size:
                raise MismatchError(
                    f"Expected a student that scores {probe.sample.vocab_size:,} ids, as the teacher does. "
                    f"Got {logits_LV.shape[1]:,} from {self.model.name}. Choose one with the teacher's tokenizer."
                )
            yield logits_LV, slice(start, start + len(logits_LV))
            start += len(logits_LV)

    def _at_parameters(self, logits_LV: Tensor, gradient_LV: Tensor) -> Tensor:
        found = torch.autograd.grad(
            logits_LV, self.parameters, gradient_LV, retain_graph=True, materialize_grads=True
        )
        return torch.cat([part.flatten() for part in found])


def _products(full: Tensor, stored: Sequence[Tensor]) -> Tensor:
    """``dot``, ``full`` and ``stored`` of `Products`, float64 [3, stored signals]."""
    a = full.double().flatten()
    rows = [(a @ b, a @ a, b @ b) for b in (tensor.double().flatten() for tensor in stored)]
    return torch.stack([torch.stack(row) for row in rows], dim=1)
