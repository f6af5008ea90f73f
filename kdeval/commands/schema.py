"""``kdeval schema``."""

import click

from kdstore.console import print_json
from kdstore.errors import UnknownNameError


@click.command()
@click.argument("file", required=False)
def schema(file: str | None) -> None:
    """Print the schema of a file that `kdeval run` writes, or of all of them by name.

    JSON Schema for JSON and JSON Lines (of each line), Table Schema for the table.

    \b
    Example:
        kdeval schema
        kdeval schema evaluation_metrics.json
    """
    from kdeval.schemas import schemas

    found = schemas()
    if file is not None and file not in found:
        raise UnknownNameError(f"Expected one of {', '.join(found)}. Got {file!r}.")
    print_json(found if file is None else found[file])
