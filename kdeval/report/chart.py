"""Line charts as inline SVG, coloured by the page's style sheet so that they follow light and dark."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from kdeval.report.curves import Curve, Points
from kdeval.report.kept import Point, Tradeoff

_WIDTH, _HEIGHT = 360, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 10, 34
_MAX_POINTS = 240  # more than a line of this width can show
_MAX_DOTS = 40
_MAX_TICKS = 7
_COLOURS = 4  # of series in the style sheet


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


def tradeoff_chart(tradeoff: Tradeoff) -> Markup:
    """Degrees over bytes per label token, bytes on a logarithmic axis; a line and a name for each codec."""
    points = [point for series in tradeoff.series.values() for point in series]
    sizes = [point.bytes for point in points]
    x = _Scale(math.log10(min(sizes) / 1.2), math.log10(max(sizes) * 1.2), _LEFT, _WIDTH - _RIGHT)
    y = _Scale(0, 1.15 * max(point.degrees for point in points) or 1, _HEIGHT - _BOTTOM, _TOP)
    bottom = _HEIGHT - _BOTTOM
    parts = _horizontal(y)
    parts += [
        _label("x", x(math.log10(tick)), bottom + 16, f"{tick:,g}") for tick in log_ticks(10**x.low, 10**x.high)
    ]
    parts.append(_label("x", (_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 4, "bytes per label token"))
    for index, (codec, series) in enumerate(sorted(tradeoff.series.items())):
        places = [(math.log10(point.bytes), point.degrees) for point in series]
        kind = f"codec{index % _COLOURS}"
        parts.append(_path(f"series {kind}", places, x, y))
        parts += [_mark(point, kind, x(a), y(b)) for point, (a, b) in zip(series, places, strict=True)]
        parts.append(_label(f"name {kind}", x(places[0][0]) + 8, y(places[0][1]) - 6, codec))
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="angle over bytes at T = {:g}">{}</svg>').format(
        _WIDTH, _HEIGHT, tradeoff.temperature, Markup("").join(parts)
    )


def log_ticks(low: float, high: float) -> list[float]:
    """Numbers 1, 2 or 5 times a power of ten in [low, high], 0 < low < high; powers alone where these are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [tick for power in powers for factor in (1, 2, 5) if low <= (tick := factor * 10.0**power) <= high]
    return ticks if len(ticks) <= _MAX_TICKS else [tick for tick in ticks if f"{tick:e}".startswith("1.")]


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
    parts = _horizontal(y)
    parts += [_label("x", x(tick), bottom + 16, f"{tick:,g}") for tick in nice_ticks(x.low, x.high, 4)]
    return [*parts, _label("x", (_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 4, "step")]


def _horizontal(y: _Scale) -> list[Markup]:
    """Lines at round values, with these."""
    parts = []
    for tick in nice_ticks(y.low, y.high, 6):
        line = '<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>'
        parts.append(Markup(line).format(_LEFT, _WIDTH - _RIGHT, y(tick), y(tick)))
        parts.append(_label("y", _LEFT - 6, y(tick) + 4, f"{tick:g}"))
    return parts


def _mark(point: Point, kind: str, x: float, y: float) -> Markup:
    title = f"{point.label}: {point.degrees:.3g} degrees at {point.bytes:,.1f} bytes per token"
    circle = Markup('<circle class="{}" cx="{}" cy="{}" r="3.5"><title>{}</title></circle>').format(kind, x, y, title)
    ring = Markup('<circle class="stored" cx="{}" cy="{}" r="7.5"/>').format(x, y)
    return ring + circle if point.stored else circle


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
