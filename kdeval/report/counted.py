"""Metrics of any rows of an evaluation, from what was counted in each: no text is measured again."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdeval.choose import closure
from kdeval.files import read_statistics
from kdeval.interval import bootstrap
from kdeval.judge import value as judged
from kdeval.metrics import METRICS, Context, Floats, Measured, Metric, Values
from kdeval.report.evaluation import Evaluation
from kdeval.results import Settings, Value
from kdeval.tally import Statistics, values_of
from kdstore.errors import InputError, MismatchError


@dataclass(frozen=True)
class Counted:
    """Metrics with their statistics, [N, K] each, of all N rows."""

    metrics: Sequence[Metric]
    statistics: Statistics
    settings: Settings

    def of_rows(self, member_N: NDArray[np.bool_]) -> dict[str, Value]:
        """The values of some rows, by name, as an evaluation of these alone would give them."""
        statistics = {name: stats_NK[member_N] for name, stats_NK in self.statistics.items()}

        def values(weights_BN: Floats) -> Values:
            return values_of(self.metrics, statistics, weights_BN)

        count, settings = int(member_N.sum()), self.settings
        points = values(np.ones((1, count)))
        drawn = bootstrap(values, count, settings.draws, settings.seed) if settings.draws else {}
        return {name: judged(float(point_1[0]), drawn.get(name), settings.level) for name, point_1 in points.items()}


def check_same(path: Path, name: str, found: float | None, recorded: float | None) -> None:
    """Check that statistics give the value that the summary beside them has; what is undefined is not looked at.

    Raises
    ------
    MismatchError
        They do not: another release counted something else under the same name.
    """
    if found is None or recorded is None or math.isclose(found, recorded, rel_tol=1e-6, abs_tol=1e-9):
        return
    raise MismatchError(
        f"Expected the statistics in {path} to give {name} = {recorded:.6g}, as the summary beside them says. Got "
        f"{found:.6g}. Run `kdeval run` again with this release."
    )


def read_counted(evaluation: Evaluation, names: Sequence[str]) -> Counted:
    """Metrics of these names that the evaluation has, with all that they are made of.

    Raises
    ------
    InputError, MismatchError
        See `read_statistics` and `check_same`; or the statistics are not those of this release.
    """
    results = evaluation.results
    wanted = closure([name for name in names if name in results.metrics])
    context = Context(results.settings.embedding_model, results.settings.temperature)
    metrics = [METRICS.get(name).create(context) for name in wanted]
    read = read_statistics(evaluation.path, results)[0] if metrics else {}
    measured = [metric for metric in metrics if isinstance(metric, Measured)]
    for metric in measured:
        found = read[metric.name].shape[1] if metric.name in read else 0
        if found != len(metric.columns):
            raise InputError(
                f"Expected {len(metric.columns)} statistics of {metric.name} in {evaluation.path}. Got {found}. "
                "Run `kdeval run` again with this release."
            )
    statistics = {metric.name: read[metric.name] for metric in measured}
    values = values_of(metrics, statistics, np.ones((1, results.data.rows)))
    for name in statistics:
        recorded = results.metrics.get(name)
        check_same(evaluation.path, name, float(values[name][0]), recorded.value if recorded else None)
    return Counted(metrics, statistics, results.settings)
