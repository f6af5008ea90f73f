"""A table of a run: a CSV file that grows by a row at a time, and is cut back when the run is resumed."""

import csv
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, TextIO

from kdstore.errors import TrainingError
from kdstore.store import atomic

Numbers = Mapping[str, float | None]
"""A row's cells but the timestamp, by column; None where a cell is empty."""

_TIME = "timestamp"
_COUNTS: Final = {
    "step", "epoch", "mini_batch_idx", "effective_batch_size", "label_tokens", "val_label_tokens", "best",
}  # fmt: skip
_FINITE: Final = {
    "elapsed_time_seconds", "data_wait", "tokens_per_second", "sampling_seconds", "validation_seconds",
    "metrics_seconds", "memory_usage_mb",
}  # fmt: skip


class Table:
    """Adds rows to a CSV file that is there, with its columns; see `keep_until`."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._file: TextIO = path.open("a", encoding="utf-8", newline="")
        self._csv = csv.DictWriter(self._file, columns)

    def add(self, values: Mapping[str, float | None]) -> Numbers:
        """Write one row with the time of now; what it says, which is rounded."""
        cells = {name: _text(value) for name, value in values.items() if value is not None}
        self._csv.writerow({_TIME: datetime.now().astimezone().isoformat(timespec="milliseconds"), **cells})
        self._file.flush()
        return {name: _number(cells.get(name, "")) for name in self._csv.fieldnames if name != _TIME}

    def sync(self) -> None:
        """Have all rows so far on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def keep_until(path: Path, columns: Sequence[str], step: int, *, every: bool = False) -> Iterator[Numbers]:
    """Rewrite a table with its header and the rows up to ``step``, which come out one by one; none for step 0.

    The file is replaced when the last row has come out. ``every``: there is a row of every step.

    Raises
    ------
    TrainingError
        A row is damaged, missing, or there twice; the line is named.
    """
    last = None
    with atomic.replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        line = 1
        for line, cells, numbers in _rows(path, columns) if step > 0 and path.is_file() else ():
            at = int(numbers["step"] or 0)
            if at > step:
                continue
            if last is not None and (at != last + 1 if every else at < last):
                raise damaged(path, line, f"step {at} after step {last}")
            last = at
            writer.writerow(cells)
            yield numbers
        if every and last is not None and last < step:
            raise damaged(path, line, f"the end at step {last}, before that of the checkpoint, {step},")


def read_table(path: Path) -> tuple[list[str], Iterator[Numbers]]:
    """Columns and rows of a table of any run, also of one that is being written: half a row at the end is left out.

    Raises
    ------
    TrainingError
        It is no table of a run, or a row is damaged.
    """
    with path.open("rb") as file:
        columns = next(csv.reader([_decoded(path, 1, file.readline())]), [])
    if not {"step", "epoch"} <= {*columns}:
        raise damaged(path, 1, "no columns 'step' and 'epoch'")
    return columns, (numbers for _, _, numbers in _rows(path, columns))


def damaged(path: Path, line: int, got: str) -> TrainingError:
    """The error for a table that cannot be read."""
    return TrainingError(
        f"Expected the rows of a training run in {path}. Got {got} in line {line}. Mend that line, or move the file "
        "away to go on without it."
    )


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str], Numbers]]:
    """Line, cells and numbers of all rows; a line without an end, which a killed run leaves behind, is no row."""
    with path.open("rb") as file:
        reader = csv.reader(
            _decoded(path, number, line) for number, line in enumerate(file, 1) if line.endswith(b"\n")
        )
        try:
            if next(reader, None) != list(columns):
                raise damaged(path, 1, "other columns")
            for cells in reader:
                if len(cells) != len(columns):
                    raise damaged(path, reader.line_num, f"{len(cells)} values for {len(columns)} columns")
                numbers = {name: _number(cell) for name, cell in zip(columns, cells, strict=True) if name != _TIME}
                for name in _COUNTS & numbers.keys():
                    _check_count(name, numbers[name])
                for name in _FINITE & numbers.keys():
                    if not math.isfinite(numbers[name] or 0.0):
                        raise ValueError(f"no finite number as {name}")
                yield reader.line_num, cells, numbers
        except (ValueError, csv.Error) as error:
            raise damaged(path, reader.line_num, str(error)) from None


def _check_count(name: str, value: float | None) -> None:
    empty = value is None and name not in {"step", "epoch"}
    if not empty and (value is None or not math.isfinite(value) or value < 0 or not value.is_integer()):
        raise ValueError(f"no whole number as {name}")


def _decoded(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise damaged(path, number, "bytes that are not UTF-8") from None


def _text(value: float) -> str:
    return str(int(value)) if isinstance(value, int) else f"{value:.8g}"


def _number(cell: str) -> float | None:
    return float(cell) if cell else None
