"""Charts as inline SVG, coloured by the page's style sheet so that they follow light and dark.

Legends stand above a chart, not in it, so that they cover nothing.
"""

import math
from collections.abc import Sequence

from markupsafe import Markup

from kdeval.report.curves import Curve, Points
from kdeval.report.kept import Tradeoff
from kdeval.report.svg import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Scale,
    axis_name,
    dot,
    frame,
    levels,
    line,
    log_ticks,
    nice_ticks,
    path,
    picture,
    text,
    tick_text,
)
from kdeval.report.tokens import Reliability

_MAX_POINTS = 240  # more than a line of this width can show
_MAX_DOTS = 40
STYLES = 9  # of series in the style sheet: colours, then dashes


def line_chart(curve: Curve) -> Markup:
    """Training line and validation line with dots, over steps."""
    x, y = _scales((*curve.train, *curve.val))
    parts = [*frame(x, y, "step"), path("train", _thin(curve.train), x, y), path("val", curve.val, x, y)]
    if len(curve.val) <= _MAX_DOTS:
        parts += [dot("val", x(a), y(b), 3, f"step {a:,g}: {b:.4g}") for a, b in curve.val]
    return picture(f"{curve.name} over optimizer steps", parts)


def series_chart(curves: Sequence[Curve], what: str) -> Markup:
    """Several training lines in one picture, each with the style of its number, over steps."""
    points = [point for curve in curves for point in curve.train]
    x, y = _scales(points)[0], _from_zero([value for _, value in points])
    lines = [path(f"series style{i % STYLES}", _thin(curve.train), x, y) for i, curve in enumerate(curves)]
    return picture(f"{what} over optimizer steps", [*frame(x, y, "step"), *lines])


def swatch(index: int) -> Markup:
    """A short line in the style of a series, for a legend."""
    mark = line(f"series style{index % STYLES}", 0, 5, 26, 5)
    return Markup('<svg class="swatch" viewBox="0 0 26 10" aria-hidden="true">{}</svg>').format(mark)


def tradeoff_chart(tradeoff: Tradeoff) -> Markup:
    """Degrees over bytes per label token, bytes on a logarithmic axis; a line per codec, a ring for the store."""
    points = [point for series in tradeoff.series.values() for point in series]
    sizes = [point.bytes for point in points]
    x = Scale(math.log10(min(sizes) / 1.2), math.log10(max(sizes) * 1.2), LEFT, WIDTH - RIGHT)
    y = Scale(0, 1.15 * max(point.degrees for point in points) or 1, HEIGHT - BOTTOM, TOP)
    ticks = log_ticks(10**x.low, 10**x.high)
    parts = levels(y)
    parts += [text("x", x(math.log10(tick)), HEIGHT - BOTTOM + 17, tick_text(tick)) for tick in ticks]
    parts.append(axis_name("bytes per label token"))
    for index, series in enumerate(tradeoff.series.values()):
        style = f"style{index % STYLES}"
        places = [(math.log10(point.bytes), point.degrees) for point in series]
        parts.append(path(f"series {style}", places, x, y))
        for point, (a, b) in zip(series, places, strict=True):
            title = f"{point.label}: {point.degrees:.3g} degrees at {point.bytes:,.1f} bytes per token"
            parts += [Markup('<circle class="stored" cx="{}" cy="{}" r="7.5"/>').format(x(a), y(b))] * point.stored
            parts.append(dot(style, x(a), y(b), 3.5, title))
    return picture(f"angle over bytes at T = {tradeoff.temperature:g}", parts)


def reliability_chart(found: Reliability) -> Markup:
    """Share of right tokens over their mean probability, a whisker for its interval; bars are shares of tokens."""
    x, y = Scale(0, 1, LEFT, WIDTH - RIGHT), Scale(0, 1, HEIGHT - BOTTOM, TOP)
    parts = [*frame(x, y, "probability of the likeliest token"), line("diagonal", x(0), y(0), x(1), y(1))]
    bars, marks = [], []
    for one, between in found.bins:
        if not one.tokens:
            continue
        top = y(one.tokens / found.tokens)
        bar = '<rect class="bar" x="{}" y="{}" width="{}" height="{}"/>'
        width, height = x(one.high) - x(one.low) - 1, HEIGHT - BOTTOM - top
        bars.append(Markup(bar).format(x(one.low) + 0.5, top, round(width, 1), round(height, 1)))
        at = x(one.confidence)
        if between is not None:
            marks.append(line("whisker", at, y(between.low), at, y(between.high)))
        title = f"{one.tokens:,.0f} tokens at {one.confidence:.1%}: {one.accuracy:.1%} right"
        marks.append(dot("val", at, y(one.accuracy), 3.5, title))
    return picture("share of right tokens over the probability of the likeliest token", [*parts, *bars, *marks])


def _scales(points: Sequence[tuple[float, float]]) -> tuple[Scale, Scale]:
    steps = [step for step, _ in points]
    values = [value for _, value in points]
    pad = 0.05 * (max(values) - min(values)) or 0.5
    return (
        Scale(min(steps), max(steps), LEFT, WIDTH - RIGHT),
        Scale(min(values) - pad, max(values) + pad, HEIGHT - BOTTOM, TOP),
    )


def _from_zero(values: Sequence[float]) -> Scale:
    """From a tick at or below 0 to a tick at or above the greatest value."""
    rough = Scale(min(0.0, *values), max(0.0, *values), HEIGHT - BOTTOM, TOP)
    ticks = nice_ticks(rough.low, rough.high, 5)
    step = ticks[1] - ticks[0]
    low = ticks[0] - step * (ticks[0] > rough.low)
    high = ticks[-1] + step * (ticks[-1] < rough.high)
    return Scale(low, high, HEIGHT - BOTTOM, TOP)


def _thin(points: Points) -> Points:
    """Means over runs of neighbours, so that a long run stays a small page; the first and last stay themselves."""
    if len(points) <= _MAX_POINTS:
        return points
    size = math.ceil(len(points) / _MAX_POINTS)
    runs = [points[start : start + size] for start in range(0, len(points), size)]
    means = [(sum(a for a, _ in run) / len(run), sum(b for _, b in run) / len(run)) for run in runs]
    return [points[0], *means[1:-1], points[-1]]
