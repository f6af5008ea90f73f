"""Predictions so far, on disk window by window, so that an evaluation that was stopped goes on where it was.

The first line says of which model, data and settings they are; each further line is a `Window`. A line counts once it
ends with a line break, whose write is synced: what a power cut left of another one is cut off.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

from pydantic import TypeAdapter

from kdeval.predict import Window
from kdstore.console import note
from kdstore.errors import InputError
from kdstore.validation import parse

JOURNAL: Final = "predictions_partial.jsonl"
_SCHEMA: TypeAdapter[Window] = TypeAdapter(Window)


class Journal:
    """The predictions of one evaluation, in one directory.

    Parameters
    ----------
    directory
        Of the run.
    identity
        What the predictions depend on; those of another identity are not used.

    Attributes
    ----------
    rows
        Rows that are there.
    """

    def __init__(self, directory: Path, identity: dict[str, Any]) -> None:
        self.path = directory / JOURNAL
        self._head = json.dumps(identity, sort_keys=True).encode() + b"\n"
        self.rows = 0
        if self.path.is_symlink():
            raise InputError(f"Expected a file of its own at {self.path}. Got a link. Remove it.")
        self._file = self.path.open("a+b")
        try:
            self.rows = self._adopt()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        """The journal itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close it; its file stays where it holds anything."""
        self._file.close()
        if not self.rows:
            self.path.unlink(missing_ok=True)
        elif kind is not None:
            note(f"the predictions of {self.rows:,} rows are kept: the same command goes on after them")

    def add(self, window: Window) -> None:
        """Keep one more window, before anything is done with it."""
        self._append(_SCHEMA.dump_json(window) + b"\n")
        self.rows += len(window.samples)

    def windows(self) -> Iterator[Window]:
        """All windows, one in memory at a time.

        Raises
        ------
        InputError
            A line is no window.
        """
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if number > 1:
                    yield parse(_SCHEMA, line, f"line {number} of {self.path} (remove it to start over)", InputError)

    def remove(self) -> None:
        """Delete the file: its content is elsewhere by now."""
        self.path.unlink()

    def _adopt(self) -> int:
        """Number of rows in the whole lines of a file of this identity; another one is begun anew."""
        self._file.seek(0)
        if (head := self._file.readline()) != self._head:
            if head:
                note(f"{self.path} holds predictions of another model, data or settings: starting over")
            self._file.truncate(0)
            self._append(self._head)
            return 0
        end = self._file.tell()
        for line in self._file:
            if line.endswith(b"\n"):
                end += len(line)
        self._file.truncate(end)
        rows = sum(len(window.samples) for window in self.windows())
        if rows:
            note(f"going on after {rows:,} rows that were predicted before")
        return rows

    def _append(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()
        os.fsync(self._file.fileno())
