"""Options that commands share."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from kdeval.bounds import MAX_DRAWS
from kdstore.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])

_SCORING = (
    click.option("--metrics", help="Comma-separated names; default: those of the data's task."),
    click.option(
        "--embedding-model", default="sentence-transformers/all-MiniLM-L6-v2", show_default=True,
        help="Sentence-transformer of the semantic similarity: a directory or a hub name.",
    ),
    click.option(
        "--draws", default=1000, show_default=True, type=click.IntRange(0, MAX_DRAWS),
        help="Bootstrap resamples behind the intervals; 0: none.",
    ),
    click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of resamples and sampling."),
    click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON."),
)  # fmt: skip


def scoring_options(function: F) -> F:
    """Add the options of what measures samples."""
    for option in reversed(_SCORING):
        function = option(function)
    return function


def metric_names(text: str | None) -> Sequence[str] | None:
    """The names in ``--metrics``.

    Raises
    ------
    UsageError
        There is none.
    """
    if text is None:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError(f"Expected names of metrics. Got {text!r}. Name some, or leave --metrics out.")
    return names
