"""Curves of a training run: losses, the validator's scores, weights of the components, and the schedule.

They come from ``step_metrics.csv`` (training) and ``training_metrics.csv`` (validation); `kdtrain.logs.columns` has
the columns.
"""

import csv
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from kdstore.errors import InputError
from kdtrain.logs.columns import METRICS_FILE, STEP_FILE, components_of, metrics_columns
from kdtrain.losses import LOSSES, LabelLoss

MOST: Final = 40  # curves of a kind
_TRAIN_TOTAL, _VAL_TOTAL = "total_loss_weighted", "val_loss"
_SCHEDULE: Final = ("learning_rate", "temperature")
_LARGEST = 1e100  # so that sums and differences of numbers stay finite

Points = list[tuple[float, float]]


@dataclass
class Curve:
    """One number over optimizer steps: (step, value) of the training batches and of the validations."""

    name: str
    train: Points = field(default_factory=list)
    val: Points = field(default_factory=list)

    @property
    def ends(self) -> tuple[str, float, float]:
        """What was measured, at the start and at the end: validation if there were two, else training."""
        label, points = ("validation", self.val) if len(self.val) > 1 else ("training", self.train or self.val)
        return label, points[0][1], points[-1][1]

    @property
    def steps(self) -> float:
        """The last step."""
        return max(step for step, _ in (*self.train, *self.val))

    @property
    def is_constant(self) -> bool:
        """Whether it never changes."""
        return len({value for _, value in (*self.train, *self.val)}) <= 1


@dataclass(frozen=True)
class Curves:
    """All curves of a run, each with at least one point; the first of ``losses`` is the total."""

    losses: list[Curve]
    scores: list[Curve]
    weights: list[Curve]
    schedule: list[Curve]

    @property
    def moving_weights(self) -> list[Curve]:
        """All weights, where any of them changes; those that are always equal are one curve with all names."""
        if all(curve.is_constant for curve in self.weights):
            return []
        equal: list[tuple[list[str], Curve]] = []
        for curve in self.weights:
            names = next((names for names, other in equal if other.train == curve.train), None)
            if names is None:
                equal.append(([curve.name], curve))
            else:
                names.append(curve.name)
        return [replace(curve, name=" = ".join(names)) for names, curve in equal]

    @property
    def what_changes(self) -> str:
        """What makes values of the total loss at different steps different things; nothing where that stays."""
        weights = "weights" if self.moving_weights else ""
        moving = any(curve.name == "temperature" and not curve.is_constant for curve in self.schedule)
        temperature = "temperature" if moving and self.divergences else ""
        return " and ".join(filter(None, (weights, temperature)))

    @property
    def total_is_comparable(self) -> bool:
        """Whether the total loss is the same thing at every step."""
        return not self.what_changes

    @property
    def label_loss(self) -> Curve | None:
        """The first component that is a function of the labels alone, at T = 1; ``ce_loss`` before others."""
        known = LOSSES.names()
        kinds = [curve for curve in self.losses[1:] if (name := _component(curve)) in known and _is_label_loss(name)]
        return min(kinds, key=lambda curve: curve.name != "ce_loss", default=None)

    @property
    def divergences(self) -> list[str]:
        """The components that compare with the teacher's distribution."""
        known = LOSSES.names()
        return [name for name in self.components if name in known and LOSSES.get(name).needs_signal]

    @property
    def constants(self) -> list[str]:
        """What did not change, with its value."""
        weights = [] if self.moving_weights else [(f"weight of {curve.name}", curve) for curve in self.weights]
        schedule = [(curve.name.replace("_", " "), curve) for curve in self.schedule if curve.is_constant]
        return [f"{name} {(curve.train or curve.val)[0][1]:g}" for name, curve in (*weights, *schedule)]

    @property
    def components(self) -> list[str]:
        """The loss components."""
        return [_component(curve) for curve in self.losses[1:]]

    @property
    def temperatures(self) -> tuple[float, float] | None:
        """The lowest and the highest temperature of the steps; None where they do not say."""
        found = [value for curve in self.schedule if curve.name == "temperature" for _, value in curve.train]
        return (min(found), max(found)) if found else None


def _component(curve: Curve) -> str:
    return curve.name.removesuffix("_loss")


def _is_label_loss(name: str) -> bool:
    return issubclass(LOSSES.get(name), LabelLoss)


def read_curves(run: Path) -> Curves | None:
    """The curves of the run in ``run``; None where no training left its tables there.

    ``loss`` is the total with weights, and ``<c>_loss`` a component's mean before its weight. Other columns, and
    empty cells, are ignored; so is what comes after 40 curves of a table.

    Raises
    ------
    InputError
        One of the two files, or a needed column is missing, it is no CSV in UTF-8, a cell is not a finite number of
        at most 1e100, or there is no loss at all.
    """
    if not (run / STEP_FILE).exists() and not (run / METRICS_FILE).exists():
        return None
    kinds: dict[str, dict[str, Curve]] = {"loss": {"loss": Curve("loss")}, "score": {}, "weight": {}, "schedule": {}}
    for kind, name, step, value in _cells(run / STEP_FILE, _TRAIN_TOTAL):
        kinds[kind].setdefault(name, Curve(name)).train.append((step, value))
    for kind, name, step, value in _cells(run / METRICS_FILE, _VAL_TOTAL):
        kinds[kind].setdefault(name, Curve(name)).val.append((step, value))
    loss = kinds["loss"]["loss"]
    if not loss.train and not loss.val:
        raise InputError(
            f"Expected at least one row with a loss in {run / STEP_FILE}. Got none. Train for a step at least."
        )
    return Curves(*(list(curves.values())[:MOST] for curves in kinds.values()))


def _cells(path: Path, total: str) -> Iterator[tuple[str, str, float, float]]:
    """Kind and name of the curve, step and value of each cell of a table whose column ``total`` is the total loss."""
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
            curves = _curves_of(columns, total)
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                for column, curve in curves.items():
                    if row[column]:
                        yield *curve, _number(row["step"], where, "step"), _number(row[column], where, column)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"Expected CSV in UTF-8 in {path}. Got: {error}. Restore the file.") from None


def _curves_of(columns: Iterable[str], total: str) -> dict[str, tuple[str, str]]:
    """Kind and name of the curve that a column belongs to, for those that belong to any."""
    names = list(dict.fromkeys(columns))
    components = components_of(names)
    if total == _TRAIN_TOTAL:
        found = {name: ("loss", f"{name.removesuffix('_loss_raw')}_loss") for name in names if _is_raw(name)}
        found |= {f"{name}_weight": ("weight", name) for name in components if f"{name}_weight" in names}
        found |= {name: ("schedule", name) for name in _SCHEDULE if name in names}
    else:
        validated = [name for name in names if name.startswith("val_") and name.endswith("_loss") and name != total]
        found = {name: ("loss", name.removeprefix("val_")) for name in validated}
        known = {*metrics_columns(components, []), *validated}
        found |= {name: ("score", name) for name in names if name not in known}
    return {total: ("loss", "loss"), **dict(list(found.items())[: 3 * MOST])}


def _is_raw(column: str) -> bool:
    return column.endswith("_loss_raw") and column not in ("_loss_raw", "total_loss_raw")


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
