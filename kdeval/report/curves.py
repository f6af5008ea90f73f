"""Loss curves from ``step_metrics.csv`` (training) and ``training_metrics.csv`` (validation)."""

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kdstore.errors import InputError
from kdtrain.logs.columns import METRICS_FILE, STEP_FILE

_TRAIN_TOTAL, _VAL_TOTAL = "total_loss_weighted", "val_loss"
_LARGEST = 1e100  # so that sums and differences of numbers stay finite

Points = list[tuple[float, float]]


@dataclass
class Curve:
    """One loss over optimizer steps: (step, value) of the training batches and of the validations."""

    name: str
    train: Points = field(default_factory=list)
    val: Points = field(default_factory=list)

    @property
    def ends(self) -> tuple[str, float, float]:
        """What was measured, at the start and at the end: validation if there were two, else training."""
        label, points = ("validation", self.val) if len(self.val) > 1 else ("training", self.train or self.val)
        return label, points[0][1], points[-1][1]


def read_curves(run: Path) -> list[Curve]:
    """The total loss, then every component, of the run in ``run``; each has at least one point.

    ``loss`` is the total with weights, and ``<c>_loss`` a component's mean before its weight. Other columns, and
    empty cells, are ignored.

    Raises
    ------
    InputError
        A file or a needed column is missing, it is no CSV in UTF-8, a cell is not a finite number of at most
        1e100, or there is no loss at all.
    """
    curves = {"loss": Curve("loss")}
    for name, step, value in _losses(run / STEP_FILE, _TRAIN_TOTAL):
        curves.setdefault(name, Curve(name)).train.append((step, value))
    for name, step, value in _losses(run / METRICS_FILE, _VAL_TOTAL):
        curves.setdefault(name, Curve(name)).val.append((step, value))
    loss = curves["loss"]
    if not loss.train and not loss.val:
        raise InputError(
            f"Expected at least one row with a loss in {run / STEP_FILE}. Got none. Train for a step at least."
        )
    return list(curves.values())


def _losses(path: Path, total: str) -> Iterator[tuple[str, float, float]]:
    """Name, step and value of every loss in a table whose column ``total`` is the total loss."""
    if not path.is_file():
        raise InputError(f"Expected {path}. Got nothing there. Name the run directory of a `kdtrain` run.")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            missing = [name for name in ("step", total) if name not in columns]
            if missing:
                raise InputError(
                    f"Expected the columns step and {total} in {path}. Got none called {missing[0]!r}. "
                    "Name the run directory of a `kdtrain` run."
                )
            names = {column: name for column in columns if (name := _curve_of(column, total))}
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                for column, name in names.items():
                    if row[column]:
                        yield name, _number(row["step"], where, "step"), _number(row[column], where, column)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"Expected CSV in UTF-8 in {path}. Got: {error}. Restore the file.") from None


def _curve_of(column: str, total: str) -> str | None:
    """The curve that a column belongs to; None for what is no loss of its own."""
    if column == total:
        return "loss"
    if total == _TRAIN_TOTAL and column.endswith("_loss_raw") and column != "total_loss_raw":
        return column.removesuffix("_raw")
    if total == _VAL_TOTAL and column.startswith("val_") and column.endswith("_loss"):
        return column.removeprefix("val_")
    return None


def _number(text: str | None, where: str, column: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not abs(value) <= _LARGEST:
        raise InputError(
            f"Expected a finite number of at most {_LARGEST:g} under {column!r} in {where}. "
            f"Got {(text or '')[:40]!r}. Correct the file."
        )
    return value
