"""``kdeval run``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from kdeval.bounds import MAX_BATCH_SIZE, MAX_BEAMS, MAX_ROWS, MAX_TOKENS
from kdstore.console import note, print_json, stdout

if TYPE_CHECKING:
    from kdeval.results import Results


@click.command()
@click.argument("model", type=click.Path(path_type=Path), metavar="MODEL_DIR")
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), help="A store, or rows as JSON Lines, plain or .gz."
)
@click.option("--into", type=click.Path(path_type=Path), help="Run directory for the results; default: MODEL_DIR/..")
@click.option("--limit", type=click.IntRange(1, MAX_ROWS), help="Use only the first rows.")
@click.option("--metrics", help="Comma-separated names; default: those of the data's task.")
@click.option("--task", default="java_assertion", show_default=True, help="How raw rows are read; a store knows.")
@click.option(
    "--batch-size", default=16, show_default=True, type=click.IntRange(1, MAX_BATCH_SIZE), help="Rows per batch."
)
@click.option("--num-beams", default=1, show_default=True, type=click.IntRange(1, MAX_BEAMS), help="1 is greedy.")
@click.option(
    "--max-input-len", "max_input_tokens", default=512, show_default=True,
    type=click.IntRange(2, MAX_TOKENS),
    help="Longest prompt of raw rows; the end of a longer one is kept.",
)  # fmt: skip
@click.option(
    "--max-output-len",
    "max_output_tokens",
    type=click.IntRange(2, MAX_TOKENS),
    help="Default: the store's limit; 128 for raw rows.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def run(
    model: Path, data: Path, into: Path | None, metrics: str | None, task: str, as_json: bool, **settings: Any
) -> None:
    """Predict with a model and measure how good it is.

    MODEL_DIR holds a Hugging Face seq2seq model. DATA is a store, whose ids are used as they are, or raw rows,
    which are encoded with the model's own tokenizer. The model writes each prediction by itself, and is also run
    over the reference (teacher-forced) for token accuracy and loss.

    \b
    Two files are written, each whole or not at all:
        predictions_final.jsonl       one line per row, in the order of the data, with its scores
        metrics_summary_final.json    metrics, settings, versions, and hashes of model and data

    Where a store keeps its teacher's own predictions, the summary holds their text metrics too, so that no
    teacher has to be run. For the teacher's loss and token accuracy, evaluate it like any other model.

    \b
    Example:
        kdeval run results/run/final_model --data val.kd
        kdeval run results/run/final_model --data val.kd --limit 200 --metrics exact_match,f1 --json
        kdeval run teacher/final_model --data val.kd --into results/teacher
        kdeval run results/run/final_model --data rows.jsonl.gz --num-beams 4 --into results/beam
    """
    from kdeval.results import Settings
    from kdeval.run import evaluate

    directory = into or model.resolve().parent
    names = [name.strip() for name in metrics.split(",")] if metrics else None
    results = evaluate(model, data, directory, Settings(**settings), names, task)
    if as_json:
        print_json(results.model_dump(mode="json"))
    else:
        stdout.print(_table(results))
        note(f"{results.data.rows:,} rows, {results.data.tokens:,} label tokens in {results.seconds:,.1f} s")
        note(f"results in {directory}")


def _table(results: "Results") -> Table:
    from kdeval.results import format_value

    teacher = results.teacher.metrics if results.teacher else {}
    table = Table("metric", box=None, pad_edge=False)
    for heading in ("model", *(["teacher"] if teacher else []), "better", "good at", ""):
        table.add_column(heading, justify="right")
    for name, metric in results.metrics.items():
        other = [format_value(teacher[name].value, metric.unit) if name in teacher else ""] if teacher else []
        good_at = "" if metric.good_at is None else format_value(metric.good_at, metric.unit)
        mark = "good" if metric.reaches_threshold(metric.value) else ""
        table.add_row(metric.title, format_value(metric.value, metric.unit), *other, metric.direction, good_at, mark)
    return table
