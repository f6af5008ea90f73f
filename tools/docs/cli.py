"""Write docs/cli.md from the ``--help`` of every command."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import click
import marked

PROGRAMS = ("kdstore", "kdtrain", "kdeval")
PAGE = Path(__file__).resolve().parents[2] / "docs/cli.md"
WIDTH = 100
COMMAND = "python tools/docs/cli.py"

_TOP = f"""# Commands

Generated from the programs' own `--help` by `{COMMAND}`; do not edit.

Results go to standard output; progress, notes and errors to standard error. Every expected failure is one line and a
stable exit code: see [errors.md](errors.md).
"""


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 when the page is not up to date.")
def main(check: bool) -> None:
    """Write docs/cli.md from the --help of every command of kdstore, kdtrain and kdeval.

    \b
    Example:
        python tools/docs/cli.py
        python tools/docs/cli.py --check
    """
    marked.settle(PAGE, page(), COMMAND, check=check)
    if not check:
        click.echo(f"{PAGE.name}: {len(list(commands()))} commands")


def page() -> str:
    """The text of docs/cli.md."""
    sections = [_TOP]
    for path, command, context in commands():
        level = "##" if isinstance(command, click.Group) else "###"
        sections.append(f"{level} {path}\n\n```\n{help_text(command, context)}\n```\n")
    return "\n".join(sections)


def commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Every group and command of the programs: its full name, itself, and a context to ask it in."""
    for program in PROGRAMS:
        group: click.Command = importlib.import_module(f"{program}.cli").main
        yield from _walk(group, _context(group, program, None))


def help_text(command: click.Command, context: click.Context) -> str:
    """What ``--help`` prints, at a fixed width, without trailing space."""
    return "\n".join(line.rstrip() for line in command.get_help(context).splitlines())


def _walk(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command, click.Context]]:
    yield context.command_path, command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from _walk(below, _context(below, name, context))


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    return click.Context(command, info_name=name, parent=parent, terminal_width=WIDTH, max_content_width=WIDTH)


if __name__ == "__main__":
    main()
