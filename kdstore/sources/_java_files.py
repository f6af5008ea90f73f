"""The Java files of repositories, and which of them are tests."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kdstore.errors import InputError

MAX_FILE_BYTES = 2 << 20
_BUILD_FOLDERS = frozenset({"target", "build", "out", "bin", "node_modules"})
_TEST_FOLDERS = frozenset({"test", "tests"})
_TEST_FILE = re.compile(r"Test[A-Z_]\w*|\w*(?:Tests?|TestCase)")
_REMOTE = re.compile(r'\[remote "origin"\][^\[]*?\n\s*url\s*=\s*(\S+)')


@dataclass(frozen=True)
class Repository:
    """A repository's name and its Java files, as sorted paths relative to ``root``."""

    name: str
    root: Path
    main: tuple[PurePosixPath, ...]
    tests: tuple[PurePosixPath, ...]


def find_repositories(paths: Sequence[Path], name: str | None, skipped: Counter[str]) -> list[Repository]:
    """The repositories in and under ``paths``, in sorted order; every file belongs to exactly one.

    A directory with ``.git`` in it is a repository; what lies in none of those belongs to the path given.
    Symbolic links, hidden folders and build folders are not followed; links to files count in ``skipped``.

    Raises
    ------
    InputError
        A path is not a directory that can be listed.
    """
    files: dict[Path, list[PurePosixPath]] = {}
    walked: set[Path] = set()
    for path in sorted({path.resolve() for path in paths}):
        if not path.is_dir():
            raise InputError(f"Expected a directory of Java sources. Got {path}. Name a repository's directory.")
        if not walked.intersection([path, *path.parents]):
            walked.add(path)
            _walk(path, files, skipped)
    return [_repository(root, sorted(found), name) for root, found in sorted(files.items())]


def _walk(start: Path, files: dict[Path, list[PurePosixPath]], skipped: Counter[str]) -> None:
    roots = {start}

    def unreadable(error: OSError) -> None:
        if Path(error.filename) == start:
            raise InputError(f"Expected a readable directory. Got {start}: {error.strerror}. Check permissions.")
        skipped["unreadable directory"] += 1

    for folder, subfolders, names in os.walk(start, onerror=unreadable):
        here = Path(folder)
        if ".git" in subfolders or ".git" in names:
            roots.add(here)
        root = next(parent for parent in (here, *here.parents) if parent in roots)
        relative = here.relative_to(root)
        subfolders[:] = [sub for sub in subfolders if not _ignored(sub, relative)]
        for file in names:
            if file.endswith(".java") and (here / file).is_symlink():
                skipped["symbolic link"] += 1
            elif file.endswith(".java"):
                files.setdefault(root, []).append(PurePosixPath(relative / file))


def _ignored(folder: str, parent: Path) -> bool:
    # Below src a folder called "build" or "target" is a package, not an output folder.
    return folder.startswith(".") or (folder in _BUILD_FOLDERS and "src" not in parent.parts)


def _repository(root: Path, files: list[PurePosixPath], name: str | None) -> Repository:
    tests = tuple(file for file in files if is_test(file))
    main = tuple(file for file in files if not is_test(file))
    if any("src/main/" in str(file) for file in main):
        # In a Maven or Gradle layout, Java beside the src folders is samples and stand-ins.
        main = tuple(file for file in main if "src" in file.parts)
    return Repository(name or _remote_name(root) or root.name, root, main, tests)


def is_test(file: PurePosixPath) -> bool:
    """Whether a file's folder or name says that it holds tests."""
    if "src/main/" in str(file):
        return False
    return bool(_TEST_FOLDERS.intersection(file.parts[:-1]) or _TEST_FILE.fullmatch(file.stem))


def _remote_name(root: Path) -> str | None:
    """``owner/name`` of the remote called origin, read from the repository's own configuration."""
    config = root / ".git" / "config"
    if not config.is_file():
        return None
    remote = _REMOTE.search(config.read_text(errors="replace"))
    parts = re.split(r"[/:]", remote[1].removesuffix("/").removesuffix(".git")) if remote else []
    return "/".join(parts[-2:]) if len(parts) > 1 else None
