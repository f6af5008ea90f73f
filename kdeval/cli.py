"""Entry point of the ``kdeval`` program; the commands are the files of ``kdeval/commands/``."""

import click

from kdstore.console import CommandFolder


@click.group(
    name="kdeval",
    cls=CommandFolder,
    folder="kdeval.commands",
    # Options can be spelled with underscores, as the predecessor's were.
    context_settings={"token_normalize_func": lambda name: name.replace("_", "-")},
)
@click.version_option(package_name="kdstore", prog_name="kdeval")
def main() -> None:
    """Measure models and write reports.

    \b
    Example:
        kdeval run results/run/final_model --data val.kd --into results/run
        kdeval compare results/baseline results/run
        kdeval report results/run --out report.html
    """
