"""``kdstore verify``."""

from dataclasses import asdict
from pathlib import Path

import click

from kdstore.console import print_json, progress, stdout
from kdstore.errors import CorruptStoreError


@click.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--quick", is_flag=True, help="Check sizes and checksums of all files; decode nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def verify(store: Path, quick: bool, as_json: bool) -> None:
    """Check that STORE is whole and unchanged.

    Checks the manifest, every file's size and checksum, decodes every chunk, and checks that the values make
    sense: ids within the vocabulary, text in UTF-8, every row id once. Exit code 6 when anything is wrong.

    \b
    Example:
        kdstore verify train.kd
        kdstore verify --quick train.kd
    """
    from kdstore.store.reader import Store
    from kdstore.store.verify import verify as verify_store

    with progress(f"{store.name}: verifying", Store(store).rows) as bar:
        report = verify_store(store, quick=quick, advance=bar.advance)
    if as_json:
        print_json({**asdict(report), "path": str(report.path), "ok": not report.problems})
    for problem in report.problems[1:]:
        click.echo(problem, err=True)
    if report.problems:
        more = len(report.problems) - 1
        raise CorruptStoreError(report.problems[0] + (f" And {more} more problems, listed above." if more else ""))
    if not as_json:
        stdout.print(
            f"{store}: good. {report.rows:,} rows in {report.parts:,} parts, {report.files:,} files, "
            f"{report.bytes:,} bytes; {'sizes and checksums' if quick else 'every chunk'} checked."
        )
