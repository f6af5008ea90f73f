"""``kdtrain tokens``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from kdtrain.tokens import Report

_SHOWN = 20


@click.command("tokens")
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def tokens(store: Path, as_json: bool) -> None:
    """Show which label tokens of STORE are critical: those whose error makes a Java assertion wrong.

    Words such as assertEquals, != and isEmpty stand in 11 categories. A word counts where it stands whole in the
    labels, however the tokenizer cuts it; all sub-tokens that hold some of it are critical. A sub-token that holds
    words of several categories counts in each, and once in the total.

    \b
    Example:
        kdtrain tokens train.kd
        kdtrain tokens train.kd --json
    """
    from dataclasses import asdict

    from kdstore.console import print_json, progress
    from kdstore.store.reader import Store
    from kdtrain.tokens import report

    opened = Store(store)
    with progress(f"{store.name}: reading", opened.rows) as bar:
        found = report(opened, bar.advance)
    if as_json:
        print_json({"store": str(store), **asdict(found)})
    else:
        _print(store, found)


def _print(store: Path, found: "Report") -> None:
    from rich.table import Table

    from kdstore.console import stdout

    table = Table("category", title=f"Critical tokens among {found.label_tokens:,} label tokens of {store}")
    for title in ("words", "expressible", "matches", "tokens", "share"):
        table.add_column(title, justify="right")
    for count in (*found.categories, found.total):
        if count is found.total:
            table.add_section()
        numbers = (count.words, count.expressible, count.matches, count.tokens)
        table.add_row(count.name, *(f"{number:,}" for number in numbers), f"{count.share:.1%}")
    stdout.print(table)
    for title, words in (("not expressible", found.inexpressible), ("never matched", found.never_matched)):
        if words:
            more = f" and {len(words) - _SHOWN} more (--json lists them)" if len(words) > _SHOWN else ""
            stdout.print(f"{title} ({len(words)}): {' '.join(words[:_SHOWN])}{more}", markup=False, soft_wrap=True)
