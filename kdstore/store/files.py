"""What is known of a store's files before they are trusted: JSON with one canonical text, sizes and checksums."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.dataclasses import dataclass

from kdstore.errors import CorruptStoreError

MAX_JSON_BYTES = 256 << 20  # a manifest of a million parts; anything larger is not ours

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=1 << 62)]


class Record(BaseModel):
    """Base of what a store keeps as JSON: frozen, and with no keys but its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_json(self) -> str:
        """Canonical JSON text: sorted keys, so that equal records have equal bytes; `ValueError` for NaN."""
        content = self.model_dump(mode="json", by_alias=True)
        return json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n"

    def is_written_as(self, text: bytes) -> bool:
        """Whether ``text`` is the canonical one: no duplicated key, no other spelling of a number, no NaN."""
        try:
            return self.to_json().encode() == text
        except ValueError:
            return False


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class FileRecord:
    """Size and checksum of one file; not a model, which takes three times the memory: open parts have many."""

    bytes: Count
    sha256: Sha256


def read_bounded(path: Path, limit: int = MAX_JSON_BYTES) -> bytes:
    """The bytes of a file that must not be larger than ``limit``; raises `CorruptStoreError` when it is."""
    size = path.stat().st_size
    if size > limit:
        raise CorruptStoreError(f"Expected at most {limit:,} bytes in {path}. Got {size:,}.")
    return path.read_bytes()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_record(path: Path) -> FileRecord:
    """Size and checksum of the file at ``path``."""
    return FileRecord(bytes=path.stat().st_size, sha256=sha256_file(path))


def check_files(root: Path, files: dict[str, FileRecord], *, checksums: bool) -> None:
    """Check that every file exists with its recorded size, and its checksum when asked.

    Raises
    ------
    CorruptStoreError
        The first file that does not match. (Zarr itself reads a missing shard as zeros.)
    """
    check_no_links(root / parent for parent in {p for name in files for p in PurePosixPath(name).parents if p.name})
    for name, record in files.items():
        path = root / name
        if not path.is_file() or path.is_symlink():
            raise CorruptStoreError(
                f"Expected the file {path} of {record.bytes:,} bytes. Got none. Mend the store with `kdstore repair`."
            )
        size = path.stat().st_size
        if size != record.bytes:
            raise CorruptStoreError(
                f"Expected {record.bytes:,} bytes in {path}. Got {size:,}. Mend the store with `kdstore repair`."
            )
        if checksums and sha256_file(path) != record.sha256:
            raise CorruptStoreError(
                f"Expected {path} to match its recorded checksum. Got another content. "
                "Mend the store with `kdstore repair`."
            )


def check_no_links(directories: Iterable[Path]) -> None:
    """Raise `CorruptStoreError` for a directory that is a symbolic link: all that a store holds lies inside it."""
    for directory in directories:
        if directory.is_symlink():
            raise CorruptStoreError(
                f"Expected a directory at {directory}. Got a symbolic link. Put what it names in its place."
            )
