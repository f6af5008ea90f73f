"""Parts of pages that scripts write: tables between two markers, ``<!-- name -->`` and ``<!-- end of name -->``."""

from collections.abc import Sequence


def replaced(text: str, name: str, content: str) -> str:
    """``text`` with what lies between the markers of ``name`` replaced."""
    start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, rest = text.split(start, 1)
    return f"{before}{start}{content}\n{rest[rest.index(end) :]}"


def row(cells: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join([row(titles), row(["---"] * len(titles)), *map(row, rows)])
