"""``kdeval thresholds``."""

import math
from pathlib import Path

import click
from rich.table import Table

from kdstore.console import note, print_json, stdout


@click.command()
@click.argument("predictions", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Write the thresholds here, for `kdeval score`.")
@click.option("--json", "as_json", is_flag=True, help="Print thresholds and F1 as JSON.")
def thresholds(predictions: Path, out: Path | None, as_json: bool) -> None:
    """Find from which probability each label should count as predicted.

    PREDICTIONS are lines with labels, see `kdeval score`. The threshold of a label is that of its best F1 on these
    rows. Use other rows than those that a result is reported on: on their own rows thresholds promise too much.

    \b
    Example:
        kdeval thresholds validation.jsonl --out thresholds.json
        kdeval score test.jsonl --thresholds thresholds.json --into results/test
    """
    import json

    from kdeval.results import read_predictions
    from kdeval.source import first_sample
    from kdeval.thresholds import search
    from kdstore.errors import InputError
    from kdstore.store import atomic

    first = first_sample(predictions)
    if first.labels is None:
        raise InputError(f"Expected lines with labels in {predictions}. Got none in the first. See `kdeval score`.")
    found = search(list(read_predictions(predictions)), list(first.labels.scores))
    if out is not None:
        atomic.write_text(out, json.dumps(dict(found.by_label), indent=1, ensure_ascii=False) + "\n")
    if as_json:
        f1 = {name: None if math.isnan(value) else value for name, value in found.f1_after.items()}
        print_json({"by_label": dict(found.by_label), "overall": found.overall, "f1": f1})
        return
    table = Table("label", box=None, pad_edge=False)
    for heading in ("threshold", "F1 at 0.5", "F1"):
        table.add_column(heading, justify="right")
    for name, threshold in found.by_label.items():
        table.add_row(name, f"{threshold:.3f}", f"{found.f1_before[name]:.1%}", f"{found.f1_after[name]:.1%}")
    stdout.print(table)
    note(
        f"macro F1 on these rows: {found.macro_f1_before:.1%} at 0.5, {found.macro_f1_overall:.1%} at "
        f"{found.overall:.3f} for all labels, {found.macro_f1_by_label:.1%} with these"
    )
