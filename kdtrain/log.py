"""The run's log: a CSV file, a text file and TensorBoard, from the same numbers.

Columns of ``training_metrics.csv``, one row per optimizer step (``split`` train) and per validation (val):

=================  =====================================================================================
step, epoch        optimizer steps done; pass over the data, from 1 (0: before the first step)
split              ``train`` or ``val``
loss               sum of the means, weighted: with the step's weights, or on validation rows with the same ones at
                   every validation (`kdtrain.weights.Weights.reference`)
<component>_loss   each component's mean per label token, or per row, before its weight
<component>_weight what it was multiplied by (train only)
temperature        T at which teacher and student were compared (train only)
lr, grad_norm      learning rate and gradient norm before clipping, of the step (train only)
label_tokens       label tokens of the step or of the validation rows
tokens_per_s       label tokens per second of the step or validation
data_wait_s        seconds spent waiting for the loader
sample_s           seconds spent on texts that the student writes (with ast, train only)
rss_mb             resident memory of the process, MiB
elapsed_s          seconds of training, over all starts of the run
=================  =====================================================================================
"""

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Self

from torch.utils.tensorboard import SummaryWriter

from kdstore.errors import TrainingError
from kdstore.store import atomic
from kdtrain.rundir import RunDir
from kdtrain.stream.memory import rss_bytes

_MEASURES = (
    "temperature",
    "lr",
    "grad_norm",
    "label_tokens",
    "tokens_per_s",
    "data_wait_s",
    "sample_s",
    "rss_mb",
    "elapsed_s",
)
_GROUPS = {
    "loss": "Loss/total",
    "lr": "Hyperparams/learning_rate",
    "temperature": "Hyperparams/temperature",
    "grad_norm": "Gradients/norm",
    **{name: f"Training/{name}" for name in ("tokens_per_s", "data_wait_s", "sample_s", "rss_mb")},
}


class RunLog:
    """Writes the logs of one run; a context manager.

    Parameters
    ----------
    run
        The run directory.
    components
        Names of the loss components.
    step
        Optimizer steps already done; rows of later steps, which a killed run left behind, are dropped.

    Raises
    ------
    TrainingError
        The rows that are there are damaged; the line is named.
    """

    def __init__(self, run: RunDir, components: Sequence[str], step: int) -> None:
        of_components = [f"{name}_{kind}" for kind in ("loss", "weight") for name in components]
        self._columns = ["step", "epoch", "split", "loss", *of_components, *_MEASURES]
        _keep_until(run.metrics, self._columns, step)
        self._file = run.metrics.open("a", encoding="utf-8", newline="")
        self._csv = csv.DictWriter(self._file, self._columns)
        self._text = run.log.open("a", encoding="utf-8")
        self._tensorboard = SummaryWriter(run.tensorboard, purge_step=step + 1)

    def __enter__(self) -> Self:
        """The log itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close all files."""
        self._file.close()
        self._text.close()
        self._tensorboard.close()

    def row(self, step: int, epoch: int, split: str, values: Mapping[str, float]) -> None:
        """Add one row; ``values`` by column name, those that do not apply left out."""
        values = {**values, "rss_mb": rss_bytes() / 2**20}
        rounded = {name: f"{value:.8g}" for name, value in values.items()}
        self._csv.writerow({"step": step, "epoch": epoch, "split": split, **rounded})
        self._file.flush()
        for name, value in values.items():
            if tag := _tag(name, split):
                self._tensorboard.add_scalar(tag, value, step)

    def say(self, message: str) -> None:
        """Add one line with the time to the text log."""
        self._text.write(f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S} {message}\n")
        self._text.flush()


def _tag(name: str, split: str) -> str | None:
    if name.endswith("loss") and split == "val":
        return f"Validation/{name}"
    if name.endswith("_loss"):
        return f"Loss_Raw/{name.removesuffix('_loss')}"
    if name.endswith("_weight"):
        return f"Weights/{name.removesuffix('_weight')}"
    return _GROUPS.get(name) if split == "train" else None


def _keep_until(path: Path, columns: list[str], step: int) -> None:
    """Rewrite the CSV file with its header and the rows up to ``step``; none for a fresh start."""
    kept: list[dict[str, str]] = []
    if step > 0 and path.is_file():
        # A killed run may have left half a row at the end.
        kept = [row for row in _read(path, columns) if None not in row.values() and int(row["step"]) <= step]
    with atomic.replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(kept)


def _read(path: Path, columns: list[str]) -> list[dict[str, str]]:
    """All rows of the CSV file, each with a whole number as its step; what a row lacks at its end is None."""
    data = path.read_bytes()
    try:
        reader = csv.DictReader(io.StringIO(data.decode(), newline=""))
    except UnicodeDecodeError as error:
        raise _damaged(path, data.count(b"\n", 0, error.start) + 1, "bytes that are not UTF-8") from None
    rows = []
    try:
        if list(reader.fieldnames or ()) != columns:
            raise _damaged(path, 1, "other columns")
        for row in reader:
            if None in row:
                raise _damaged(path, reader.line_num, "too many values")
            int(row["step"])
            rows.append(row)
    except (ValueError, csv.Error) as error:
        raise _damaged(path, reader.line_num, str(error)) from None
    return rows


def _damaged(path: Path, line: int, got: str) -> TrainingError:
    return TrainingError(
        f"Expected the metrics of this run in {path}. Got {got} in line {line}. Mend that line, or move the file "
        "away to continue without the earlier rows."
    )
