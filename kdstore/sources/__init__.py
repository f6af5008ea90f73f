"""Raw data as records: one source per file, found by its file name.

A source is a generator function ``read(path)`` that yields a `Located` for every record it can read and a
`Rejected` for everything it cannot, so that one bad line never ends a build.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from kdstore.errors import EmptyInputError, InputError
from kdstore.registry import Registry
from kdstore.schema import Record


@dataclass(frozen=True, slots=True)
class Located:
    """A record and where it came from, e.g. ``rows.jsonl.gz:17``."""

    record: Record
    origin: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """A place in the input that holds no usable record, and why."""

    origin: str
    reason: str


Source = Callable[[Path], Iterator[Located | Rejected]]

SOURCES: Registry[Source] = Registry("source", "kdstore.sources")

# Which source reads a file when none is named. Sources that share a suffix are asked for by name.
BY_SUFFIX = {".jsonl": "jsonl", ".jsonl.gz": "jsonl", ".json.gz": "jsonl"}


def open_source(path: Path) -> Iterator[Located | Rejected]:
    """Read a file of rows, or all such files of a directory in the order of their names.

    The path is checked now, its content while the result is consumed.

    Raises
    ------
    InputError
        The path does not exist, cannot be read, or has a suffix that no source reads.
    EmptyInputError
        A directory without any file that a source reads.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file() and _source_name(file))
        if not files:
            raise EmptyInputError(
                f"Expected files ending in {_suffixes()}. Got none in the directory {path}. "
                "Name a directory that holds rows, or a file."
            )
        return chain.from_iterable(map(open_source, files))
    if not path.exists():
        raise InputError(f"Expected a file of rows. Got {path}, which does not exist. Check the path.")
    if not path.is_file():  # a pipe would block, and cannot be read a second time
        raise InputError(f"Expected a file of rows. Got {path}, which is not a regular file. Save the rows first.")
    name = _source_name(path)
    if name is None:
        raise InputError(
            f"Expected a file ending in {_suffixes()}. Got {path}. Convert it to JSON Lines or rename it."
        )
    return SOURCES.get(name)(path)


def _source_name(path: Path) -> str | None:
    return next((source for suffix, source in BY_SUFFIX.items() if path.name.endswith(suffix)), None)


def _suffixes() -> str:
    return ", ".join(BY_SUFFIX)
