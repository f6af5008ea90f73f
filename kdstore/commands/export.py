"""``kdstore export``."""

from pathlib import Path

import click

from kdstore.console import stdout


@click.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "--format", "format_name", required=True, type=click.Choice(["predecessor-jsonl"]), help="Of the file to write."
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The file; with .gz at its end, gzip.")
def export(store: Path, format_name: str, out: Path) -> None:
    """Write the rows of STORE with full logits for other tools.

    `predecessor-jsonl` is JSON Lines with `teacher_logits_compressed`: base64 of an LZ4 frame of little-endian
    numbers, whose shape and format stand beside it. From a `dense` store nothing is lost; `lowrank` and `hidden`
    give what they decode to; candidates are refused. `kdstore import --format predecessor` reads the file again.

    \b
    Example:
        kdstore export train.kd --format predecessor-jsonl --out distillation_data.jsonl.gz
    """
    from kdstore.importers._export import export_rows
    from kdstore.store.reader import Store

    rows = export_rows(Store(store), out)
    stdout.print(f"{out}: {rows:,} rows.")
