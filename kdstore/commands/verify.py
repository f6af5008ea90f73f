"""``kdstore verify``."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kdstore.console import note, print_json, progress, stdout
from kdstore.errors import CorruptStoreError, MismatchError, UsageError

if TYPE_CHECKING:
    from kdstore.store.verify import VerifyReport


@click.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--quick", is_flag=True, help="Check sizes and checksums of all files; decode nothing.")
@click.option("--deep", is_flag=True, help="Also tokenize and decode a few rows of every part again.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def verify(store: Path, quick: bool, deep: bool, as_json: bool) -> None:
    """Check that STORE is whole and unchanged.

    Checks the manifest, every file's size and checksum, decodes every chunk, and checks that the values make
    sense: ids within the vocabulary, text in UTF-8, every row id once. Exit code 6 when anything is wrong.

    With --deep also checks that what is stored belongs together: the template is the task's, texts give the tokens,
    and signals give the labels their log-probabilities. Exit code 4 when they do not; the first row and position
    that differ are named. What cannot be known of a store is said.

    \b
    Example:
        kdstore verify train.kd
        kdstore verify --quick train.kd
        kdstore verify --deep train.kd
    """
    from kdstore.store.reader import Store
    from kdstore.store.verify import verify as verify_store

    if quick and deep:
        raise UsageError("Expected --quick or --deep. Got both. Leave one out.")
    with progress(f"{store.name}: verifying", Store(store).rows) as bar:
        report = verify_store(store, quick=quick, advance=bar.advance)
    if report.problems:
        _print_json(report, as_json)
        for problem in report.problems[1:]:
            click.echo(problem, err=True)
        more = len(report.problems) - 1
        raise CorruptStoreError(report.problems[0] + (f" And {more} more problems, listed above." if more else ""))
    if deep:
        _verify_deep(store, report, as_json)
    _print_json(report, as_json)
    for reason in report.not_checked:
        note(f"not checked: {reason}")
    if not as_json:
        checked = "sizes and checksums" if quick else f"every chunk{', and a few rows of every part' if deep else ''}"
        stdout.print(
            f"{store}: good. {report.rows:,} rows in {report.parts:,} parts, {report.files:,} files, "
            f"{report.bytes:,} bytes; {checked} checked."
        )


def _verify_deep(path: Path, report: "VerifyReport", as_json: bool) -> None:
    """Check what only the tokenizer and the codec know."""
    from kdstore.encode.alignment import check_alignment
    from kdstore.store.reader import Store

    store = Store(path)
    try:
        report.not_checked += check_alignment(store, range(report.parts))
    except MismatchError as error:
        report.problems.append(str(error))
        _print_json(report, as_json)
        raise


def _print_json(report: "VerifyReport", as_json: bool) -> None:
    if as_json:
        print_json({**asdict(report), "path": str(report.path), "ok": not report.problems})
