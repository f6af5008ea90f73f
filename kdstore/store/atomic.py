"""Make files and directories appear whole or not at all, also after a power cut.

The order is always the same: write under a temporary name on the same file system, fsync the files, fsync
their directories, rename, fsync the parent directory.
"""

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kdstore.errors import KDError, StoreError

VANISHED = (FileNotFoundError, FileExistsError)
"""Raised where another process removes the directory meanwhile; the second by `mkdir`, which finds it half gone."""

_LOCK = ".lock"


def write_text(path: Path, text: str, scratch: Path | None = None) -> None:
    """Replace the file at ``path`` by one that holds ``text``; ``scratch`` as for `replacing`."""
    with replacing(path, scratch) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def replacing(path: Path, scratch: Path | None = None) -> Iterator[Path]:
    """Give a temporary path; when the block ends well, the file that it made there takes the place of ``path``.

    It lies in the directory ``scratch`` of the same file system, which is made where it is missing; or beside
    ``path``. A process that is killed leaves it there.
    """
    if scratch:
        scratch.mkdir(exist_ok=True)
    temporary = _new(scratch or path.parent, f".{path.name}.")
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
    """A fresh directory under ``parent`` that is gone when the block ends, unless it was renamed.

    A locked file beside it says that its writer lives; see `remove_abandoned`.
    """
    parent.mkdir(parents=True, exist_ok=True)
    with _living(parent, prefix) as path:
        try:
            path.mkdir()
            yield path
        except BaseException:
            # Threads may still be writing there; what that does to the removal must not hide what happened.
            shutil.rmtree(path, ignore_errors=True)
            raise
        remove(path)


def remove_abandoned(parent: Path) -> None:
    """Remove what writers that were killed left under ``parent``; what a living one stages is let alone."""
    for lock in parent.glob(f"*{_LOCK}"):
        with suppress(FileNotFoundError, BlockingIOError), lock.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(lock.with_suffix(""))
            lock.unlink()


@contextmanager
def _living(parent: Path, prefix: str) -> Iterator[Path]:
    """A new path under ``parent`` with a locked file beside it, that is removed when the block ends."""
    lock = _new(parent, f"{prefix}-", _LOCK)
    try:
        with lock.open("x") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if lock.exists():
                yield lock.with_suffix("")
                return
    finally:
        lock.unlink(missing_ok=True)
    # It was taken for abandoned before it was locked.
    with _living(parent, prefix) as path:
        yield path


@contextmanager
def locked(path: Path, what: str, error: type[KDError] = StoreError) -> Iterator[None]:
    """Hold the lock file at ``path`` while the block runs; it vanishes with its process, however that ends.

    Directories that were made for the lock, and are empty afterwards, are removed again.

    Raises
    ------
    KDError
        An ``error``: another process holds it; ``what`` says what that process is doing.
    """
    made = [directory for directory in (path.parent, path.parent.parent) if not directory.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    # Never through a link, and never emptying what is there.
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A holder removes the file before it lets go: a lock on a removed file is worth nothing.
            ours = path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino
        except BlockingIOError:
            ours = False
        if not ours:
            raise error(f"Expected to be alone in {path.parent}. Got another process {what} there. Wait for it.")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            with suppress(OSError):
                for directory in made:
                    directory.rmdir()


@contextmanager
def full_disk_named(*roots: Path) -> Iterator[None]:
    """Say which of the directories that the block writes to is on a full disk; writes themselves do not.

    Raises
    ------
    StoreError
        A disk is full, or a quota is.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        root = min(roots, key=_free)
        raise StoreError(
            f"Expected room on the disk of {root}. Got {error.strerror!r}; {_free(root):,} bytes are free there now. "
            "Free more, and run the same command again: it continues."
        ) from None


def _free(path: Path) -> int:
    return shutil.disk_usage(next(here for here in (path, *path.absolute().parents) if here.exists())).free


def retire(directory: Path) -> None:
    """Remove a directory so that it vanishes as a whole; what a killed process leaves of it, `sweep` removes."""
    with suppress(FileNotFoundError):
        directory.rename(_new(directory.parent, f"{directory.name}."))
    sweep(directory)


def sweep(directory: Path) -> None:
    """Remove what can be removed of retired directories of this name; a process that is late may hold files there."""
    for path in directory.parent.glob(f"{directory.name}.*"):
        shutil.rmtree(path, ignore_errors=True)


def remove(directory: Path) -> None:
    """Remove a directory with all that is in it, when it is there; another process may be doing the same."""
    while directory.exists():
        with suppress(FileNotFoundError):
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


def _new(parent: Path, prefix: str, suffix: str = "") -> Path:
    """A path that nobody uses; its name is known before anything is there that would have to be removed."""
    return parent / f"{prefix}{secrets.token_hex(4)}{suffix}"
