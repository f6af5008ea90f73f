"""Findings for people, one row of a table each, and for scripts."""

from collections.abc import Sequence
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from kdstore.console import stdout
from kdtrain.preflight.findings import Result

_STYLES: Final = {"pass": "green", "warn": "yellow", "fail": "bold red", "skipped": "dim"}
_NAME_WIDTH, _STATUS_WIDTH = 13, 7


def print_result(result: Result) -> None:
    """Print the rows of one check, as soon as it has ended."""
    table = Table.grid(padding=(0, 1))
    table.add_column(width=_NAME_WIDTH)
    table.add_column(width=_STATUS_WIDTH)
    table.add_column(overflow="fold")
    for index, one in enumerate(result.findings):
        name = "" if index else result.check
        table.add_row(name, Text(one.status, _STYLES[one.status]), Text(one.text))
    stdout.print(table)


def as_object(results: Sequence[Result], recommended: dict[str, int] | None) -> dict[str, Any]:
    """All of it, for scripts; ``recommended`` are parameters that would use the device's memory better."""
    return {
        "ready": not _failed(results),
        "checks": [
            {
                "check": result.check,
                "seconds": round(result.seconds, 3),
                "findings": [one._asdict() for one in result.findings],
            }
            for result in results
        ],
        "recommended": recommended,
    }


def verdict(results: Sequence[Result]) -> str:
    """The last line."""
    if count := len(_failed(results)):
        return f"not ready: {count} check{'s' if count > 1 else ''} failed"
    words = sum(one.status == "warn" for result in results for one in result.findings)
    return f"ready: {len(results)} checks, {words} warnings, {sum(result.seconds for result in results):.1f} s"


def _failed(results: Sequence[Result]) -> list[Result]:
    return [result for result in results if result.failed]
