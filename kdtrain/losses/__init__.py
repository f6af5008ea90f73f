"""What a student is trained on: one loss component per file, found by its file name.

Components are of five kinds, by what they look at:

================  ====================================================================  =====================
`LabelLoss`       the probability that the student gives each label                     ce, focal
`Divergence`      the teacher's and the student's distributions at each label token     kl, reverse_kl, jsd
`SequenceLoss`    the probabilities that each position of a row gives all its labels    pans
`EncoderLoss`     the pooled encoder states of a row, and a stored embedding            semantic, contrastive
`SampleLoss`      a text that the student writes for a row                              ast
================  ====================================================================  =====================

The first three are computed by the distillation head (`kdtrain.losses.fused`), which finds value and gradient in one
pass over a few tokens at a time and keeps neither logits nor probabilities: label losses and divergences give their
own derivative. A component gives *sums*, over label tokens or over rows as its ``per`` says; what they are divided by
is counted over the whole optimizer step, so that padding, batch size and accumulation change nothing.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from kdstore.codecs import SampledSignal
from kdstore.errors import CapabilityError
from kdstore.registry import Registry


class Component(ABC):
    """Base of the loss components.

    ``per`` is what a mean of the component is taken over: ``sample`` means rows for which the student writes.
    ``hard`` says whose side it is on where alpha divides the weight between the labels and the teacher: True, False,
    or None for a component that alpha leaves alone. ``options`` are the constructor's arguments that a configuration
    sets: ``gamma`` of focal is its ``focal_gamma``.
    """

    name: ClassVar[str]
    per: ClassVar[Literal["token", "row", "sample"]]
    hard: ClassVar[bool | None] = None
    options: ClassVar[tuple[str, ...]] = ()
    needs_signal: ClassVar[bool] = False
    needs_embedding: ClassVar[bool] = False


class LabelLoss(Component):
    """A function of the label's probability alone, at T = 1."""

    per = "token"
    hard = True

    @abstractmethod
    def __call__(self, log_q_L: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of each label token in nats, and its derivative by log q(y); ``log_q_L`` float [L] is log q(y)."""


class Divergence(Component):
    """A comparison of the teacher's distribution with the student's, both softened by T."""

    per = "token"
    hard = False
    needs_signal = True

    @abstractmethod
    def __call__(self, p_LC: Tensor, q_LC: Tensor, log_ratio_LC: Tensor, out_LC: Tensor) -> Tensor:
        """The divergence of each label token in nats, float [L], without the factor T^2.

        Parameters
        ----------
        p_LC, q_LC
            Teacher's and student's probabilities of C categories: all ids, or candidates and all others together.
        log_ratio_LC
            log p - log q.
        out_LC
            Takes the derivative by the student's scaled logits; overlaps none of the others.
        """

    def of_draws(self, signal: SampledSignal, log_q_LV: Tensor, out_LV: Tensor) -> Tensor:
        """The same for weighted draws from the teacher, given log q at T.

        Raises
        ------
        CapabilityError
            Draws cannot serve it, because it is not linear in the teacher's probabilities.
        """
        raise CapabilityError(f"Expected a loss that draws can serve (kl). Got {self.name!r}. Use another codec.")


class SequenceLoss(Component):
    """A function of how likely each position of a row finds each of the row's labels, at T = 1."""

    per = "row"

    @abstractmethod
    def __call__(self, log_q_BNN: Tensor, lengths_B: Sequence[int]) -> Tensor:
        """The loss of each row, float [B], differentiable.

        ``log_q_BNN`` at [b, j, i] is the log-probability that position j of row b gives label i of that row; what
        lies beyond a row's length counts for nothing.
        """


class EncoderLoss(torch.nn.Module, Component):
    """Draws pooled encoder states, through a linear map of its own, to the stored embedding of the reference.

    Parameters
    ----------
    width
        Of the encoder's states.
    embedding_width
        Of the stored embedding.
    """

    per = "row"
    needs_embedding = True

    def __init__(self, width: int, embedding_width: int) -> None:
        super().__init__()
        self.projection = torch.nn.Linear(width, embedding_width)

    @abstractmethod
    def forward(self, pooled_BD: Tensor, embedding_BE: Tensor) -> Tensor:
        """The loss summed over rows, a scalar, differentiable."""


class SampleLoss(Component):
    """The expected value of a property of what the student writes; its gradient is that of the policy."""

    per = "sample"

    @abstractmethod
    def __call__(self, valid: Sequence[bool]) -> list[float]:
        """The loss of each text, given which of them are valid."""


LOSSES: Registry[type[Component]] = Registry("loss component", "kdtrain.losses", besides=("fused",))
