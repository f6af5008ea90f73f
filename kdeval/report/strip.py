"""A metric's range as a line, with a mark for each model and a whisker for its interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from markupsafe import Markup

from kdeval.report.svg import Scale, line, picture
from kdeval.report.wording import ends, number
from kdeval.results import Value

_WIDTH, _PAD, _LANE, _MARGIN = 150, 6, 11, 4

Who = Literal["student", "teacher", "baseline"]
# Told apart by shape too, for those who do not see the colours; drawn around 0.
_SHAPES: Final[dict[Who, str]] = {
    "student": '<circle r="3.5" cx="{x}" cy="{y}"/>',
    "teacher": '<path d="M{x},{y}m0,-4.5l4,4.5l-4,4.5l-4,-4.5z"/>',
    "baseline": '<path d="M{x},{y}m-3,-3h6v6h-6z"/>',
}


@dataclass(frozen=True)
class Strip:
    """Values on the range from ``low`` to ``high``; ``mark`` is a threshold.

    A range without an end ends at the greatest number that is shown.
    """

    values: dict[Who, Value]
    unit: str
    range: tuple[float, float | None]
    mark: float | None = None

    @property
    def bounds(self) -> tuple[float, float]:
        """The ends of the line."""
        low, high = self.range
        if high is not None:
            return low, high
        shown = [value.value for value in self.values.values() if value.value is not None]
        shown += [value.interval.high for value in self.values.values() if value.interval]
        return low, max(low, *shown, self.mark or low) if shown else low + 1


def strip_chart(strip: Strip) -> Markup:
    """One line for each model; nothing where no value is defined."""
    known: list[tuple[Who, Value, float]] = [
        (who, value, value.value) for who, value in strip.values.items() if value.value is not None
    ]
    if not known:
        return Markup("")
    low, high = strip.bounds
    x = Scale(low, high, _PAD, _WIDTH - _PAD)
    height = 2 * _MARGIN + _LANE * len(known)
    parts = []
    if strip.mark is not None and low <= strip.mark <= high:
        parts.append(line("mark", x(strip.mark), 0, x(strip.mark), height))
    for lane, (who, value, point) in enumerate(known):
        y = _MARGIN + _LANE * (lane + 0.5)
        parts.append(line("range", _PAD, y, _WIDTH - _PAD, y))
        parts.append(Markup('<g class="{}">{}</g>').format(who, Markup("").join(_mark(who, value, point, x, y))))
    told = ", ".join(f"{who} {number(point, strip.unit)}{_between(value, strip.unit)}" for who, value, point in known)
    label = f"{told}, on a line from {number(low, strip.unit)} to {number(high, strip.unit)}"
    return picture(label, parts, _WIDTH, height, "strip")


def _mark(who: Who, value: Value, point: float, x: Scale, y: float) -> Sequence[Markup]:
    def inside(number: float) -> float:
        return x(min(max(number, x.low), x.high))

    shape = Markup(_SHAPES[who].format(x=inside(point), y=y))  # numbers only
    if value.interval is None:
        return [shape]
    low, high = inside(value.interval.low), inside(value.interval.high)
    caps = [line("whisker", end, y - 3, end, y + 3) for end in (low, high)]
    return [line("whisker", low, y, high, y), *caps, shape]


def _between(value: Value, unit: str) -> str:
    between = ends(value.interval, unit)
    return f" ({between})" if between else ""
