"""Programs end with a stable code and at most one line about it, whatever happens."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest

from kdstore import errors
from kdstore.console import CommandFolder
from kdstore.errors import KDError

from ..small_store import Written, write_store

PROGRAMS = ("kdstore", "kdtrain", "kdeval")
KINDS = sorted((k for k in vars(errors).values() if isinstance(k, type)), key=lambda kind: kind.__name__)

FAILS = """
import click
from kdstore import errors

@click.command()
@click.argument("kind")
@click.option("--times", type=click.IntRange(1, 3))
def fail_so(kind, times):
    \"\"\"Raise an error of ours, or of the operating system by its number.\"\"\"
    if kind.isdigit():
        raise OSError(int(kind), "refused so", "/some/file")
    if kind == "bug":
        raise ZeroDivisionError("a bug")
    raise getattr(errors, kind)("Expected one.\\n  Got two.")
"""
WAITS = """
import click, sys

@click.command()
def wait():
    \"\"\"Say that it is ready, then wait for input.\"\"\"
    try:
        print("ready", flush=True)
        sys.stdin.read()
    finally:
        print("cleaned", flush=True)
"""
# A program of one folder of commands, as kdstore.cli is.
PROGRAM = """
import sys, click
from kdstore.console import CommandFolder
sys.path.insert(0, sys.argv.pop(1))

@click.group(name="prog", cls=CommandFolder, folder="prog_commands")
def main():
    \"\"\"A program.\"\"\"

main()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory that holds a package of two commands."""
    package = tmp_path / "prog_commands"
    package.mkdir()
    for name, text in {"__init__": "", "_private": "1 / 0", "fail_so": FAILS, "wait": WAITS}.items():
        (package / f"{name}.py").write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def program(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandFolder]:
    """A program over these commands, in this process."""
    monkeypatch.syspath_prepend(folder)
    before = signal.getsignal(signal.SIGTERM)
    yield CommandFolder(name="prog", folder="prog_commands")
    signal.signal(signal.SIGTERM, before)
    for name in [name for name in sys.modules if name.startswith("prog_commands")]:
        del sys.modules[name]


def run(program: click.Group, *args: str) -> int:
    """Exit code of the program."""
    with pytest.raises(SystemExit) as ended:
        program.main(list(args), prog_name="prog")
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_of_ours_is_one_line_and_its_code(
    program: CommandFolder, kind: type[KDError], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(program, "fail-so", kind.__name__) == kind.exit_code
    assert capsys.readouterr() == ("", "prog: error: Expected one. Got two.\n")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.ENOENT, errno.EROFS])
def test_what_the_operating_system_refuses_is_one_line(
    program: CommandFolder, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(program, "fail-so", str(number)) == 1
    assert capsys.readouterr() == ("", "prog: error: the operating system refused: refused so: /some/file.\n")


def test_a_bug_keeps_its_traceback(program: CommandFolder) -> None:
    with pytest.raises(ZeroDivisionError):
        program.main(["fail-so", "bug"])
    with pytest.raises(OSError, match="refused so"):
        program.main(["fail-so", str(errno.EIO)])


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["fail-so"], "Missing argument 'KIND'"),
        (["fail-so", "RowError", "--tims", "2"], "No such option '--tims'"),
        (["fail-so", "RowError", "--times", "9"], "9 is not in the range"),
        (["fail-so", "RowError", "more"], "unexpected extra argument"),
        (["no-such"], "Got 'no-such'"),
        (["-private"], "No such option"),
        (["_private"], "Got '_private'"),
        (["fail_so", "RowError"], "Got 'fail_so'"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_2(
    program: CommandFolder, args: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(program, *args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("prog: error: ")
    assert said in err
    assert err.endswith("Run with --help to see what is expected.\n")
    assert err.count("\n") == 1


def test_commands_are_the_files_of_the_folder(program: CommandFolder) -> None:
    context = click.Context(program)
    assert program.list_commands(context) == ["fail-so", "wait"]
    assert not [name for name in sys.modules if name.startswith("prog_commands.")], "listing imports no command"
    assert program.get_command(context, "wait") is not None


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("args", [["--help"], ["--version"]], ids=lambda args: args[0])
def test_help_and_version_exit_0(name: str, args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert run(import_module(f"{name}.cli").main, *args) == 0
    signal.signal(signal.SIGTERM, before)
    out, err = capsys.readouterr()
    assert out
    assert err == ""


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_without_a_command_prints_readable_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    code = run(import_module(f"{name}.cli").main)
    signal.signal(signal.SIGTERM, before)
    printed = "".join(capsys.readouterr())
    assert code in (0, 2)
    assert "\nCommands:\n" in printed, "help is not squeezed into one line"


def start(folder: Path) -> subprocess.Popen[str]:
    """A real process that is inside its command when this returns."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), "wait"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_command_that_is_not_disturbed_exits_0(folder: Path) -> None:
    with start(folder) as process:
        assert process.communicate(input="") == ("cleaned\n", "")
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("number", "code", "name"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")]
)
def test_a_signal_cleans_up_and_ends_with_its_code(folder: Path, number: int, code: int, name: str) -> None:
    with start(folder) as process:
        process.send_signal(number)
        out, err = process.communicate()
    assert process.returncode == code
    assert out == "cleaned\n", "finally clauses run"
    assert err.strip().splitlines() == [f"prog: error: stopped by {name}; what was complete is kept."]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A store to look at."""
    return write_store(tmp_path_factory.mktemp("store") / "a.kd")


def kdstore(*args: str) -> list[str]:
    return [sys.executable, "-c", "from kdstore.cli import main; main()", *args]


@pytest.mark.parametrize("args", ["inspect STORE", "inspect STORE --json", "verify --quick --json STORE", "--help"])
def test_nobody_reads_the_output(store: Written, args: str) -> None:
    read, write = os.pipe()
    os.close(read)  # every write now fails with EPIPE, for certain
    command = kdstore(*args.replace("STORE", str(store.root)).split())
    result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    assert "error" not in result.stderr.lower()


def test_head_of_inspect_in_a_shell(store: Written, tmp_path: Path) -> None:
    script = f'set -o pipefail; {sys.executable} -c "$1" inspect "$2" | head -1'
    result = subprocess.run(
        ["bash", "-c", script, "bash", "from kdstore.cli import main; main()", str(store.root)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert len(result.stdout.splitlines()) == 1
    assert result.stderr == ""
