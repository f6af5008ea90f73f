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

_PATH = click.Path(path_type=Path)
_MOST_SAMPLES = 1000


@click.command()
@click.argument("run", type=_PATH, metavar="RUN_DIR")
@click.option("--teacher-run", type=_PATH, help="Where `kdeval run TEACHER --into DIR` wrote its results.")
@click.option("--baseline-run", type=_PATH, help="Results of another model to hold this one against, row by row.")
@click.option("--out", type=_PATH, help="HTML page to write; default: RUN_DIR/report.html.")
@click.option(
    "--samples", default=12, show_default=True, type=click.IntRange(0, _MOST_SAMPLES), help="Predictions to show."
)
@click.option("--seed", default=42, show_default=True, help="Chooses between predictions of the same score.")
def report(
    run: Path, teacher_run: Path | None, baseline_run: Path | None, out: Path | None, samples: int, seed: int
) -> None:
    """Write a report of a run, in HTML and Markdown.

    The page needs no other file and no network; the Markdown lies beside it under the same name. Both say how good
    the model is beside its teacher and a baseline, what it gets wrong, how training went, whether the store was
    faithful to the teacher, how large and fast the model is, and where everything comes from. Differences are
    paired, row by row, and called better or worse only where their whole interval is on one side of 0.

    \b
    RUN_DIR must hold what `kdeval run` or `kdeval score` wrote:
        metrics_summary_final.json, predictions_final.jsonl, statistics.safetensors
    and what `kdtrain` wrote is shown where it is there:
        step_metrics.csv, training_metrics.csv, config.json, training_report.json

    The teacher's values are those of the predictions and of the signal that the store kept. With --teacher-run they
    come from an evaluation of the teacher, which adds its size and speed.

    \b
    Example:
        kdeval report results/run
        kdeval run teacher/final_model --data val.kd --into results/teacher
        kdeval report results/run --teacher-run results/teacher --baseline-run results/ce --out report.html
    """
    from kdeval.report.gather import gather
    from kdeval.report.render import to_html, to_markdown
    from kdstore.store import atomic

    page = out or run / "report.html"
    if page.suffix != ".html":
        raise UsageError(f"Expected --out to end in .html, as the Markdown lies beside it. Got {page}.")
    content = gather(run, teacher_run, baseline_run, samples, seed)
    html, markdown = to_html(content), to_markdown(content)
    page.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(page.with_suffix(".md"), markdown)
    atomic.write_text(page, html)
    for line in content.headline:
        stdout.print(line, markup=False)
    stdout.print(_table(content))
    note(f"report in {page} and {page.with_suffix('.md')}")


def _table(content: "Report") -> Table:
    """The page's table of metrics, without parts."""
    table = Table(box=None, pad_edge=False)
    table.add_column("metric")
    rivals = [name for name, there in (("teacher", content.has_teacher), ("baseline", content.has_baseline)) if there]
    for heading in (content.subject, content.level, *(text for name in rivals for text in (name, "difference", ""))):
        table.add_column(heading, justify="right")
    for row in content.rows:
        if row.part:
            continue
        cells = [row.student.text, row.student.interval]
        for name in rivals:
            held = row.teacher if name == "teacher" else row.baseline
            cells += [held.value.text, held.gap.text, _word(held.verdict)] if held else ["", "", ""]
        table.add_row(escape(row.title), *map(escape, cells))
    return table


def _word(verdict: str) -> str:
    return {"no difference found": "no difference", "undefined": ""}.get(verdict, verdict)
