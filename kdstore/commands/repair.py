"""``kdstore repair``."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from kdstore.console import print_json, stdout

_SHOWN = 20  # ids of a part


@click.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "--rows",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Make lost parts again of these rows; repeatable.",
)
@click.option("--teacher", help="Where the store's teacher is now; by default where the build found it.")
@click.option("--embed", multiple=True, metavar="[COLUMN=]MODEL", help="Where the store's encoders are; repeatable.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--dry-run", is_flag=True, help="Say what is damaged and which rows are lost; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, ids of lost rows included.")
def repair(as_json: bool, **options: Any) -> None:
    """Mend STORE: put damaged parts away, and make them again where that can be done.

    Every part is checked as by `kdstore verify`. Damaged ones are moved to STORE/.quarantine/ and listed as lost in
    the manifest, so that the rest can be read. The ids of their rows are named. With --rows, the rows that the store
    was built from, exactly these parts are encoded again, with the store's own settings and teacher.

    What lies beside the parts cannot be made again: restore the tokenizer and the shared arrays from a copy.

    \b
    Example:
        kdstore repair train.kd --dry-run
        kdstore repair train.kd --rows rows.jsonl --teacher teacher/final_model
    """
    from kdstore.encode.repair import RepairOptions
    from kdstore.encode.repair import repair as run_repair

    report = run_repair(RepairOptions(**options))
    if as_json:
        print_json({**asdict(report), "path": str(report.path), "lost": {str(k): v for k, v in report.lost.items()}})
        return
    for problem in report.problems:
        stdout.print(problem, markup=False, soft_wrap=True)
    for place in report.put_away:
        stdout.print(f"put away: {place}; delete it when nothing in it is wanted", markup=False, soft_wrap=True)
    if report.rebuilt:
        stdout.print(f"made again: parts {', '.join(map(str, report.rebuilt))}.")
    for index, ids in report.lost.items():
        stdout.print(f"part {index}: {len(ids):,} rows {'would be' if options['dry_run'] else 'are'} lost:")
        for row_id in ids[:_SHOWN]:
            stdout.print(f"  {row_id}", markup=False, soft_wrap=True)
        if len(ids) > _SHOWN:
            stdout.print(f"  and {len(ids) - _SHOWN:,} more; --json has all")
    if report.lost:
        rows = sum(map(len, report.lost.values()))
        stdout.print(
            f"{rows:,} rows in all. Make them again: kdstore repair {report.path} --rows ROWS", soft_wrap=True
        )
    if not report.problems and not report.lost and not report.rebuilt:
        stdout.print(f"{report.path}: nothing to mend.")
