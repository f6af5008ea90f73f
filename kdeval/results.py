"""What an evaluation leaves behind, a schema for each file.

=============================  ==============================================================================
``predictions_final.jsonl``    one `Prediction` per line, in the order of the data
``metrics_final.csv``          one row per sample: who it is, and the value of each metric (see `kdeval.tables`)
``evaluation_metrics.json``    `Comparison`: student, teacher and gap of each metric, for scripts
``statistics.safetensors``     what each metric counted in each sample, so that sets can be resampled
``metrics_summary_final.json`` `Results`: all of it with its provenance; written last, with the others' checksums
=============================  ==============================================================================
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

from kdeval.bounds import MAX_BATCH_SIZE, MAX_BEAMS, MAX_DRAWS, MAX_LINE, MAX_ROWS, MAX_TOKENS
from kdeval.interval import DRAWS, LEVEL, Interval
from kdeval.metrics import Direction, Inputs
from kdeval.samples import Sample
from kdstore.errors import InputError
from kdstore.store.files import Sha256
from kdstore.validation import parse

SCHEMA_VERSION: Final = 2
SUMMARY: Final = "metrics_summary_final.json"
PREDICTIONS: Final = "predictions_final.jsonl"
SAMPLES_TABLE: Final = "metrics_final.csv"
COMPARISON: Final = "evaluation_metrics.json"
STATISTICS: Final = "statistics.safetensors"


def _check_range(bounds: tuple[float, float | None]) -> tuple[float, float | None]:
    low, high = bounds
    if high is not None and not low < high:
        raise ValueError("a range must begin below its end")
    return bounds


Count = Annotated[int, Field(ge=0, le=MAX_ROWS)]
AtLeastOne = Annotated[int, Field(ge=1, le=MAX_ROWS)]
Seconds = Annotated[float, Field(ge=0)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Value(_Record):
    """A number and its 95 % interval; None where it is undefined for these samples."""

    value: float | None
    interval: Interval | None


class MetricResult(Value):
    """One metric of one model: its value, and the record of what it means (see `Metric`).

    ``parts`` are values that belong to it, such as precision and recall; the record is theirs too.
    """

    title: str
    parts: dict[str, Value]
    unit: str
    range: Annotated[tuple[float, float | None], AfterValidator(_check_range)]
    direction: Direction
    good_at: float | None
    inputs: Inputs
    aggregation: str
    implementation: str

    def reaches_threshold(self, value: float | None) -> bool:
        """Whether ``value``, of the metric or of a part, counts as good; False where no threshold is published."""
        if self.good_at is None or value is None:
            return False
        return value >= self.good_at if self.direction == "higher" else value <= self.good_at


Metrics = dict[str, MetricResult]


class ModelRecord(_Record):
    """What was evaluated: a model, or predictions that somebody has made.

    ``weights_sha256`` is over names and values, whatever the file format; ``bytes`` are those of the weights in
    memory. None: unknown.
    """

    name: str
    kind: Literal["directory", "stored", "file"]
    weights_sha256: Sha256 | None
    parameters: AtLeastOne | None
    bytes: AtLeastOne | None
    vocab_size: AtLeastOne | None


class DataRecord(_Record):
    """On what: ``fingerprint`` is a store's content hash or the SHA-256 of a file of rows; ``tokens`` counts labels.

    ``rejected`` counts rows of a file that could not be used.
    """

    path: str
    kind: Literal["store", "jsonl", "predictions"]
    fingerprint: Sha256
    task: str
    rows: AtLeastOne
    tokens: Count
    rejected: Count


class TeacherRecord(_Record):
    """Whose predictions the data hold."""

    name: str
    weights_sha256: Sha256 | None


class TeacherResults(TeacherRecord):
    """What these predictions, and the signal beside them, are worth on the first ``rows`` of the same rows."""

    rows: AtLeastOne
    metrics: Metrics


class Settings(_Record):
    """How predictions are made and judged. ``limit`` rows at most; ``max_output_tokens`` None: what the data allow.

    ``thresholds`` are those of labels, where they are not 0.5.
    ``temperature`` is that of the comparison with a teacher's signal. Sampling has a temperature of its own; without
    ``sample`` generation is greedy, or a search with ``num_beams``.
    """

    batch_size: int = Field(default=16, gt=0, le=MAX_BATCH_SIZE)
    num_beams: int = Field(default=1, gt=0, le=MAX_BEAMS)
    sample: bool = False
    sampling_temperature: float = Field(default=1.0, gt=0, le=100)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_input_tokens: int = Field(default=512, gt=0, le=MAX_TOKENS)
    max_output_tokens: int | None = Field(default=None, gt=0, le=MAX_TOKENS)
    device: str = "auto"
    limit: int | None = Field(default=None, gt=0, le=MAX_ROWS)
    teacher_limit: int | None = Field(default=None, gt=0, le=MAX_ROWS)
    temperature: float = Field(default=2.0, gt=0, le=1000)
    embedding_model: str = "sentence-transformers/all-MiniLM-L6-v2"
    thresholds: dict[str, float] = Field(default_factory=dict)
    draws: int = Field(default=DRAWS, ge=0, le=MAX_DRAWS)
    level: float = Field(default=LEVEL, gt=0, lt=1)
    seed: int = Field(default=0, ge=0, lt=1 << 63)


class Speed(_Record):
    """How long generation took: batches of ``Settings.batch_size`` on ``Settings.device``, with ``threads``."""

    seconds: Seconds
    rows: Count
    tokens: Count
    threads: AtLeastOne
    device: str


class Results(_Record):
    """The summary of one evaluation.

    ``gaps`` are student minus teacher, on the teacher's rows. ``confusion`` counts assertion methods: expected, then
    predicted. ``left_out`` says why a metric of the task is not there.
    """

    schema_version: Literal[2] = 2
    model: ModelRecord
    data: DataRecord
    metrics: Metrics
    teacher: TeacherResults | None
    gaps: dict[str, Value]
    confusion: dict[str, dict[str, Count]]
    left_out: dict[str, str]
    settings: Settings
    speed: Speed | None
    versions: dict[str, str]
    seconds: Seconds
    predictions_sha256: Sha256
    statistics_sha256: Sha256


class Compared(_Record):
    """One metric, flat: of the student, of its teacher, and the difference, with intervals."""

    title: str
    unit: str
    direction: Direction
    good_at: float | None
    student: float | None
    student_interval: Interval | None
    teacher: float | None
    teacher_interval: Interval | None
    gap: float | None
    gap_interval: Interval | None


class Comparison(_Record):
    """``evaluation_metrics.json``: every metric and every part by name."""

    schema_version: Literal[2] = 2
    rows: AtLeastOne
    teacher_rows: Count
    level: float
    metrics: dict[str, Compared]


@dataclass(frozen=True, slots=True)
class Prediction(Sample):
    """One sample, and the value of each metric by itself, for the student and for its teacher; None: undefined."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    scores: dict[str, float | None] = field(default_factory=dict)
    teacher_scores: dict[str, float | None] | None = None


@cache
def prediction_schema() -> TypeAdapter[Prediction]:
    """Reads and writes a line of ``predictions_final.jsonl``."""
    return TypeAdapter(Prediction)


def read_results(directory: Path) -> Results:
    """The summary that ``kdeval run --into DIRECTORY`` wrote.

    Raises
    ------
    InputError
        It is missing, or not one that this release wrote.
    """
    path = directory / SUMMARY
    if directory.is_file():
        raise InputError(f"Expected a run directory. Got the file {directory}. Name the directory that it is in.")
    if not path.is_file():
        raise InputError(
            f"Expected {path}. Got nothing there. Run `kdeval run MODEL --data DATA --into {directory}`."
        )
    return parse(Results, path.read_bytes(), f"summary {path}", InputError)


def read_predictions(path: Path) -> Iterator[Prediction]:
    """The samples in a file of predictions, one in memory at a time.

    Raises
    ------
    InputError
        The file is missing, or a line is not a prediction.
    """
    if not path.is_file():
        found = "a directory" if path.is_dir() else "nothing"
        raise InputError(f"Expected a file of predictions at {path}. Got {found} there. Name a {PREDICTIONS}.")
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE), b""), 1):
            yield parse(prediction_schema(), line, f"prediction {path}:{number}", InputError)


def format_value(value: float | None, unit: str) -> str:
    """A value for people: fractions in percent, the rest with its unit left to the heading."""
    if value is None:
        return "undefined"
    if unit == "fraction":
        return f"{value:.1%}"
    return f"{value:.1f}" if unit == "BLEU points" else f"{value:.3f}"


def format_gap(difference: float | None, unit: str) -> str:
    """A difference for people, with its sign; of fractions in percentage points."""
    if difference is None:
        return ""
    if unit == "fraction":
        return f"{100 * difference:+.1f} pp"
    return f"{difference:+.1f}" if unit == "BLEU points" else f"{difference:+.3f}"
