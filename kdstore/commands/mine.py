"""``kdstore mine``: Java repositories to rows."""

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import click
from rich.table import Table

from kdstore import console
from kdstore.errors import EmptyInputError, UsageError
from kdstore.store import atomic

if TYPE_CHECKING:
    from kdstore.sources.java_repo import MineReport

_SUFFIXES = (".jsonl", ".jsonl.gz", ".json.gz")
_SHOWN_KINDS = 12


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="File of rows to write: .jsonl or .jsonl.gz."
)
@click.option("--repo", help="Name of the repository in the rows; default: its git remote, else its directory.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def mine(paths: tuple[Path, ...], out: Path, repo: str | None, as_json: bool) -> None:
    """Turn Java repositories with JUnit tests into rows.

    A row is one assertion: the focal method it is about, the test up to it, and the assertion itself. PATH is a
    repository, or a directory of several. How the focal method was found stands under "match":

    \b
        A:receiver      a call on a value, field or class of the main sources
        A:constructor   the construction of such a class, where no method is called
        B:test-class    a method of the class that the test class is named after
        C:unique-name   a method name that occurs once in the main sources

    Assertions without a focal method, and files that cannot be used, are counted by reason. The file of rows
    appears when it is complete; an existing one is replaced.

    \b
    Example:
        kdstore mine path/to/commons-lang --out rows.jsonl.gz
        kdstore mine examples/java --out rows.jsonl --repo kdexamples/java --json
    """
    from kdstore.sources._java_files import find_repositories
    from kdstore.sources.java_repo import MineReport
    from kdstore.sources.java_repo import mine as mine_repository

    if not out.name.endswith(_SUFFIXES):
        raise UsageError(f"Expected --out to end in {', '.join(_SUFFIXES)}. Got {out}. Rename it.")
    report = MineReport()
    repositories = find_repositories(paths, repo, report.skipped)
    total = sum(len(repository.main) + len(repository.tests) for repository in repositories)
    with _writing(out) as stream, console.progress("mine", total) as bar:
        for repository in repositories:
            for row in mine_repository(repository, report, bar.advance):
                stream.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        if not report.rows:
            raise EmptyInputError(_nothing(report))
    if as_json:
        console.print_json(vars(report) | {"out": str(out)})
    else:
        console.stdout.print(_table(report))
        console.note(f"{report.rows:,} rows in {out}")


@contextmanager
def _writing(path: Path) -> Iterator[IO[bytes]]:
    """Write ``path`` as a whole or not at all; gzip by its suffix, with the same bytes for the same rows."""
    with atomic.replacing(path) as staged, staged.open("wb") as raw:
        if path.suffix == ".gz":
            with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
                yield cast(IO[bytes], packed)
        else:
            yield raw


def _nothing(report: "MineReport") -> str:
    seen = (
        f"{report.files} Java files with {report.test_methods} tests and {report.assertions} assertions"
        if report.files
        else "no Java file"
    )
    skipped = ", ".join(f"{reason}: {count}" for reason, count in report.skipped.most_common())
    seen += f" (skipped: {skipped})" if skipped else ""
    return (
        f"Expected assertions whose focal method is found. Got none in {seen}. "
        "Name a directory that holds main sources and JUnit tests."
    )


def _table(report: "MineReport") -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column()
    table.add_column(justify="right")
    for name in ("files", "test_methods", "assertions", "rows"):
        table.add_row(name.replace("_", " "), "", f"{getattr(report, name):,}")
    for title, counts in (("match", report.matches), ("assertion", report.kinds), ("skipped", report.skipped)):
        for name, count in counts.most_common(_SHOWN_KINDS):
            table.add_row(title, name, f"{count:,}")
        if rest := counts.total() - sum(count for _, count in counts.most_common(_SHOWN_KINDS)):
            table.add_row(title, "other", f"{rest:,}")
    return table
