"""The parts that a build has to write, as one list that any number of processes share without talking.

The list follows from the pinned settings alone. Process I of N takes every N-th entry from the I-th on; a part that
is in place is done. Process 0 settles everything first (`kdstore.store.writer.prepare`), the others wait for that.
"""

import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from kdstore.errors import KDError, StoreError, UsageError
from kdstore.store import layout
from kdstore.store.failures import STOPPED, Failure, read_failure, remove_failure, write_failure
from kdstore.store.manifest import Head
from kdstore.store.writer import is_finished, is_prepared

T = TypeVar("T")

_POLL_S = 1.0


@dataclass(frozen=True)
class Share:
    """Process ``index`` of ``count``, from 0."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Share":
        """A share from ``I/N``; raises `UsageError` for anything else."""
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count) <= 1 << 20):
            raise UsageError(f"Expected --share I/N with I from 0 to N - 1. Got {text!r}.")
        return cls(int(index), int(count))

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """What this process takes of a list."""
        return items[self.index :: self.count]


@dataclass(frozen=True)
class Job:
    """One store to write: its settings, and the rows of the last segment in the order they are written."""

    out: Path
    head: Head
    rows: NDArray[np.int64]

    def parts(self) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Every part of the last segment: its index and its rows."""
        size = self.head.part_rows
        for row, index in enumerate(self.head.parts_of(len(self.head.segments) - 1)):
            yield index, self.rows[row * size : (row + 1) * size]


def wait_until_prepared(outs: Sequence[Path], minutes: float) -> None:
    """Wait until process 0 has settled all stores of a build.

    Raises
    ------
    StoreError
        It has not after so many minutes, or it is known to have failed in the same job array.
    """
    deadline = time.monotonic() + 60 * minutes
    while not all(is_prepared(out) for out in outs):
        failure = read_failure(outs[0], 0)
        if failure and failure.kind != STOPPED and _is_of_this_array(failure.job):
            raise StoreError(
                f"Expected process 0 to prepare {outs[0]}. Got its failure: {failure.error} Mend that, and run both "
                "again."
            )
        if time.monotonic() > deadline:
            raise StoreError(
                f"Expected process 0 to prepare {outs[0]} within {minutes:g} minutes. Got nothing. See why it did "
                "not with `kdstore status`, and run this one again."
            )
        time.sleep(_POLL_S)


@contextmanager
def failures_recorded(out: Path, share: Share) -> Iterator[None]:
    """Leave a record when the block fails, which `kdstore status` reads; an earlier one is removed first."""
    remove_failure(out, share.index)
    try:
        yield
    except BaseException as error:
        # Nothing is left in a finished store, nor where process 0 has found something that is not ours.
        if not is_finished(out) and (share.index == 0 or (out / layout.BUILD).is_dir()):
            write_failure(out, _failure(share, error))
        raise


def _failure(share: Share, error: BaseException) -> Failure:
    return Failure(
        share=share.index,
        count=share.count,
        kind=_kind(error),
        error=_reason(error),
        host=socket.gethostname(),
        job=_job(),
        time=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    )


def _kind(error: BaseException) -> str:
    if isinstance(error, KDError):
        return error.kind
    return type(error).__name__ if isinstance(error, Exception) else STOPPED


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "stopped by Ctrl-C"
    if isinstance(error, SystemExit):
        return "stopped by SIGTERM"
    return " ".join(str(error).split()) or type(error).__name__


def _job() -> str:
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID", "")


def _is_of_this_array(job: str) -> bool:
    return bool(job) and job.partition("_")[0] == os.environ.get("SLURM_ARRAY_JOB_ID")
