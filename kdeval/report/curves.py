"""Loss curves from ``training_metrics.csv``."""

import csv
import math
from dataclasses import dataclass, field
from pathlib import Path

from kdstore.errors import InputError

CURVES_FILE = "training_metrics.csv"
_REQUIRED = ("step", "split", "loss")
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

    A component is a column whose name begins with ``loss_`` or ends with ``_loss``. Other columns, and empty
    cells, are ignored.

    Raises
    ------
    InputError
        The file or a needed column is missing, it is no CSV in UTF-8, a cell is not a finite number of at most
        1e100, or there is no loss at all.
    """
    path = run / CURVES_FILE
    if not path.is_file():
        raise InputError(f"Expected {path}. Got nothing there. Name the run directory of a `kdtrain` run.")
    try:
        curves = _read(path)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"Expected CSV in UTF-8 in {path}. Got: {error}. Restore the file.") from None
    if not curves or curves[0].name != "loss":
        raise InputError(f"Expected at least one row with a loss in {path}. Got none. Train for a step at least.")
    return curves


def _read(path: Path) -> list[Curve]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        missing = [name for name in _REQUIRED if name not in columns]
        if missing:
            raise InputError(
                f"Expected the columns {', '.join(_REQUIRED)} in {path}. Got none called {missing[0]!r}. "
                "Name the run directory of a `kdtrain` run."
            )
        curves = [Curve(name) for name in sorted(filter(_is_loss, columns), key=lambda name: name != "loss")]
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            for curve in curves:
                if row[curve.name]:
                    points = curve.val if row["split"] == "val" else curve.train
                    points.append((_number(row["step"], where, "step"), _number(row[curve.name], where, curve.name)))
    return [curve for curve in curves if curve.train or curve.val]


def _is_loss(column: str) -> bool:
    return column == "loss" or column.startswith("loss_") or column.endswith("_loss")


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
