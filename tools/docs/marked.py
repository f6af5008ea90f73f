"""Pages that scripts write, or parts of them: tables between ``<!-- name -->`` and ``<!-- end of name -->``."""

from collections.abc import Sequence
from pathlib import Path

import click


def settle(page: Path, text: str, command: str, *, check: bool) -> None:
    """Write a whole page; or with ``check`` raise `click.ClickException` where it is not this text."""
    if not check:
        page.write_text(text, encoding="utf-8")
    elif not page.is_file() or page.read_text(encoding="utf-8") != text:
        raise click.ClickException(f"docs/{page.name} is not up to date. Run `{command}`.")


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
