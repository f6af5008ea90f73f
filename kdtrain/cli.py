"""Entry point of the ``kdtrain`` program; the commands are the files of ``kdtrain/commands/``."""

import click

from kdstore.console import CommandFolder


@click.group(
    name="kdtrain",
    cls=CommandFolder,
    folder="kdtrain.commands",
    # Options can be spelled with underscores, as the predecessor's were.
    context_settings={"token_normalize_func": lambda name: name.replace("_", "-")},
)
@click.version_option(package_name="kdstore", prog_name="kdtrain")
def main() -> None:
    """Train teachers and students.

    \b
    Example:
        kdtrain teacher rows.jsonl --output-dir teacher/ --from-scratch tiny
        kdtrain student train.kd --val val.kd --output-dir results/run
    """
