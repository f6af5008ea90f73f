"""What an evaluation leaves behind: a summary of the set, and one line per sample.

``metrics_summary_final.json`` is a `Results`; ``predictions_final.jsonl`` holds one `Prediction` per line, in
the order of the data. The summary carries the checksum of the predictions, and is written after them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from kdeval.bounds import MAX_BATCH_SIZE, MAX_BEAMS, MAX_ROWS, MAX_TOKENS
from kdeval.metrics import Direction, Inputs
from kdstore.errors import InputError
from kdstore.store.files import Sha256
from kdstore.validation import parse

SCHEMA_VERSION: Final = 1
SUMMARY: Final = "metrics_summary_final.json"
PREDICTIONS: Final = "predictions_final.jsonl"


def _check_range(bounds: tuple[float, float | None]) -> tuple[float, float | None]:
    low, high = bounds
    if high is not None and not low < high:
        raise ValueError("a range must begin below its end")
    return bounds


Count = Annotated[int, Field(ge=0, le=MAX_ROWS)]
AtLeastOne = Annotated[int, Field(ge=1, le=MAX_ROWS)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class MetricResult(_Record):
    """One metric of one model: its value, and the record of what it means (see `Metric`).

    ``parts`` are values that belong to it, such as precision and recall; the record is theirs too.
    """

    title: str
    value: float
    parts: dict[str, float]
    unit: str
    range: Annotated[tuple[float, float | None], AfterValidator(_check_range)]
    direction: Direction
    good_at: float | None
    inputs: Inputs
    aggregation: str
    implementation: str

    def reaches_threshold(self, value: float) -> bool:
        """Whether ``value``, of the metric or of a part, counts as good; False where no threshold is published."""
        if self.good_at is None:
            return False
        return value >= self.good_at if self.direction == "higher" else value <= self.good_at


Metrics = dict[str, MetricResult]


class ModelRecord(_Record):
    """Which model was evaluated; ``weights_sha256`` is over names and values, whatever the file format."""

    path: str
    weights_sha256: Sha256
    parameters: AtLeastOne
    vocab_size: AtLeastOne


class DataRecord(_Record):
    """On what: ``fingerprint`` is a store's content hash or the SHA-256 of a file of rows; ``tokens`` counts labels.

    ``rejected`` counts rows of a file that could not be used.
    """

    path: str
    kind: Literal["store", "jsonl"]
    fingerprint: Sha256
    task: str
    rows: AtLeastOne
    tokens: Count
    rejected: Count


class TeacherRecord(_Record):
    """The text metrics of the predictions that a store keeps of its teacher, on the same rows."""

    name: str
    weights_sha256: Sha256
    metrics: Metrics


class Settings(_Record):
    """How predictions are made. ``limit`` rows at most; ``max_output_tokens`` None: what the data allow."""

    batch_size: int = Field(default=16, gt=0, le=MAX_BATCH_SIZE)
    num_beams: int = Field(default=1, gt=0, le=MAX_BEAMS)
    max_input_tokens: int = Field(default=512, gt=0, le=MAX_TOKENS)
    max_output_tokens: int | None = Field(default=None, gt=0, le=MAX_TOKENS)
    device: str = "auto"
    limit: int | None = Field(default=None, gt=0, le=MAX_ROWS)


class Results(_Record):
    """The summary of one evaluation."""

    schema_version: Literal[1] = SCHEMA_VERSION
    model: ModelRecord
    data: DataRecord
    metrics: Metrics
    teacher: TeacherRecord | None
    settings: Settings
    versions: dict[str, str]
    seconds: float
    predictions_sha256: Sha256


class Prediction(_Record):
    """One sample: texts, what the teacher-forced pass counted, and the value of each metric that has one."""

    id: str
    repo: str
    path: str
    prompt: str
    reference: str
    prediction: str
    teacher_prediction: str | None
    token_count: int
    token_correct: int
    nll_sum: float
    scores: dict[str, float | None]


def read_results(directory: Path) -> Results:
    """The summary that ``kdeval run --into DIRECTORY`` wrote.

    Raises
    ------
    InputError
        It is missing, or not one that this release wrote.
    """
    path = directory / SUMMARY
    if not path.is_file():
        raise InputError(
            f"Expected {path}. Got nothing there. Run `kdeval run MODEL --data DATA --into {directory}`."
        )
    return parse(Results, path.read_bytes(), f"summary {path}", InputError)


def read_predictions(directory: Path) -> Iterator[Prediction]:
    """The samples that ``kdeval run --into DIRECTORY`` wrote, one in memory at a time.

    Raises
    ------
    InputError
        The file is missing, or a line is not a prediction.
    """
    path = directory / PREDICTIONS
    if not path.is_file():
        raise InputError(
            f"Expected {path}. Got nothing there. Run `kdeval run MODEL --data DATA --into {directory}`."
        )
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            yield parse(Prediction, line, f"prediction {path}:{number}", InputError)


def format_value(value: float, unit: str) -> str:
    """A value for people: fractions in percent, the rest with its unit left to the heading."""
    if unit == "fraction":
        return f"{value:.1%}"
    return f"{value:.1f}" if unit == "BLEU points" else f"{value:.3f}"
