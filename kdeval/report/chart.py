"""Line charts as inline SVG, coloured by the page's style sheet so that they follow light and dark."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from kdeval.report.curves import Curve, Points

_WIDTH, _HEIGHT = 360, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 10, 34
_MAX_POINTS = 240  # more than a line of this width can show
_MAX_DOTS = 40


def line_chart(curve: Curve) -> Markup:
    """Training line and validation line with dots, over steps."""
    steps = [step for step, _ in (*curve.train, *curve.val)]
    values = [value for _, value in (*curve.train, *curve.val)]
    x = _Scale(min(steps), max(steps), _LEFT, _WIDTH - _RIGHT)
    pad = 0.05 * (max(values) - min(values)) or 0.5
    y = _Scale(min(values) - pad, max(values) + pad, _HEIGHT - _BOTTOM, _TOP)
    parts = [*_grid(x, y), _path("train", _thin(curve.train), x, y), _path("val", curve.val, x, y)]
    if len(curve.val) <= _MAX_DOTS:
        parts += [_dot(point, x, y) for point in curve.val]
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{} over optimizer steps">{}</svg>').format(
        _WIDTH, _HEIGHT, curve.name, Markup("").join(parts)
    )


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """At most ``count`` + 1 round numbers (1, 2 or 5 times a power of ten apart) in [low, high], low < high."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


class _Scale:
    """Maps [low, high] of the data to pixels; data of one value, as far as floats tell, lie in the middle."""

    def __init__(self, low: float, high: float, start: float, stop: float) -> None:
        size = max(1.0, abs(low), abs(high))
        if high - low <= 1e-12 * size:
            margin = max(0.5, 0.01 * size)
            low, high = low - margin, high + margin
        self.low, self.high, self._start, self._stop = low, high, start, stop

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self._start + share * (self._stop - self._start), 1)


def _grid(x: _Scale, y: _Scale) -> list[Markup]:
    bottom = _HEIGHT - _BOTTOM
    parts = []
    for tick in nice_ticks(y.low, y.high, 6):
        line = '<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>'
        parts.append(Markup(line).format(_LEFT, _WIDTH - _RIGHT, y(tick), y(tick)))
        parts.append(_label("y", _LEFT - 6, y(tick) + 4, f"{tick:g}"))
    parts += [_label("x", x(tick), bottom + 16, f"{tick:,g}") for tick in nice_ticks(x.low, x.high, 4)]
    return [*parts, _label("x", (_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 4, "step")]


def _label(axis: str, x: float, y: float, text: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}">{}</text>').format(axis, x, y, text)


def _path(kind: str, points: Sequence[tuple[float, float]], x: _Scale, y: _Scale) -> Markup:
    if not points:
        return Markup("")
    return Markup('<path class="{}" d="M{}"/>').format(kind, "L".join(f"{x(a)},{y(b)}" for a, b in points))


def _dot(point: tuple[float, float], x: _Scale, y: _Scale) -> Markup:
    step, value = point
    circle = '<circle class="val" cx="{}" cy="{}" r="3"><title>step {}: {}</title></circle>'
    return Markup(circle).format(x(step), y(value), f"{step:,g}", f"{value:.4g}")


def _thin(points: Points) -> Points:
    """Means over runs of neighbours, so that a long run stays a small page; the first and last stay themselves."""
    if len(points) <= _MAX_POINTS:
        return points
    size = math.ceil(len(points) / _MAX_POINTS)
    runs = [points[start : start + size] for start in range(0, len(points), size)]
    means = [(sum(a for a, _ in run) / len(run), sum(b for _, b in run) / len(run)) for run in runs]
    return [points[0], *means[1:-1], points[-1]]
