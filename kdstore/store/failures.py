"""Why processes of a build failed: a small file each beside the parts, gone when the store is finished."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from kdstore.errors import CorruptStoreError
from kdstore.store import atomic, layout
from kdstore.store.files import read_bounded
from kdstore.validation import parse

STOPPED = "stopped"
"""The kind of a failure that was a signal: the process was not given the time to end."""

_LONGEST = 1 << 20  # bytes of one record


class Failure(BaseModel):
    """The end of process ``share`` of ``count``.

    ``kind`` is that of a `KDError`, `STOPPED`, or the name of another exception. ``job`` is the batch system's name
    of the process (``17_3`` is task 3 of the array 17), empty without one. ``time`` is local, with its offset.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: int = Field(ge=0)
    count: int = Field(ge=1)
    kind: str
    error: str
    host: str
    job: str
    time: str


def write_failure(root: Path, failure: Failure) -> None:
    """Keep why a process failed, in place of its earlier failure."""
    path = _path(root, failure.share)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, failure.model_dump_json(indent=1) + "\n")


def remove_failure(root: Path, share: int) -> None:
    """Forget the failure of a process, when there was one."""
    _path(root, share).unlink(missing_ok=True)


def read_failure(root: Path, share: int) -> Failure | None:
    """Why a process failed; None where it has not.

    Raises
    ------
    CorruptStoreError
        The record is not one of ours.
    """
    path = _path(root, share)
    try:
        return parse(Failure, read_bounded(path, _LONGEST), f"record of a failure in {path}", CorruptStoreError)
    except FileNotFoundError:
        return None


def _path(root: Path, share: int) -> Path:
    return layout.failures_path(root) / f"{share}.json"
