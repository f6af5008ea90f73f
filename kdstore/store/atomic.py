"""Make files and directories appear whole or not at all, also after a power cut.

The order is always the same: write under a temporary name on the same file system, fsync the files, fsync
their directories, rename, fsync the parent directory.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kdstore.errors import StoreError


def write_text(path: Path, text: str) -> None:
    """Replace the file at ``path`` by one that holds ``text``."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path; when the block ends well, its file takes the place of ``path``."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    # mkstemp makes private files; what we publish has the permissions that the user's umask gives.
    temporary.chmod(0o666 & ~_umask())
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def commit_directory(staged: Path, target: Path) -> bool:
    """Move the complete directory ``staged`` to ``target``; False when ``target`` is already there.

    Every file below ``staged`` must already be synced (see `sync_tree`).
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        staged.rename(target)
    except OSError:
        if target.is_dir():
            return False
        raise
    sync(target.parent)
    return True


@contextmanager
def staging(parent: Path, prefix: str) -> Iterator[Path]:
    """A fresh directory under ``parent`` that is gone when the block ends, unless it was renamed."""
    parent.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir=parent))
    path.chmod(0o777 & ~_umask())
    try:
        yield path
    except BaseException:
        # Threads may still be writing there; what that does to the removal must not hide what happened.
        shutil.rmtree(path, ignore_errors=True)
        raise
    remove(path)


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file at ``path`` while the block runs; it vanishes with its process, however that ends.

    Directories that were made for the lock, and are empty afterwards, are removed again.

    Raises
    ------
    StoreError
        Another process holds it; ``what`` says what that process is doing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A holder removes the file before it lets go: a lock on a removed file is worth nothing.
            ours = path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino
        except BlockingIOError:
            ours = False
        if not ours:
            raise StoreError(f"Expected to be alone in {path.parent}. Got another process {what} there. Wait for it.")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            with suppress(OSError):
                path.parent.rmdir()
                path.parent.parent.rmdir()


def remove(directory: Path) -> None:
    """Remove a directory with all that is in it, when it is there."""
    if directory.exists():
        shutil.rmtree(directory)


def sync_tree(root: Path) -> None:
    """Fsync every file below ``root``, then every directory, the deepest first."""
    directories = [root]
    for path in sorted(root.rglob("*")):
        if path.is_dir():
            directories.append(path)
        else:
            sync(path)
    for directory in reversed(directories):
        sync(directory)


def sync(path: Path) -> None:
    """Fsync one file or directory."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value
