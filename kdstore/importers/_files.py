"""Find the files of a source, and read their records."""

from collections.abc import Iterator
from pathlib import Path

from kdstore.errors import EmptyInputError, InputError
from kdstore.sources import Located, Rejected
from kdstore.sources.jsonl import located, read

MAX_RECORD_BYTES = 64 << 20
"""Longest line: 16-bit logits over 128 tokens and 100,000 ids fit, in base64."""

JSON_LINES = (".jsonl", ".jsonl.gz", ".json.gz")


def files_of(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The file at ``path``, or the files of a directory with one of the suffixes, by name.

    Raises
    ------
    InputError
        Nothing is there, or a file with another suffix.
    EmptyInputError
        A directory without such a file.
    """
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.is_file() and file.name.endswith(suffixes))
        if not found:
            raise EmptyInputError(
                f"Expected files ending in {', '.join(suffixes)} in {path}. Got none. Check the path."
            )
        return found
    if not path.is_file() or not path.name.endswith(suffixes):
        what = "another kind of file" if path.exists() else "nothing there"
        raise InputError(f"Expected a file ending in {', '.join(suffixes)} at {path}. Got {what}. Check the path.")
    return [path]


def json_records(path: Path) -> Iterator[Located | Rejected]:
    """The objects of a JSON Lines file, or the one object of a ``.json`` file.

    Raises
    ------
    InputError
        The file cannot be read.
    """
    if path.name.endswith(JSON_LINES):
        yield from read(path, MAX_RECORD_BYTES)  # type: ignore[call-arg]  # registered with the type of all sources
    elif path.stat().st_size > MAX_RECORD_BYTES:
        yield Rejected(path.name, f"the file is larger than {MAX_RECORD_BYTES:,} bytes")
    else:
        yield located(path.read_bytes(), path.name)
