"""How good predictions are: one metric per file, found by its file name.

A metric works in two steps. `Metric.measure` turns samples into sufficient statistics, one row of numbers per
sample; `Metric.combine` turns the statistics of any set of samples into values. So an evaluation keeps a few
numbers per sample instead of the texts, and a set can be resampled without measuring it again.

Shape letters: N samples, K statistics per sample.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from kdstore.errors import EmptyInputError
from kdstore.registry import Registry

Stats = NDArray[np.float64]
Direction = Literal["higher", "lower"]
Inputs = Literal["text", "tokens"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One row with what a model made of it.

    The last three fields come from a teacher-forced pass over the reference: the number of label tokens (the
    end token counts), how many of them the model ranked first, and the sum of their negative
    log-probabilities in nats. They are 0 where there was no such pass.
    """

    id: str
    prompt: str
    reference: str
    prediction: str
    teacher_prediction: str | None = None
    repo: str = ""
    path: str = ""
    token_count: int = 0
    token_correct: int = 0
    nll_sum: float = 0.0


@dataclass(frozen=True, slots=True)
class Scores:
    """What a metric says of a set of samples.

    ``values`` begins with the metric's own name; the other names are its parts. ``per_sample`` holds the value
    of each sample, None where it is undefined; it is None for metrics that only exist for a set.
    """

    values: dict[str, float]
    per_sample: list[float | None] | None


class Metric(ABC):
    """Base of the metrics: a full record of what a number means, and how it is computed.

    ``range`` is (least, greatest), with None for no bound. ``direction`` says which end is better. ``inputs``
    is ``text`` for metrics of prediction against reference and ``tokens`` for those of the teacher-forced
    pass. ``good_at`` is the published threshold from which a value counts as good, or None. The record holds
    for the metric's parts too, such as precision and recall.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    unit: ClassVar[str]
    range: ClassVar[tuple[float, float | None]]
    direction: ClassVar[Direction]
    inputs: ClassVar[Inputs]
    aggregation: ClassVar[str]
    good_at: ClassVar[float | None] = None

    @property
    def implementation(self) -> str:
        """Whose code computes the number, with its version or signature."""
        return f"kdeval.metrics.{self.name}"

    @abstractmethod
    def measure(self, samples: Sequence[Sample]) -> Stats:
        """Sufficient statistics of each sample, float64 [N, K]."""

    @abstractmethod
    def combine(self, stats_NK: Stats) -> dict[str, float]:
        """Values of the set whose statistics are given, N >= 1; the metric's own name comes first."""

    def per_sample(self, stats_NK: Stats) -> list[float | None] | None:
        """The value of each sample, None where it is undefined; None for a metric that only exists for a set."""
        return None

    def score(self, samples: Sequence[Sample]) -> Scores:
        """Values of a set, and of each sample where they exist.

        Raises
        ------
        EmptyInputError
            There is no sample, or none with what the metric needs.
        """
        if not samples:
            raise EmptyInputError(f"Expected at least one sample for {self.name}. Got none. Check the data.")
        stats_NK = self.measure(samples)
        return Scores(self.combine(stats_NK), self.per_sample(stats_NK))


class SampleMean(Metric):
    """Base of metrics that are defined for one sample and averaged, every sample counting the same."""

    inputs: ClassVar[Inputs] = "text"
    aggregation: ClassVar[str] = "mean over samples"
    parts: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def values(self, sample: Sample) -> tuple[float, ...]:
        """The metric's value of one sample, then its parts'."""

    def measure(self, samples: Sequence[Sample]) -> Stats:
        """The values of each sample, float64 [N, 1 + parts]."""
        return np.array([self.values(sample) for sample in samples], np.float64)

    def combine(self, stats_NK: Stats) -> dict[str, float]:
        """Column means."""
        return dict(zip((self.name, *self.parts), stats_NK.mean(axis=0).tolist(), strict=True))

    def per_sample(self, stats_NK: Stats) -> list[float | None]:
        """The first column."""
        return list(stats_NK[:, 0].tolist())


class TokenMean(Metric):
    """Base of metrics of the teacher-forced pass: a sum over label tokens divided by their number."""

    inputs: ClassVar[Inputs] = "tokens"
    aggregation: ClassVar[str] = "mean over the label tokens of all samples"

    @abstractmethod
    def total(self, sample: Sample) -> float:
        """The sum over the label tokens of one sample."""

    def measure(self, samples: Sequence[Sample]) -> Stats:
        """Sum and number of label tokens of each sample, float64 [N, 2]."""
        return np.array([(self.total(sample), sample.token_count) for sample in samples], np.float64)

    def combine(self, stats_NK: Stats) -> dict[str, float]:
        """Sum over all tokens divided by their number.

        Raises
        ------
        EmptyInputError
            No sample has a label token.
        """
        total, count = stats_NK.sum(axis=0).tolist()
        if count == 0:
            raise EmptyInputError(f"Expected label tokens for {self.name}. Got none. Run the teacher-forced pass.")
        return {self.name: total / count}

    def per_sample(self, stats_NK: Stats) -> list[float | None]:
        """Each sample's own mean; None for one without label tokens."""
        return [total / count if count else None for total, count in stats_NK.tolist()]


METRICS: Registry[type[Metric]] = Registry("metric", "kdeval.metrics")
