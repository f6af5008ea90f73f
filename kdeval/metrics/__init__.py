"""How good predictions are: one metric per file, found by its file name.

A measured metric works in two steps. `Measured.measure` turns samples into sufficient statistics, one row of numbers
per sample; `Measured.combine` turns the statistics of any weighted set of samples into values. So an evaluation keeps
a few numbers per sample instead of the texts, and a set can be resampled without measuring it again. A composite
metric has no statistics: it is a formula over the values of others.

Undefined values are NaN here, and None wherever they are written.

Shape letters: N samples, K statistics per sample, B weighted sets of samples, L label tokens.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from kdeval.samples import Group, Sample, TokenScores
from kdstore.errors import EmptyInputError
from kdstore.registry import Registry

Floats = NDArray[np.float64]
Values = dict[str, Floats]
"""Values of some sets, float64 [B] each, by name."""

Direction = Literal["higher", "lower", "one"]
Inputs = Group | Literal["metrics"]

TEACHER = "teacher."
"""Before the name of a metric: the value of the student's teacher on the same samples."""


@dataclass(frozen=True)
class Context:
    """What an evaluation tells its metrics.

    Attributes
    ----------
    embedding_model
        Directory or hub name of a sentence-transformer.
    temperature
        At which ``teacher_kl`` of the samples was computed.
    labels
        Names of all labels of a classification.
    thresholds
        Probability from which a label counts as predicted, by label; 0.5 where none is named.
    """

    embedding_model: str = "sentence-transformers/all-MiniLM-L6-v2"
    temperature: float = 2.0
    labels: tuple[str, ...] = ()
    thresholds: Mapping[str, float] = field(default_factory=dict)


class Metric(ABC):
    """Base of the metrics: a full record of what a number means, and how it is computed.

    ``range`` is (least, greatest), with None for no bound. ``direction`` says which values are better; ``one``: those
    near 1. ``inputs`` names what a sample must have (see `Sample.has`); ``metrics`` means the values of other
    metrics. ``parts`` are values that belong to it, such as precision and recall; the record holds for them too.
    ``good_at`` is the published threshold from which a value counts as good, or None.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    unit: ClassVar[str]
    range: ClassVar[tuple[float, float | None]]
    direction: ClassVar[Direction]
    inputs: ClassVar[Inputs]
    aggregation: ClassVar[str]
    parts: ClassVar[tuple[str, ...]] = ()
    good_at: ClassVar[float | None] = None

    @classmethod
    def create(cls, context: "Context") -> Self:
        """The metric for an evaluation; cheap, as statistics are also combined where nothing is measured."""
        return cls()

    def prepare(self) -> None:  # noqa: B027
        """Get what measuring needs, before anything is measured.

        Raises
        ------
        CapabilityError, ModelError
            It is not on this machine.
        """

    @property
    def implementation(self) -> str:
        """Whose code computes the number, with its version or signature."""
        return f"kdeval.metrics.{self.name} {version('kdstore')}"


class Measured(Metric):
    """Base of the metrics that look at samples.

    ``columns`` names the statistics, one for each of K. A sample without the metric's ``inputs`` has zeros in all of
    them, and so counts for nothing.
    """

    inputs: ClassVar[Group]
    columns: ClassVar[tuple[str, ...]]

    @abstractmethod
    def measure(self, samples: Sequence[Sample]) -> Floats:
        """Sufficient statistics of each sample, finite float64 [N, K]."""

    @abstractmethod
    def combine(self, stats_NK: Floats, weights_BN: Floats) -> Values:
        """The metric's value and its parts', in this order, for each of B sets.

        Set b holds sample n ``weights_BN[b, n]`` times, a whole number, 0 or more. NaN where a value is undefined.
        """

    def per_sample(self, stats_NK: Floats) -> Values:
        """The values of each sample as a set of its own, [N] each."""
        return self.combine(stats_NK, np.eye(len(stats_NK)))

    def score(self, samples: Sequence[Sample]) -> dict[str, float]:
        """Values of one set.

        Raises
        ------
        EmptyInputError
            There is no sample.
        """
        if not samples:
            raise EmptyInputError(f"Expected at least one sample for {self.name}. Got none. Check the data.")
        values = self.combine(self.measure(samples), np.ones((1, len(samples))))
        return {name: float(value_B[0]) for name, value_B in values.items()}


class Summed(Measured):
    """Base of the metrics that are a function of sums over samples."""

    @abstractmethod
    def of_sums(self, sums_BK: Floats) -> Values:
        """Values of sets whose statistics add up to ``sums_BK``, [B] each; NaN where a value is undefined."""

    def combine(self, stats_NK: Floats, weights_BN: Floats) -> Values:
        """`of_sums` of the weighted sums."""
        return self.of_sums(weights_BN @ stats_NK)

    def per_sample(self, stats_NK: Floats) -> Values:
        """`of_sums` of each sample's own."""
        return self.of_sums(stats_NK)


class SampleMean(Summed):
    """Base of metrics that are defined for one sample and averaged, every sample counting the same."""

    inputs: ClassVar[Group] = "text"
    aggregation: ClassVar[str] = "mean over samples"

    @property
    def columns(self) -> tuple[str, ...]:  # type: ignore[override]
        """The values, and 1 to count samples."""
        return (self.name, *self.parts, "samples")

    @abstractmethod
    def values(self, sample: Sample) -> tuple[float, ...]:
        """The metric's value of one sample, then its parts'."""

    def measure(self, samples: Sequence[Sample]) -> Floats:
        """The values of each sample and a 1, float64 [N, 1 + parts + 1]."""
        nothing = (0.0,) * len(self.columns)
        rows = ((*self.values(sample), 1.0) if sample.has(self.inputs) else nothing for sample in samples)
        return np.array([*rows], np.float64)

    def of_sums(self, sums_BK: Floats) -> Values:
        """Sums over the number of samples."""
        return ratios((self.name, *self.parts), sums_BK[:, :-1], sums_BK[:, -1])


class TokenMean(Summed):
    """Base of metrics of the teacher-forced pass: a sum over label tokens divided by their number."""

    inputs: ClassVar[Group] = "tokens"
    aggregation: ClassVar[str] = "mean over the label tokens of all samples"
    columns: ClassVar[tuple[str, ...]] = ("total", "tokens")

    @abstractmethod
    def total(self, tokens: TokenScores) -> float:
        """The sum over the label tokens of one sample."""

    def measure(self, samples: Sequence[Sample]) -> Floats:
        """Sum and number of label tokens of each sample, float64 [N, 2]."""
        rows = (
            (self.total(sample.tokens), len(sample.tokens))
            if sample.tokens is not None and sample.has(self.inputs)
            else (0, 0)
            for sample in samples
        )
        return np.array([*rows], np.float64)

    def of_sums(self, sums_BK: Floats) -> Values:
        """Sum over all tokens divided by their number; undefined without tokens."""
        return ratios((self.name,), sums_BK[:, :1], sums_BK[:, 1])


class Composite(Metric):
    """Base of the metrics that are formulas over other metrics.

    ``components`` are the names of those, or of their parts; with `TEACHER` before a name it is the teacher's value.
    """

    inputs: ClassVar[Inputs] = "metrics"
    components: ClassVar[tuple[str, ...]]

    @abstractmethod
    def of_values(self, values: Values) -> Values:
        """The metric's value and its parts', [B] each, from those of its components; NaN where one is undefined."""


def ratios(names: Sequence[str], totals_BK: Floats, counts_B: Floats) -> Values:
    """Totals divided by counts, a name for each column; NaN where a count is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        means_BK = np.where(counts_B[:, None] > 0, totals_BK / counts_B[:, None], np.nan)
    return {name: means_BK[:, index] for index, name in enumerate(names)}


METRICS: Registry[type[Metric]] = Registry("metric", "kdeval.metrics")
