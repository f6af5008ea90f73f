"""``kdstore verify``."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kdstore.console import note, print_json, progress, stdout
from kdstore.errors import CorruptStoreError, MismatchError, UsageError

if TYPE_CHECKING:
    from kdstore.store.verify import VerifyReport


def _share(ctx: click.Context, option: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    number, percent = text.removesuffix("%"), text.endswith("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise click.BadParameter(f"Expected a share such as 1% or 0.01. Got {text!r}.")
    return share


@click.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--quick", is_flag=True, help="Check sizes and checksums of all files; decode nothing.")
@click.option(
    "--sample", callback=_share, metavar="SHARE", help="Read only this share of the blocks, such as 1%, drawn anew."
)
@click.option("--deep", is_flag=True, help="Also tokenize and decode a few rows of every part again.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def verify(store: Path, quick: bool, sample: float | None, deep: bool, as_json: bool) -> None:
    """Check that STORE is whole and unchanged.

    Checks the manifest, every file's size and checksum, decodes every chunk, and checks that the values make
    sense: ids within the vocabulary, text in UTF-8, every row id once. Exit code 6 when anything is wrong.

    --quick reads all files and decodes nothing. --sample reads a few blocks of a large store, and of the other files
    only their sizes: run often, it finds damage sooner or later.

    With --deep also checks that what is stored belongs together: the template is the task's, texts give the tokens,
    and signals give the labels their log-probabilities. Exit code 4 when they do not; the first row and position
    that differ are named. What cannot be known of a store is said.

    \b
    Example:
        kdstore verify train.kd
        kdstore verify --quick train.kd
        kdstore verify --sample 1% train.kd
        kdstore verify --deep train.kd
    """
    from kdstore.store.reader import Store
    from kdstore.store.verify import verify as verify_store

    if quick + deep + (sample is not None) > 1:
        raise UsageError("Expected one of --quick, --sample and --deep. Got several. Leave all but one out.")
    with progress(f"{store.name}: verifying", Store(store).rows) as bar:
        report = verify_store(store, quick=quick, sample=sample, advance=bar.advance)
    if report.problems:
        _print_json(report, as_json)
        for problem in report.problems[1:]:
            click.echo(problem, err=True)
        more = len(report.problems) - 1
        raise CorruptStoreError(report.problems[0] + (f" And {more} more problems, listed above." if more else ""))
    if deep:
        _verify_deep(store, report, as_json)
    _print_json(report, as_json)
    if report.lost:
        note(
            f"{report.lost_rows:,} rows are lost with parts {', '.join(map(str, report.lost))}, which were put away. "
            "Make them again: kdstore repair --rows ROWS."
        )
    for reason in report.not_checked:
        note(f"not checked: {reason}")
    if not as_json:
        if quick:
            checked = "sizes and checksums"
        elif sample is not None:
            checked = f"{sample:.3g} of all blocks"
        else:
            checked = f"every chunk{', and a few rows of every part' if deep else ''}"
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
        report.not_checked += check_alignment(store, [ref.index for ref in store.manifest.parts])
    except MismatchError as error:
        report.problems.append(str(error))
        _print_json(report, as_json)
        raise


def _print_json(report: "VerifyReport", as_json: bool) -> None:
    if as_json:
        print_json({**asdict(report), "path": str(report.path), "ok": not report.problems})
