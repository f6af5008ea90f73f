"""What training tells of itself: of an optimizer step, of a validation, of the gradients of components."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Measures:
    """What an optimizer step has come to, over all of its batches and all processes.

    By component, ``raw`` is the mean per label token or row, ``weights`` what the run gives it (base, alpha and
    normaliser), and ``weighted`` its part of the loss: raw times weight times beta. Norms are of the gradient before
    clipping: ``total`` of all that is trained, ``encoder`` and ``decoder`` of what only they have, so without a
    shared embedding. ``rows`` is the effective batch.
    """

    raw: Mapping[str, float]
    weights: Mapping[str, float]
    weighted: Mapping[str, float]
    norms: Mapping[str, float]
    learning_rate: float
    temperature: float
    alpha: float
    rows: int
    label_tokens: int


@dataclass(frozen=True, kw_only=True)
class StepRecord(Measures):
    """An optimizer step in the course of training.

    ``step`` and ``epoch`` count from 1, ``mini_batch`` from 0: the step's last batch in its epoch. Seconds are of the
    step alone, but for ``elapsed_s``, of training over all starts.
    """

    step: int
    epoch: int
    mini_batch: int
    seconds: float
    data_wait_s: float
    sampling_s: float
    elapsed_s: float

    @property
    def loss(self) -> float:
        """What was minimised."""
        return sum(self.weighted.values())


@dataclass(frozen=True)
class ValidationRecord:
    """One pass over the validation rows.

    ``loss`` is the sum of ``raw``, the means of components, with the same weights at every validation
    (`kdtrain.weights.Weights.reference`); ``metrics`` are the validator's scores of texts that the student wrote, in
    ``metrics_s`` of the ``seconds``; ``best`` says whether no validation before had a lower loss.
    """

    step: int
    epoch: int
    loss: float
    raw: Mapping[str, float]
    best: bool
    label_tokens: int
    seconds: float
    elapsed_s: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    metrics_s: float = 0.0


@dataclass(frozen=True)
class GradientRecord:
    """How steep each component is, measured on one batch: weight and beta are part of it.

    Norms of the gradient of a component's part of the loss by the decoder's output, and by the encoder's; None where
    the component does not look there.
    """

    step: int
    epoch: int
    decoder: Mapping[str, float | None]
    encoder: Mapping[str, float | None]
