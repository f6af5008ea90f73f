"""``kdstore append``."""

from pathlib import Path
from typing import Any

import click

from kdstore.commands._store_options import print_built


@click.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.argument("rows", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--teacher", help="Where the store's teacher is now; by default where the build found it.")
@click.option("--embed", multiple=True, metavar="[COLUMN=]MODEL", help="Where the store's encoders are; repeatable.")
@click.option(
    "--held-out", multiple=True, type=click.Path(path_type=Path), metavar="STORE",
    help="Leave out rows that this store has, such as the validation store of the same build; repeatable.",
)  # fmt: skip
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--limit", type=click.IntRange(1), help="Use only so many rows of each source.")
@click.option("--strict", is_flag=True, help="Stop at the first bad row instead of putting it in quarantine.")
@click.option(
    "--max-bad", default=0.1, show_default=True, type=click.FloatRange(0, 1),
    help="Stop when more than this share of the rows is bad.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def append(as_json: bool, **options: Any) -> None:
    """Add ROWS to STORE, as new parts with the settings it was built with.

    Rows whose id the store has already are left out and counted. The store stays readable as it was until all new
    parts are written; an interrupted append continues when the same command is run again. The codec is not fitted
    again: where it does not fit the new rows, that is said. An append that is given up is undone by removing
    STORE/.build.

    \b
    Example:
        kdstore append train.kd more_rows.jsonl --held-out val.kd
        kdstore append train.kd more_rows.jsonl --teacher /models/codet5 --embed codebert
    """
    from kdstore.encode.append import AppendOptions
    from kdstore.encode.append import append as run_append

    print_built([run_append(AppendOptions(**options))], as_json)
