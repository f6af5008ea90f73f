"""What a run reads, as its command names it: by argument or, as the predecessor's did, by option."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from kdstore.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])


class Fraction(click.FloatRange):
    """A number between 0 and 1; click's own range lets NaN through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        if math.isnan(number := super().convert(value, param, ctx)):
            self.fail(f"{value} is not in the range 0<x<1.", param, ctx)
        return number


_PATH = click.Path(path_type=Path)
_STUDENT = (
    click.option("--val", type=_PATH, help="Validation store; gives the best model."),
    click.option("--train-data-path", type=_PATH, hidden=True, help="The STORE."),
    click.option("--val-data-path", type=_PATH, hidden=True, help="The same as --val."),
)
_TEACHER = (
    click.option("--val-rows", type=_PATH, multiple=True, help="Rows to validate on; repeatable."),
    click.option(
        "--val-fraction", type=Fraction(0, 1, min_open=True, max_open=True), default=0.1, show_default=True,
        help="Without --val-rows: share of rows held out.",
    ),
    click.option("--task", default="java_assertion", show_default=True, help="What is predicted."),
    click.option(
        "--generate-distillation-data/--no-generate-distillation-data", default=None, hidden=True,
        help="Run the command that the recipe names, which builds stores; the other is --no-after.",
    ),
    click.option("--train-data-path", type=_PATH, hidden=True, help="The ROWS."),
    click.option("--val-data-path", type=_PATH, hidden=True, help="The same as --val-rows."),
)  # fmt: skip


def student_inputs(function: F) -> F:
    """Add the arguments of `student_stores`."""
    argument = click.argument("store", type=_PATH, nargs=-1)
    return _added(function, (argument, *_STUDENT))


def teacher_inputs(function: F) -> F:
    """Add the arguments of `teacher_rows`, and how rows are divided and read."""
    argument = click.argument("rows", type=_PATH, nargs=-1)
    return _added(function, (argument, *_TEACHER))


def any_inputs(function: F) -> F:
    """Add the arguments of both."""
    argument = click.argument("data", type=_PATH, nargs=-1)
    return _added(function, (argument, *_STUDENT, *_TEACHER[:-2]))


def _added(function: F, parameters: Sequence[Callable[[F], F]]) -> F:
    for parameter in reversed(parameters):
        function = parameter(function)
    return function


def student_stores(
    stores: Sequence[Path], val: Path | None, train_data_path: Path | None, val_data_path: Path | None
) -> tuple[tuple[Path, ...], Path | None]:
    """Where the training stores and the validation store are.

    Raises
    ------
    UsageError
        There is no training store, or one is named twice, or what is named is a file of rows.
    """
    train = one_of("STORE", stores, "--train-data-path", [train_data_path] if train_data_path else ())
    if not train:
        raise UsageError("Expected a STORE of teacher signals. Got none. Name one, such as train.kd.")
    found = one_of("--val", [val] if val else (), "--val-data-path", [val_data_path] if val_data_path else ())
    for path in (*train, *found):
        if path.is_file():
            made = f"{path.stem}.kd --embed minilm=sentence-transformers/all-MiniLM-L6-v2"
            raise UsageError(
                f"Expected a store, which is a directory. Got the file {path}. Make one: with a teacher kdstore "
                f"build {path} --teacher TEACHER --out {made}; or of rows that hold the predecessor's logits: "
                f"kdstore import {path} --format predecessor --tokenizer TOKENIZER --out {made}"
            )
    return train, found[0] if found else None


def one_of(first: str, by_first: Sequence[Path], second: str, by_second: Sequence[Path]) -> tuple[Path, ...]:
    """Paths that are given in one of two ways.

    Raises
    ------
    UsageError
        They are given in both.
    """
    if by_first and by_second:
        raise UsageError(f"Expected {first} or {second}, which mean the same. Got both. Leave one out.")
    return tuple(by_first or by_second)
