"""Which assertion method was written where another was expected, as a table with the commonest kinds."""

from collections import Counter
from dataclasses import dataclass
from typing import Final

from kdeval.report.wording import cut

_KINDS: Final = 9
_OTHERS: Final = "other kinds"
_LEVELS: Final = 5  # shades in the style sheet
_LONGEST = 30
_NO_METHODS: Final = ("none", "other")  # the kinds of texts that call no assertion

Table = dict[str, dict[str, int]]


@dataclass(frozen=True)
class ConfusionCell:
    """How often; ``level`` is its shade, by its share of the line; ``hit`` where both are the same kind."""

    count: int
    share: float
    level: int
    hit: bool


@dataclass(frozen=True)
class ConfusionLine:
    """What was written where ``expected`` was."""

    expected: str
    rows: int
    cells: list[ConfusionCell]


@dataclass(frozen=True)
class Methods:
    """Of the ``expected`` assertion methods, how many are ever ``written``, and in how many rows the others are due.

    ``favourite`` is the method that is written most: its name, in how many rows it is written and expected. None
    where no text calls one.
    """

    expected: int
    written: int
    never: list[str]
    never_rows: int
    favourite: tuple[str, int, int] | None


@dataclass(frozen=True)
class Confusion:
    """The table; ``worst`` is the commonest mistake: expected, predicted and rows."""

    predicted: list[str]
    lines: list[ConfusionLine]
    rows: int
    missed: int
    worst: tuple[str, str, int] | None
    methods: Methods


def confusion(table: Table) -> Confusion | None:
    """The table of an evaluation, of which the commonest kinds stay and the rest is added up; None without one."""
    counts = {(cut(a, _LONGEST), cut(b, _LONGEST)): n for a, line in table.items() for b, n in line.items() if n}
    if not counts:
        return None
    often: Counter[str] = Counter()
    for (expected, predicted), count in counts.items():
        often[expected] += count
        often[predicted] += count
    names = [name for name, _ in sorted(often.items(), key=lambda item: (-item[1], item[0]))]
    shown = names if len(names) <= _KINDS + 1 else [*names[:_KINDS], _OTHERS]
    merged: Counter[tuple[str, str]] = Counter()
    hits: Counter[str] = Counter()
    for (expected, predicted), count in counts.items():
        line, column = (name if name in shown else _OTHERS for name in (expected, predicted))
        merged[line, column] += count
        hits[line] += count * (expected == predicted)
    missed = {pair: count for pair, count in counts.items() if pair[0] != pair[1]}
    worst = min(missed.items(), key=lambda item: (-item[1], item[0]), default=None)
    lines = [_line(name, shown, merged) for name in shown]
    return Confusion(
        predicted=shown,
        lines=[line for line in lines if line.rows],
        rows=sum(counts.values()),
        missed=sum(missed.values()),
        worst=None if worst is None else (*worst[0], worst[1]),
        methods=_methods(counts),
    )


def _methods(counts: dict[tuple[str, str], int]) -> Methods:
    due: Counter[str] = Counter()
    written: Counter[str] = Counter()
    for (expected, predicted), count in counts.items():
        due[expected] += count
        written[predicted] += count
    for name in _NO_METHODS:
        due.pop(name, None)
        written.pop(name, None)
    never = sorted(due.keys() - written.keys(), key=lambda name: (-due[name], name))
    most = min(written, key=lambda name: (-written[name], name), default=None)
    return Methods(
        expected=len(due),
        written=len(due) - len(never),
        never=never,
        never_rows=sum(due[name] for name in never),
        favourite=None if most is None else (most, written[most], due[most]),
    )


def _line(expected: str, shown: list[str], merged: Counter[tuple[str, str]]) -> ConfusionLine:
    total = sum(merged[expected, predicted] for predicted in shown)
    cells = []
    for predicted in shown:
        count = merged[expected, predicted]
        share = count / total if total else 0.0
        level = 0 if not count else min(_LEVELS, 1 + int(share * _LEVELS))
        cells.append(ConfusionCell(count, share, level, expected == predicted != _OTHERS))
    return ConfusionLine(expected, total, cells)
