"""Entry point of the ``kdstore`` program; the commands are the files of ``kdstore/commands/``."""

import click

from kdstore.console import CommandFolder


@click.group(name="kdstore", cls=CommandFolder, folder="kdstore.commands")
@click.version_option(package_name="kdstore", prog_name="kdstore")
def main() -> None:
    """Build, inspect and check stores of teacher signals.

    \b
    Example:
        kdstore mine path/to/java/repo --out rows.jsonl
        kdstore build rows.jsonl --teacher teacher/ --out train.kd --val-out val.kd
        kdstore verify train.kd
    """
