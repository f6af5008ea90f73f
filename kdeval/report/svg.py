"""What all charts are made of: scales, round ticks, and SVG elements that the page's style sheet colours."""

import math
from collections.abc import Sequence

from markupsafe import Markup

WIDTH, HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 10, 40
_MAX_TICKS = 7

Point = tuple[float, float]


class Scale:
    """Maps [low, high] of the data to pixels; data of one value, as far as floats tell, lie in the middle."""

    def __init__(self, low: float, high: float, start: float, stop: float) -> None:
        size = max(1.0, abs(low), abs(high))
        if high - low <= 1e-12 * size:
            margin = max(0.5, 0.01 * size)
            low, high = low - margin, high + margin
        self.low, self.high, self._start, self._stop = low, high, start, stop

    def __call__(self, value: float) -> float:
        """Where a value lies."""
        share = (value / 2 - self.low / 2) / (self.high / 2 - self.low / 2)  # halves, as floats end
        return round(self._start + share * (self._stop - self._start), 1)


def picture(label: str, parts: Sequence[Markup], width: int = WIDTH, height: int = HEIGHT, kind: str = "") -> Markup:
    """An image of these parts; ``label`` tells those who cannot see it what it shows."""
    return Markup('<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        kind or "chart", width, height, label, Markup("").join(parts)
    )


def frame(x: Scale, y: Scale, x_label: str, y_count: int = 5) -> list[Markup]:
    """Lines at round values of y, ticks at round values of x, and what x is."""
    ticks = [text("x", x(tick), HEIGHT - BOTTOM + 17, tick_text(tick)) for tick in nice_ticks(x.low, x.high, 4)]
    return [*levels(y, y_count), *ticks, axis_name(x_label)]


def levels(y: Scale, count: int = 5) -> list[Markup]:
    """Lines at round values, with these."""
    parts = []
    for tick in nice_ticks(y.low, y.high, count):
        parts.append(line("grid", LEFT, y(tick), WIDTH - RIGHT, y(tick)))
        parts.append(text("y", LEFT - 6, y(tick) + 4, tick_text(tick)))
    return parts


def axis_name(name: str) -> Markup:
    """What the horizontal axis is."""
    return text("x name", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, name)


def tick_text(value: float) -> str:
    """A tick in few characters: there is room for six."""
    if value and not 1e-4 <= abs(value) < 1e5:
        return f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
    return f"{value:,g}"


def line(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    """A straight line."""
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(kind, x1, y1, x2, y2)


def text(kind: str, x: float, y: float, words: str) -> Markup:
    """Words at a place; the style sheet says how they are anchored."""
    return Markup('<text class="{}" x="{}" y="{}">{}</text>').format(kind, x, y, words)


def path(kind: str, points: Sequence[Point], x: Scale, y: Scale) -> Markup:
    """A line through points of the data; nothing without any."""
    if not points:
        return Markup("")
    return Markup('<path class="{}" d="M{}"/>').format(kind, "L".join(f"{x(a)},{y(b)}" for a, b in points))


def dot(kind: str, x: float, y: float, radius: float, title: str) -> Markup:
    """A circle that says what it stands for when a pointer rests on it."""
    circle = Markup('<circle class="{}" cx="{}" cy="{}" r="{}"><title>{}</title></circle>')
    return circle.format(kind, x, y, radius, title)


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
