"""``kdeval run``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from kdeval.bounds import MAX_BATCH_SIZE, MAX_BEAMS, MAX_ROWS, MAX_TOKENS
from kdeval.commands._common import metric_names, scoring_options
from kdstore.console import note, print_json, stdout
from kdstore.errors import UsageError

if TYPE_CHECKING:
    from kdeval.results import Results

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("model", type=_PATH, metavar="[MODEL_DIR]", required=False)
@click.option("--data", type=_PATH, help="A store, or rows as JSON Lines, plain or .gz.")
@click.option("--into", type=_PATH, help="Run directory for the results; default: MODEL_DIR/..")
@click.option("--limit", "--student-limit", type=click.IntRange(1, MAX_ROWS), help="Use only the first rows.")
@click.option(
    "--teacher-limit", type=click.IntRange(1, MAX_ROWS), help="Compare with the teacher on the first of them only."
)
@click.option("--temperature", default=2.0, show_default=True, help="Of the KL divergence from the teacher.")
@click.option("--task", default="java_assertion", show_default=True, help="How raw rows are read; a store knows.")
@click.option(
    "--batch-size", default=16, show_default=True, type=click.IntRange(1, MAX_BATCH_SIZE), help="Rows per batch."
)
@click.option("--num-beams", default=1, show_default=True, type=click.IntRange(1, MAX_BEAMS), help="1 is greedy.")
@click.option("--sample", is_flag=True, help="Draw each token instead of taking the likeliest.")
@click.option("--sampling-temperature", default=1.0, show_default=True, help="With --sample: of the draws.")
@click.option("--top-p", default=1.0, show_default=True, help="With --sample: draw from the likeliest of this mass.")
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
@scoring_options
@click.option("--student-model-path", type=_PATH, hidden=True, help="The MODEL_DIR.")
@click.option("--teacher-data", type=_PATH, hidden=True, help="The same as --data.")
def run(
    model: Path | None,
    data: Path | None,
    into: Path | None,
    metrics: str | None,
    task: str,
    as_json: bool,
    student_model_path: Path | None,
    teacher_data: Path | None,
    **settings: Any,
) -> None:
    """Predict with a model and measure how good it is.

    MODEL_DIR holds a Hugging Face seq2seq model. DATA is a store, whose ids are used as they are, or raw rows,
    which are encoded with the model's own tokenizer. The model writes each prediction by itself, and is also run
    over the reference (teacher-forced) for token accuracy and loss. Where the data hold the teacher's own
    predictions, and a store its signal, both models are measured and compared. Without MODEL_DIR it is the teacher
    alone that is evaluated, and no model is run.

    Every value comes with its 95 % interval, from seeded bootstrap resamples of the rows. A run that was stopped
    goes on where it was when the same command is given again.

    \b
    Written into the run directory, each file whole or not at all (`kdeval schema` describes them):
        predictions_final.jsonl       one line per row, in the order of the data, with its scores
        metrics_final.csv             the scores of each row as a table
        evaluation_metrics.json       every value, the teacher's and the gap, flat
        statistics.safetensors        what `kdeval compare` resamples
        metrics_summary_final.json    metrics, settings, versions, and hashes of model and data

    \b
    Example:
        kdeval run results/run/final_model --data val.kd
        kdeval run results/run/final_model --data val.kd --limit 200 --metrics exact_match,f1 --json
        kdeval run --data val.kd --into results/teacher
        kdeval run results/run/final_model --data rows.jsonl.gz --num-beams 4 --into results/beam
    """
    from kdeval.run import evaluate

    if settings["sample"] and settings["num_beams"] > 1:
        raise UsageError("Expected --sample or --num-beams. Got both. Leave one out.")
    if not settings["sample"] and (settings["top_p"] != 1 or settings["sampling_temperature"] != 1):
        raise UsageError("Expected --sample with --top-p and --sampling-temperature. Got none. Add it.")
    directory = _one("MODEL_DIR", model, "--student-model-path", student_model_path)
    rows = _one("--data", data, "--teacher-data", teacher_data)
    if rows is None:
        raise UsageError("Expected --data, a store or a file of rows. Got none. Name one, such as --data val.kd.")
    into = into or (directory.resolve().parent if directory else None)
    if into is None:
        raise UsageError(
            "Expected --into, the run directory, as there is no MODEL_DIR to put results beside. Got none."
        )
    results = evaluate(directory, rows, into, _settings(settings), metric_names(metrics), task)
    if as_json:
        print_json(results.model_dump(mode="json"))
    else:
        show(results, into)


def show(results: "Results", into: Path) -> None:
    """Print the table of metrics, and where the rest lies."""
    stdout.print(_table(results))
    note(f"{results.data.rows:,} rows, {results.data.tokens:,} label tokens in {results.seconds:,.1f} s")
    note(f"results in {into}")


def _one(first: str, given: Path | None, second: str, other: Path | None) -> Path | None:
    if given is not None and other is not None:
        raise UsageError(f"Expected {first} or {second}, which mean the same. Got both. Leave one out.")
    return given or other


def _settings(options: dict[str, Any]) -> Any:
    from kdeval.results import Settings
    from kdstore.validation import parse

    return parse(Settings, options, "settings")


def _table(results: "Results") -> Table:
    from kdeval.results import format_value

    teacher = results.teacher.metrics if results.teacher else {}
    table = Table("metric", box=None, pad_edge=False)
    rows = results.teacher.rows if results.teacher else 0
    theirs = "teacher" if rows in (0, results.data.rows) else f"teacher, first {rows:,} rows"
    for heading in ("model", "95 %", *([theirs] if teacher else []), "better", "good at", ""):
        table.add_column(heading, justify="right")
    for name, metric in results.metrics.items():
        low_high = " to ".join(format_value(end, metric.unit) for end in metric.interval or ())
        other = [format_value(teacher[name].value, metric.unit) if name in teacher else ""] if teacher else []
        good_at = "" if metric.good_at is None else format_value(metric.good_at, metric.unit)
        mark = "good" if metric.reaches_threshold(metric.value) else ""
        better = "near 1" if metric.direction == "one" else metric.direction
        table.add_row(metric.title, format_value(metric.value, metric.unit), low_high, *other, better, good_at, mark)
    return table
