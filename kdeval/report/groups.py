"""How good the model is on groups of rows: by the kind of assertion that was expected, and by repository."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kdeval.report.counted import Counted, read_counted
from kdeval.report.evaluation import Evaluation
from kdeval.report.rows import Rows
from kdeval.report.strip import Strip
from kdeval.report.wording import cut
from kdeval.results import MetricResult, Value

FEWEST: Final = 10  # rows of a group that is shown by itself
_MOST = 15  # groups that are
_MEASURES: Final = ("f1", "code_quality", "exact_match")
_INSTEAD: Final = (
    "f1",
    "ast_validity",
    "exact_match",
)  # with another one in place of the Code Quality Score, where it could not be computed
_LONGEST = 120


@dataclass(frozen=True)
class Measure:
    """A column of a breakdown."""

    name: str
    title: str
    unit: str
    range: tuple[float, float | None]

    def strip(self, value: Value) -> Strip:
        """The value on the metric's range."""
        return Strip({"student": value}, self.unit, self.range)


@dataclass(frozen=True)
class GroupLine:
    """One group, or several small ones that were ``joined``: rows, and the value of each measure."""

    name: str
    rows: int
    values: list[Value]
    joined: bool = False


@dataclass(frozen=True)
class Breakdown:
    """Groups by their number of rows, with the values of some measures."""

    heading: str
    measures: list[Measure]
    lines: list[GroupLine]

    def values(self, measure: str) -> list[tuple[GroupLine, Value]]:
        """One measure of the groups that stand by themselves."""
        index = [each.name for each in self.measures].index(measure)
        return [(line, line.values[index]) for line in self.lines if not line.joined]


def breakdowns(evaluation: Evaluation, rows: Rows) -> tuple[Breakdown | None, Breakdown | None]:
    """By the kind of the expected assertion, None where no text holds a call; by repository, None for fewer than two.

    Both are None where none of the measures was computed.

    Raises
    ------
    InputError, MismatchError
        See `read_counted`.
    """
    metrics = evaluation.results.metrics
    chosen = _MEASURES if "code_quality" in metrics else _INSTEAD
    measures = [_measure(name, metrics[name]) for name in chosen if name in metrics]
    if not measures:
        return None, None
    counted = read_counted(evaluation, [measure.name for measure in measures])
    kinds, repos = [row.kind for row in rows.rows], [row.repo or "(no repository)" for row in rows.rows]
    has_calls = bool(evaluation.results.confusion)
    return (
        _breakdown("Expected assertion", kinds, "kind", "kinds", measures, counted) if has_calls else None,
        _breakdown("Repository", repos, "repository", "repositories", measures, counted)
        if len(set(repos)) > 1
        else None,
    )


def _measure(name: str, metric: MetricResult) -> Measure:
    return Measure(name, cut(metric.title, _LONGEST), cut(metric.unit, _LONGEST), metric.range)


def _breakdown(
    heading: str, names: Sequence[str], one: str, many: str, measures: list[Measure], counted: Counted
) -> Breakdown:
    counts = Counter(names)
    codes = {name: code for code, (name, _) in enumerate(counts.most_common())}
    codes_N = np.array([codes[name] for name in names])
    alone = [name for name, count in counts.most_common(_MOST) if count >= FEWEST]
    lines = [_line(cut(name, _LONGEST), codes_N == codes[name], measures, counted) for name in alone]
    rest = [count for name, count in counts.items() if codes[name] >= len(alone)]
    if rest:
        few = f"fewer than {FEWEST} rows each" if max(rest) < FEWEST else "others"
        title = f"{few} ({len(rest):,} {one if len(rest) == 1 else many})"
        lines.append(_line(title, codes_N >= len(alone), measures, counted, joined=True))
    return Breakdown(heading, measures, lines)


def _line(
    name: str, member_N: NDArray[np.bool_], measures: list[Measure], counted: Counted, joined: bool = False
) -> GroupLine:
    found = counted.of_rows(member_N)
    return GroupLine(name, int(member_N.sum()), [found[measure.name] for measure in measures], joined)
