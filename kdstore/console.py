"""What the command-line programs share: lazy command folders, one-line errors, progress bars.

Standard output carries results (tables, JSON); standard error carries progress, notes and errors.
"""

import errno
import importlib
import json
import pkgutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from keyword import iskeyword
from types import FrameType
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from kdstore.errors import KDError

# Into a pipe or a file there is no width to fit; tables are cut at 80 columns unless told so.
_PIPE_WIDTH = 160
_SECONDS_BETWEEN_LINES = 30
stdout = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
stderr = Console(highlight=False, stderr=True, width=None if sys.stderr.isatty() else _PIPE_WIDTH)

# What a user can mend: space, permissions, paths. Any other OSError is a bug and keeps its traceback.
_REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR}
_REFUSALS |= {errno.ENOENT, errno.EMFILE, errno.ENAMETOOLONG, errno.ELOOP}


class CommandFolder(click.Group):
    """A click group whose commands are the modules of a package.

    A module ``kdstore/commands/build.py`` holds a click command called ``build`` (dashes in a command's name
    are underscores in the file's; a name that Python reserves ends with one). Modules are imported when their
    command is asked for. A `KDError` ends the program with one line on stderr and the error's exit code; a wrong
    option ends it with one line and 2.
    """

    def __init__(self, *args: Any, folder: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.folder = folder

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Command names, from the file names."""
        path = importlib.import_module(self.folder).__path__
        names = (module.name for module in pkgutil.iter_modules(path) if not module.name.startswith("_"))
        return sorted(name.rstrip("_").replace("_", "-") for name in names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of one command; None when there is none."""
        if cmd_name not in self.list_commands(ctx):
            return None
        name = cmd_name.replace("-", "_") + "_" * iskeyword(cmd_name)
        command = getattr(importlib.import_module(f"{self.folder}.{name}"), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments begin with; a misspelt one gets a hint."""
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            near = get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"Expected a command of {self.name}. Got {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run the program and exit with a stable code."""
        signal.signal(signal.SIGTERM, _terminate)
        try:
            result = super().main(*args, **{**kwargs, "standalone_mode": False})
        except KDError as error:
            self._fail(str(error), error.exit_code)
        except click.exceptions.NoArgsIsHelpError as error:
            # The message is the whole help: worth more than one line.
            click.echo(error.format_message(), err=True)
            sys.exit(error.exit_code)
        except click.ClickException as error:
            self._fail(f"{error.format_message()} Run with --help to see what is expected.", error.exit_code)
        except OSError as error:
            if error.errno not in _REFUSALS:
                raise
            where = f": {error.filename}" if error.filename else ""
            self._fail(f"the operating system refused: {error.strerror}{where}.", 1)
        except SystemExit as stop:
            if stop.code == 128 + signal.SIGTERM:
                self._fail("stopped by SIGTERM; what was complete is kept.", 128 + signal.SIGTERM)
            raise
        except (KeyboardInterrupt, click.Abort):
            self._fail("stopped by Ctrl-C; what was complete is kept.", 130)
        # With standalone mode off, click returns the code of `ctx.exit(code)` (0 after --help).
        sys.exit(result if isinstance(result, int) else 0)

    def _fail(self, message: str, code: int) -> NoReturn:
        click.echo(f"{self.name}: error: {' '.join(message.split())}", err=True)
        sys.exit(code)


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    # An exception, so that `finally` clauses remove staged files and stop workers.
    raise SystemExit(128 + signum)


def print_json(value: Any) -> None:
    """Print ``value`` as indented JSON on standard output, for scripts."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def note(message: str) -> None:
    """Tell the user something that is neither a result nor an error, on stderr."""
    stderr.print(message, markup=False)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.completed / task.elapsed:,.1f}/s" if task.elapsed else "")


@contextmanager
def progress(description: str, total: int | None) -> Iterator["Bar"]:
    """Show a progress bar with rate and remaining time on stderr while the block runs.

    Where stderr is not a terminal, a line tells of the progress twice a minute, and the finished bar is shown.
    """
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=stderr,
    )
    with bar:
        yield Bar(bar, bar.add_task(description, total=total))


class Bar:
    """One line of progress."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._id = task
        self._told = time.monotonic()

    def advance(self, steps: int = 1) -> None:
        """Count ``steps`` more as done."""
        self._progress.advance(self._id, steps)
        if not stderr.is_terminal and time.monotonic() - self._told > _SECONDS_BETWEEN_LINES:
            self._told = time.monotonic()
            task = self._progress.tasks[0]
            total = "?" if task.total is None else f"{task.total:,.0f}"
            left = "" if task.time_remaining is None else f", {task.time_remaining:,.0f} s left"
            note(f"{task.description}: {task.completed:,.0f}/{total}, {task.elapsed or 0:,.0f} s{left}")

    def describe(self, description: str) -> None:
        """Change the text before the bar."""
        self._progress.update(self._id, description=description)
