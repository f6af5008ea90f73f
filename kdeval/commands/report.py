"""``kdeval report``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.markup import escape
from rich.table import Table

from kdstore.console import note, stdout
from kdstore.errors import UsageError

if TYPE_CHECKING:
    from kdeval.report.gather import Report


@click.command()
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN_DIR")
@click.option(
    "--teacher-run", type=click.Path(path_type=Path), help="Where `kdeval run TEACHER --into DIR` wrote its results."
)
@click.option("--out", type=click.Path(path_type=Path), help="HTML page to write; default: RUN_DIR/report.html.")
@click.option("--samples", default=12, show_default=True, type=click.IntRange(0), help="Predictions to show.")
@click.option("--seed", default=42, show_default=True, help="Chooses the predictions that are shown.")
def report(run: Path, teacher_run: Path | None, out: Path | None, samples: int, seed: int) -> None:
    """Write a report of a run, in HTML and Markdown.

    The page needs no other file and no network; the Markdown lies beside it under the same name. Both show the
    student's metrics beside the teacher's, loss curves, some predictions, what the store kept of the teacher,
    and where everything comes from.

    \b
    RUN_DIR must hold
        metrics_summary_final.json, predictions_final.jsonl   from `kdeval run`
        step_metrics.csv, training_metrics.csv                from `kdtrain`
    and config.json is shown where it is there.

    The teacher's values are those of the predictions that the store kept. With --teacher-run they come from an
    evaluation of the teacher on the same rows, which adds its loss and token accuracy.

    \b
    Example:
        kdeval report results/run
        kdeval run teacher/final_model --data val.kd --into results/teacher
        kdeval report results/run --teacher-run results/teacher --out report.html
    """
    from kdeval.report.gather import gather
    from kdeval.report.render import to_html, to_markdown
    from kdstore.store import atomic

    page = out or run / "report.html"
    if page.suffix != ".html":
        raise UsageError(f"Expected --out to end in .html, as the Markdown lies beside it. Got {page}.")
    content = gather(run, teacher_run, samples, seed)
    page.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(page.with_suffix(".md"), to_markdown(content))
    atomic.write_text(page, to_html(content))
    for line in content.headline:
        stdout.print(line, markup=False)
    stdout.print(_table(content))
    note(f"report in {page} and {page.with_suffix('.md')}")


def _table(content: "Report") -> Table:
    """The page's table of metrics."""
    table = Table(box=None, pad_edge=False)
    table.add_column("metric")
    for heading in ("student", "teacher", "gap"):
        table.add_column(heading, justify="right")
    for row in content.rows:
        teacher = row.teacher.text if row.teacher else ""
        table.add_row(f"{'  ' * row.part}{escape(row.title)}", row.student.text, teacher, row.gap)
    return table
