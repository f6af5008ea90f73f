"""The directory that an evaluation writes into: one evaluation at a time, and nothing left of a killed one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from kdeval.results import COMPARISON, PREDICTIONS, SAMPLES_TABLE, STATISTICS, SUMMARY
from kdstore.console import note
from kdstore.errors import InputError, UsageError
from kdstore.store import atomic

LOCK: Final = ".kdeval.lock"
_FILES = (PREDICTIONS, SAMPLES_TABLE, COMPARISON, STATISTICS, SUMMARY)


@contextmanager
def writing(into: Path) -> Iterator[None]:
    """Have the directory ``into`` for oneself while the block runs; it is made where there is none.

    Raises
    ------
    UsageError
        There is something else at ``into``.
    InputError
        Another evaluation writes there.
    """
    if into.exists() and not into.is_dir():
        raise UsageError(f"Expected a directory at {into}. Got a file. Name another one as --into.")
    with atomic.full_disk_named(into), atomic.locked(into / LOCK, "evaluating", InputError):
        for name in _FILES:
            for left in into.glob(f".{name}.*"):  # by a process that was killed while it wrote
                left.unlink()
        if (into / SUMMARY).is_file():
            note(f"an earlier evaluation in {into} will be replaced")
        yield
