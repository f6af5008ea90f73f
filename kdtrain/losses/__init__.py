"""What a student is trained on: one loss component per file, found by its file name.

A component maps student logits to the *sum* of a loss over label tokens; the trainer divides by the label
tokens of the whole optimizer step, so that padding, batch size and accumulation change nothing.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from kdstore.codecs import Signal
from kdstore.registry import Registry


class Component(ABC):
    """Base of the loss components."""

    name: ClassVar[str]
    needs_signal: ClassVar[bool]

    @abstractmethod
    def __call__(
        self, student_logits_LV: Tensor, labels_L: Tensor, signal: Signal | None, temperature: float
    ) -> Tensor:
        """The loss summed over label tokens, a scalar in nats, differentiable in the student's logits.

        Parameters
        ----------
        student_logits_LV
            Float [L, V], at T = 1.
        labels_L
            int64 [L].
        signal
            The teacher's signal of the same tokens, decoded at ``temperature``; None where no component of the
            run needs it.
        temperature
            T of the distributions compared; token losses ignore it.
        """


LOSSES: Registry[type[Component]] = Registry("loss component", "kdtrain.losses")
