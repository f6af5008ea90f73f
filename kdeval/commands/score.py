"""``kdeval score``."""

from pathlib import Path
from typing import Any

import click

from kdeval.bounds import MAX_ROWS
from kdeval.commands._common import metric_names, scoring_options
from kdeval.commands.run import show
from kdstore.console import print_json
from kdstore.errors import InputError


@click.command()
@click.argument("predictions", type=click.Path(path_type=Path))
@click.option("--into", required=True, type=click.Path(path_type=Path), help="Directory for the results.")
@click.option("--limit", type=click.IntRange(1, MAX_ROWS), help="Use only the first lines.")
@click.option("--thresholds", type=click.Path(path_type=Path), help="Of labels: JSON by `kdeval thresholds`.")
@click.option("--task", default="java_assertion", show_default=True, help="Whose metrics are the default.")
@scoring_options
def score(
    predictions: Path,
    into: Path,
    metrics: str | None,
    thresholds: Path | None,
    task: str,
    as_json: bool,
    **settings: Any,
) -> None:
    """Measure predictions that are there already, whoever made them; no model is run.

    PREDICTIONS is a predictions_final.jsonl, or JSON Lines of one's own. Each line needs an id, and

    \b
        reference, prediction                  texts; optional: teacher_prediction, repo, path, prompt
        labels: {scores: {joy: 0.9, ...}, gold: [joy]}       for classification
        ranking: {scores: [...], relevance: [...]}           for retrieval, a line for each query

    The same files are written as by `kdeval run`.

    \b
    Example:
        kdeval score results/run/predictions_final.jsonl --into results/again --metrics codebleu,pans
        kdeval score emotions.jsonl --into results/emotions --metrics macro_f1,average_precision
    """
    from pydantic import TypeAdapter

    from kdeval.rescore import rescore
    from kdeval.results import Settings
    from kdstore.validation import parse

    if thresholds is not None:
        if not thresholds.is_file():
            raise InputError(f"Expected a file of thresholds at {thresholds}. Got none. See `kdeval thresholds`.")
        by_label = parse(
            TypeAdapter(dict[str, float]), thresholds.read_bytes(), f"thresholds {thresholds}", InputError
        )
        settings["thresholds"] = by_label
    results = rescore(predictions, into, parse(Settings, settings, "settings"), metric_names(metrics), task)
    if as_json:
        print_json(results.model_dump(mode="json"))
    else:
        show(results, into)
