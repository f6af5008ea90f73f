"""Mining: Java repositories with JUnit tests become rows of focal method, test, and assertion."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from kdstore.schema import Record
from kdstore.sources import SOURCES, Located, Rejected
from kdstore.sources import _java_syntax as syntax
from kdstore.sources._java_files import MAX_FILE_BYTES, Repository, find_repositories
from kdstore.sources._java_focal import Focal, find_focals
from kdstore.sources._java_index import MainIndex
from kdstore.sources._java_tests import Assertion, TestMethod, test_methods


@dataclass
class MineReport:
    """What mining saw, kept, and skipped by reason."""

    files: int = 0
    test_methods: int = 0
    assertions: int = 0
    rows: int = 0
    matches: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)


@SOURCES.register("java_repo")
def read(path: Path) -> Iterator[Located | Rejected]:
    """Mine the repositories in a directory; what cannot be used is skipped, as in `mine`.

    Raises
    ------
    InputError
        The path is not a directory that can be listed.
    """
    report = MineReport()
    for repository in find_repositories([path], None, report.skipped):
        for row in mine(repository, report):
            yield Located(row, f"{row['path']}:{row['line']}")


def mine(repository: Repository, report: MineReport, on_file: Callable[[], None] = lambda: None) -> Iterator[Record]:
    """Yield one row per assertion whose focal method is found, in the order of paths and lines.

    ``report`` is counted up while rows are taken; ``on_file`` is called after each file. Memory holds the
    main sources' methods and one test file.
    """
    index = MainIndex()
    for path in repository.main:
        if source := _source(repository, path, report):
            report.skipped += index.add(source, str(path))
        on_file()
    for path in repository.tests:
        if source := _source(repository, path, report):
            yield from _rows(source, str(path), repository.name, index, report)
        on_file()


def _source(repository: Repository, path: PurePosixPath, report: MineReport) -> bytes | None:
    """The text of a file as UTF-8 bytes with Unix line ends, or None where it must be skipped."""
    report.files += 1
    file = repository.root / path
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            report.skipped[f"file larger than {MAX_FILE_BYTES >> 20} MiB"] += 1
            return None
        return file.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").encode()
    except UnicodeDecodeError:
        report.skipped["file is not UTF-8"] += 1
    except OSError:
        report.skipped["file cannot be read"] += 1
    return None


def _rows(source: bytes, path: str, repo: str, index: MainIndex, report: MineReport) -> Iterator[Record]:
    root = syntax.parse(source)
    for test in test_methods(root, syntax.scope_of(root, path)):
        report.test_methods += 1
        if test.node.has_error:
            report.skipped["syntax error in a test"] += 1
            continue
        if not test.assertions:
            report.skipped["test without assertion"] += 1
        for assertion, focal in find_focals(test, index):
            report.assertions += 1
            if focal is None:
                report.skipped["no focal method found"] += 1
                continue
            report.rows += 1
            report.matches[focal.match] += 1
            report.kinds[assertion.call.name] += 1
            yield _row(source, repo, test, assertion, focal)


def _row(source: bytes, repo: str, test: TestMethod, assertion: Assertion, focal: Focal) -> Record:
    statement = assertion.statement
    return {
        "focal_method": focal.method.text,
        "test_method": syntax.dedented(source, test.node, statement.start_byte),
        "assertion": _one_line(syntax.dedented(source, statement, statement.end_byte)),
        "repo": repo,
        "path": test.scope.path,
        "line": statement.start_point.row + 1,
        "test_class": syntax.name_of(test.classes[-1]),
        "test_name": test.name,
        "focal_class": focal.method.owner,
        "focal_name": focal.method.name,
        "focal_path": focal.method.path,
        "assert_type": assertion.call.name,
        "assert_index": assertion.index,
        "n_asserts": len(test.assertions),
        "match": focal.match,
        "overload_sure": focal.sure,
    }


def _one_line(statement: str) -> str:
    # Joined lines would change a text block, and would end a statement at its first line comment.
    if '"""' in statement or "//" in statement:
        return statement
    return re.sub(r"\s*\n\s*", " ", statement)
