"""One evaluation that a report is about, or holds its own against: its summary, checked against its predictions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from kdeval.results import PREDICTIONS, MetricResult, Results, Value, read_results
from kdstore.errors import InputError, MismatchError
from kdstore.store.files import sha256_file

Subject = Literal["student", "teacher", "model"]
_SUBJECTS: Final[dict[str, Subject]] = {"directory": "student", "stored": "teacher", "file": "model"}


@dataclass(frozen=True)
class Evaluation:
    """A run directory with what `kdeval run` or `kdeval score` wrote there."""

    path: Path
    results: Results

    @property
    def name(self) -> str:
        """Name of the directory."""
        return self.path.resolve().name

    @property
    def predictions(self) -> Path:
        """The file of samples."""
        return self.path / PREDICTIONS

    @property
    def subject(self) -> Subject:
        """What was evaluated, in a word: of a store's own predictions it is the teacher."""
        return _SUBJECTS[self.results.model.kind]

    def values(self) -> dict[str, Value]:
        """Every metric and every part by name."""
        return flat(self.results.metrics)


def read_evaluation(path: Path) -> Evaluation:
    """The evaluation in a run directory.

    Raises
    ------
    InputError
        The summary or the predictions are missing, or the summary is damaged.
    MismatchError
        The predictions are not those of the summary.
    """
    found = Evaluation(path, read_results(path))
    if not found.predictions.is_file():
        raise InputError(
            f"Expected {found.predictions}. Got nothing there. Run `kdeval run MODEL --data DATA --into {path}`."
        )
    if (digest := sha256_file(found.predictions)) != found.results.predictions_sha256:
        raise MismatchError(
            f"Expected {found.predictions} to have the checksum {found.results.predictions_sha256[:12]} of its "
            f"summary. Got {digest[:12]}. Run `kdeval run` again."
        )
    return found


def flat(metrics: dict[str, MetricResult]) -> dict[str, Value]:
    """Metrics and their parts by name."""
    found: dict[str, Value] = {}
    for name, metric in metrics.items():
        found |= {name: metric, **metric.parts}
    return found
