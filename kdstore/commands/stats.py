"""``kdstore stats``."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table
from rich.text import Text

from kdstore.console import print_json, progress, stdout

if TYPE_CHECKING:
    from kdstore.store.reader import Store
    from kdstore.store.stats import Stats

_SHOWN = 5  # frequent texts of a column


@click.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print all figures as JSON.")
def stats(store: Path, as_json: bool) -> None:
    """Show figures over the rows of STORE: lengths, how likely the teacher finds the labels, frequent tokens.

    Reads every row, but not the signal. For sizes on disk see `kdstore inspect`, for the signal `kdstore fidelity`.

    \b
    Example:
        kdstore stats train.kd
    """
    from kdstore.errors import EmptyInputError
    from kdstore.store.reader import Store
    from kdstore.store.stats import stats as find

    opened = Store(store)
    if opened.rows == 0:
        raise EmptyInputError(f"Expected rows in {store}. Got an empty store.")
    with progress(f"{store.name}: reading", opened.rows) as bar:
        found = find(opened, bar.advance)
    if as_json:
        print_json({"store": str(store), **asdict(found)})
        return
    _print_lengths(found)
    _print_labels(opened, found)
    _print_texts(found)


def _print_lengths(found: "Stats") -> None:
    table = Table(box=None, title=f"{found.rows:,} rows", title_justify="left")
    table.add_column("column")
    for title in ("min", "mean", "median", "p95", "max", "at limit"):
        table.add_column(title, justify="right")
    for name, length in found.lengths.items():
        unit = "tokens" if "at_limit" in length else "bytes"
        cells = [f"{length[key]:,.0f}" for key in ("min", "mean", "median", "p95", "max")]
        table.add_row(f"{name} ({unit})", *cells, f"{length['at_limit']:.1%}" if "at_limit" in length else "")
    stdout.print(table)
    for name, norm in found.vectors.items():
        stdout.print(f"{name}: mean norm {norm:.3f}")


def _print_labels(store: "Store", found: "Stats") -> None:
    if found.teacher_nats is not None:
        stdout.print(
            f"teacher: {found.teacher_nats:.3f} nats per label token, perplexity {math.exp(found.teacher_nats):,.2f}"
        )
    if not found.labels:
        return
    from kdstore.encode.tokenizer import Tokenizer

    tokenizer = Tokenizer(store.tokenizer_path).backend
    total = store.manifest.label_tokens
    likely = ", ".join(f"{tokenizer.decode([token])!r} {count / total:.1%}" for token, count in found.labels)
    stdout.print(
        f"{found.label_ids:,} of {store.head.tokenizer.vocab_size:,} ids occur as labels: {likely}", markup=False
    )


def _print_texts(found: "Stats") -> None:
    for name, column in found.texts.items():
        text = Text(f"{name}: {column['distinct']:,} distinct")
        if column["distinct"] < found.rows / 2:
            frequent = (
                f"{' '.join(value.split()) or 'empty'} ({count:,})" for value, count in column["frequent"][:_SHOWN]
            )
            text.append(f"; most frequent: {', '.join(frequent)}")
        stdout.print(text, overflow="ellipsis", no_wrap=True)
