"""The option ``--plot`` of commands that measure fidelity."""

from pathlib import Path

import click

from kdstore.errors import UsageError


def _check(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    # Before anything is computed that may take minutes.
    if value is not None and (value.suffix != ".png" or not value.parent.is_dir()):
        raise UsageError(f"Expected --plot to name a .png file in a directory that exists. Got {value}.")
    return value


plot_option = click.option(
    "--plot", type=click.Path(path_type=Path), callback=_check, metavar="FILE.png",
    help="Draw angles against bytes per token here.",
)  # fmt: skip
