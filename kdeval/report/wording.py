"""Numbers and texts as a report shows them: short, and bounded whatever a file says."""

from kdeval.interval import Interval
from kdeval.results import Value, format_gap, format_value

_LARGE = 1e9
_DIGITS = 12  # of a checksum: enough to tell two apart by eye


def number(value: float | None, unit: str) -> str:
    """A value in its unit; ``undefined`` for None."""
    if value is not None and abs(value) >= _LARGE:
        return f"{value:.3g}"
    return format_value(value, unit)


def difference(value: float | None, unit: str) -> str:
    """A difference with its sign; nothing for None."""
    if value is not None and abs(value) >= _LARGE:
        return f"{value:+.3g}"
    return format_gap(value, unit)


def ends(found: Interval | None, unit: str) -> str:
    """An interval of values; nothing where there is none."""
    return "" if found is None else f"{number(found.low, unit)} to {number(found.high, unit)}"


def gap_ends(found: Interval | None, unit: str) -> str:
    """An interval of differences; nothing where there is none."""
    if found is None:
        return ""
    low, high = difference(found.low, unit), difference(found.high, unit)
    return f"{low.removesuffix(' pp')} to {high}" if high.endswith(" pp") else f"{low} to {high}"


def with_interval(value: Value, unit: str, level: float, unit_shown: str = "") -> str:
    """A value for a sentence, its interval in brackets; ``unit_shown`` comes after the value."""
    between = ends(value.interval, unit)
    words = [number(value.value, unit), unit_shown, f"({percent(level)} interval {between})" if between else ""]
    return " ".join(filter(None, words))


def percent(level: float) -> str:
    """The level of intervals."""
    return f"{100 * level:.4g} %"


def plural(count: int, noun: str) -> str:
    """A count with its noun."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def cut(text: str, longest: int) -> str:
    """The beginning of a text, with a note of how much is left out."""
    return text if len(text) <= longest else f"{text[:longest]} ... ({len(text) - longest:,} characters more)"


def sentence(text: str) -> str:
    """A text with a capital letter at its beginning."""
    return text[:1].upper() + text[1:]


def brief_hash(digest: str | None) -> str:
    """The first digits of a checksum."""
    return "unknown" if digest is None else digest[:_DIGITS]
