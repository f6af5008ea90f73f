"""``kdeval compare``."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from kdeval.bounds import MAX_DRAWS
from kdeval.commands._common import metric_names
from kdstore.console import note, print_json, stdout

if TYPE_CHECKING:
    from kdeval.compare import Difference, Pair

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("a", type=_PATH)
@click.argument("b", type=_PATH)
@click.option("--metrics", help="Comma-separated names; default: all that both have.")
@click.option(
    "--draws", default=1000, show_default=True, type=click.IntRange(100, MAX_DRAWS), help="Bootstrap resamples."
)
@click.option(
    "--level", default=0.95, show_default=True, type=click.FloatRange(0.5, 0.9999), help="Of the intervals."
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the resamples.")
@click.option("--json", "as_json", is_flag=True, help="Print the differences as JSON.")
def compare(a: Path, b: Path, metrics: str | None, draws: int, level: float, seed: int, as_json: bool) -> None:
    """Say whether evaluation B is better than evaluation A, as far as their rows can tell.

    A and B are directories that `kdeval run` wrote. They are compared on the rows that both have, each row of one
    with the same row of the other: rows are resampled in pairs, which tells differences apart that lie within the
    intervals of both values. A metric is called better or worse where the whole interval of the difference is on
    one side of 0.

    \b
    Example:
        kdeval compare results/ce results/kl
        kdeval compare results/ce results/kl --metrics code_quality,f1 --json
    """
    from kdeval.compare import compare as compare_runs

    pair = compare_runs(a, b, metric_names(metrics), draws, seed, level)
    if as_json:
        print_json(asdict(pair) | {"summary": pair.summary()})
        return
    stdout.print(_table(pair))
    stdout.print(pair.summary(), markup=False)
    if pair.only_a or pair.only_b:
        note(f"left out: {pair.only_a:,} rows that only A has, and {pair.only_b:,} that only B has")


def _table(pair: "Pair") -> Table:
    from kdeval.results import format_value

    table = Table("metric", box=None, pad_edge=False)
    for heading in ("A", "B", "B - A", f"{100 * pair.level:.4g} % interval", "B is"):
        table.add_column(heading, justify="right")
    for one in pair.differences:
        values = (format_value(value, one.unit) for value in (one.a, one.b))
        table.add_row(one.title, *values, *_signed(one), one.verdict)
    return table


def _signed(one: "Difference") -> tuple[str, str]:
    from kdeval.results import format_gap

    ends = one.interval or ()
    return format_gap(one.difference, one.unit), " to ".join(format_gap(end, one.unit) for end in ends)
