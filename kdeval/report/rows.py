"""One pass over the predictions of an evaluation: what breakdowns and the choice of samples need of each row."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import numpy as np

from kdeval.metrics import Floats
from kdeval.metrics.exact_match import is_exact
from kdeval.report.evaluation import Evaluation
from kdeval.results import Prediction, read_predictions
from kdeval.text import assertion_kind, normalise_space

_ORDERED_BY: Final = ("code_quality", "f1")


@dataclass(frozen=True, slots=True)
class Row:
    """One sample: where it belongs, whether it is exact, and a short name of its prediction with its reference."""

    kind: str
    repo: str
    exact: bool
    pair: bytes


@dataclass(frozen=True)
class Rows:
    """All samples in the order of the data; ``score_N`` is each one's ``order``, NaN where that is undefined.

    ``order`` names the metric that says which samples are good; None where none was computed, and all scores are 0.
    """

    rows: list[Row]
    score_N: Floats
    order: str | None


def read_rows(evaluation: Evaluation) -> Rows | None:
    """The samples of an evaluation; None where these are no texts.

    Raises
    ------
    InputError
        A line is not a prediction.
    """
    order = next((name for name in _ORDERED_BY if name in evaluation.results.metrics), None)
    rows: list[Row] = []
    scores: list[float] = []
    known: dict[str, str] = {}  # so that equal names are kept once
    for sample in read_predictions(evaluation.predictions):
        if not sample.has("text"):
            return None
        rows.append(_row(sample, known))
        score = sample.scores.get(order) if order else 0.0
        scores.append(np.nan if score is None else score)
    return Rows(rows, np.array(scores, np.float64), order)


def _row(sample: Prediction, known: dict[str, str]) -> Row:
    kind, repo = assertion_kind(sample.reference), sample.repo
    pair = f"{normalise_space(sample.prediction)}\0{normalise_space(sample.reference)}"
    return Row(
        kind=known.setdefault(kind, kind),
        repo=known.setdefault(repo, repo),
        exact=is_exact(sample.prediction, sample.reference),
        pair=blake2b(pair.encode(errors="surrogatepass"), digest_size=16).digest(),
    )
