"""Stop builds and appends at random moments, and see that nothing is lost.

After every stop a directory opens as a store and verifies, or says that it is unfinished. The same command, run
again, ends with the bytes of a run that nobody stopped.
"""

import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import click

from kdstore.console import note, print_json, progress
from kdstore.errors import CorruptStoreError, EmptyInputError, StoreError

# The number of threads is part of a store's settings. Set before any process imports torch.
os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
# One process has all this imported, and every run is a fork of it: a round takes about two seconds.
_FORKS = multiprocessing.get_context("forkserver")
_PRELOAD = [
    "kdstore.cli", "kdstore.codecs.lowrank", "kdstore.commands.append", "kdstore.commands.build",
    "kdstore.encode.append", "kdstore.encode.build", "kdstore.sources.jsonl", "kdstore.store.containers.zarr",
    "kdstore.tasks.java_assertion", "transformers.models.t5.modeling_t5",
]  # fmt: skip
_ROWS, _ADDED, _PART_ROWS = 32, 12, 4  # eight parts, and three more
_EXIT_CODES = {"KILL": -signal.SIGKILL, "INT": 130, "TERM": 128 + signal.SIGTERM}
_CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_LEFTOVERS = (".build.*", ".build/staging/*", ".build/*-????????*", "**/.*.????????")
_POLL_S = 0.01
_ONE_OF_MANY = 0.3  # share of the rounds that stop one writer while the others go on
_AGAIN = 0.25  # share of the stops after which the next run is stopped too


@dataclass(frozen=True)
class Scenario:
    """A command that ``writers`` processes share, which writes ``stores`` below a directory.

    ``before`` is what lies in the directory when it starts, ``after`` what it ends with: paths and checksums. Run by
    nobody's leave, it takes ``seconds``, and changes the file system in these ``steps``, by process.
    """

    name: str
    writers: int
    command: tuple[str, ...]
    stores: tuple[str, ...]
    before: Path | None
    after: dict[str, str]
    steps: list[list[str]]
    seconds: float
    done: int = 0
    """Exit code where all was written before the process was stopped; `compare` sees whether that is so."""


@dataclass(frozen=True)
class Moment:
    """When to stop: after ``seconds``, or where ``share`` is about to change the file system for the nth time."""

    seconds: float | None = None
    share: int = 0
    step: int = 0


@dataclass
class Tally:
    """What happened to a scenario; ``found`` counts what its stores were after a stop."""

    scenario: str
    stops: int = 0
    of_one_writer: int = 0
    at_a_step: int = 0
    of_a_later_run: int = 0
    rounds: int = 0
    found: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0


@click.command()
@click.option("--kills", default=100, show_default=True, type=click.IntRange(1), help="Stops of each scenario.")
@click.option("--writers", default="1,2,4", show_default=True, help="Builds by so many processes at once.")
@click.option("--append/--no-append", default=True, show_default=True, help="Stop appends too.")
@click.option("--signal", "how", default="KILL", show_default=True, type=click.Choice(sorted(_EXIT_CODES)))
@click.option("--seed", default=0, show_default=True)
@click.option("--dir", "home", type=click.Path(path_type=Path, file_okay=False), help="Where to work.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write the counts here.")
def main(kills: int, writers: str, append: bool, how: str, seed: int, home: Path | None, out: Path | None) -> None:
    """Stop real builds of a tiny teacher, and say what became of them; exit with 1 if anything was lost.

    \b
    Example:
        python tools/crash.py --kills 100 --writers 1,2,4 --seed 7 --json crash.json
    """
    _FORKS.set_forkserver_preload(_PRELOAD)
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="kdstore-crash-", dir=home) as directory:
        base = Path(directory)
        make_inputs(base)
        scenarios = [build_scenario(base, int(count)) for count in writers.split(",") if count]
        scenarios += [append_scenario(base)] if append else []
        tallies = [run(base, one, kills, how, rng) for one in scenarios]
    records = [vars(tally) | {"signal": how, "seed": seed, "seconds": round(tally.seconds, 1)} for tally in tallies]
    print_json(records)
    if out:
        out.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    raise SystemExit(any(tally.failures for tally in tallies))


def make_inputs(base: Path) -> None:
    """A random T5 of some thousand weights, its tokenizer, and two files of rows."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    from kdtrain.models.tokenizer import train

    rows = [
        {
            "focal_method": f"public int get{index}() {{ return values[{index % 31}]; }}",
            "test_method": f"@Test void test{index}() {{ Box box = new Box({index * 7 % 50}); " * (1 + index % 3),
            "assertion": f"assertEquals({index % 9}, box.get{index}());",
            "repo": "acme/box",
            "path": f"src/test/java/Box{index % 8}Test.java",
            "line": index,
        }
        for index in range(_ROWS + _ADDED)
    ]
    for name, part in (("rows", rows[:_ROWS]), ("added", rows[_ROWS:])):
        (base / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
    tokenizer = train([row["test_method"] + row["assertion"] for row in rows], vocab_size=300)
    tokenizer.save_pretrained(base / "teacher")
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    T5ForConditionalGeneration(config).save_pretrained(base / "teacher")


def build_scenario(base: Path, writers: int) -> Scenario:
    """A build of a training and a validation store; what one process writes is what several must come to."""
    command = (
        "build", str(base / "rows.jsonl"), "--teacher", str(base / "teacher"), "--out", "train.kd",
        "--val-out", "val.kd", "--val-fraction", "0.25", "--part-rows", str(_PART_ROWS),
        "--block-rows", str(_PART_ROWS), "--no-teacher-prediction", "--fit-positions", "256",
        "--fidelity-positions", "128",
    )  # fmt: skip
    return uninterrupted(base, f"build, {writers} at once", writers, command, None)


def append_scenario(base: Path) -> Scenario:
    """An append to the training store of an uninterrupted build."""
    home, build = fresh(base / "before", None), build_scenario(base, 1)
    complete(home, [start(home, build.command)])
    one = uninterrupted(base, "append", 1, ("append", "train.kd", str(base / "added.jsonl")), home)
    return replace(one, done=EmptyInputError.exit_code)


def uninterrupted(base: Path, name: str, writers: int, command: tuple[str, ...], before: Path | None) -> Scenario:
    """A scenario, after it was run by one process, and by so many."""
    stores = ("train.kd", "val.kd")
    homes = [fresh(base / kind, before) for kind in ("alone", "together")]
    complete(homes[0], [start(homes[0], command)])
    began = time.monotonic()
    complete(homes[1], [start(homes[1], shared(command, share, writers)) for share in range(writers)])
    seconds = time.monotonic() - began
    steps = [json.loads((homes[1] / f"steps-{share}.json").read_text()) for share in range(writers)]
    one = Scenario(name, writers, command, stores, before, contents(homes[0], stores), steps, seconds)
    compare(homes[1], one)
    return one


def run(base: Path, one: Scenario, kills: int, how: str, rng: random.Random) -> Tally:
    """Rounds of stops and completions, until there were so many stops."""
    tally, began = Tally(one.name), time.monotonic()
    with progress(one.name, kills) as bar:
        while tally.stops < kills and not tally.failures:
            before = tally.stops
            home = fresh(base / "round", one.before)
            try:
                stop_and_complete(home, one, how, rng, tally)
            except (AssertionError, CorruptStoreError) as failure:
                kept = Path(tempfile.mkdtemp(prefix="kdstore-crash-failed-"))
                shutil.copytree(home, kept, dirs_exist_ok=True)
                tally.failures.append(f"{failure} See {kept}.")
                note(tally.failures[-1])
            tally.rounds += 1
            bar.advance(tally.stops - before)
    tally.seconds = time.monotonic() - began
    return tally


def stop_and_complete(home: Path, one: Scenario, how: str, rng: random.Random, tally: Tally) -> None:
    """One round; raises `AssertionError` or `CorruptStoreError` where something is lost."""
    alone = one.writers > 1 and rng.random() < _ONE_OF_MANY
    chosen = [rng.randrange(one.writers)] if alone else list(range(one.writers))
    commands = [shared(one.command, share, one.writers) for share in range(one.writers)]
    running = {share: start(home, commands[share]) for share in set(range(one.writers)) - set(chosen)}
    again = False
    while True:
        for path in home.glob("ready-*"):
            path.unlink()
        moment = draw(one, chosen, rng)
        for share in chosen:
            at = (moment.step, how) if moment.seconds is None and moment.share == share else None
            running[share] = start(home, commands[share], at)
        if not stop([running[share] for share in chosen], moment, how, home):
            break
        tally.stops += 1
        tally.of_one_writer += alone
        tally.at_a_step += moment.seconds is None
        tally.of_a_later_run += again
        check(home, one, tally)
        if how != "KILL" and not alone:
            check_tidy(home, one)
        again = rng.random() < _AGAIN
        if not again:
            running |= {share: start(home, commands[share]) for share in chosen}
            break
    complete(home, list(running.values()), one.done)
    compare(home, one)


def draw(one: Scenario, chosen: Sequence[int], rng: random.Random) -> Moment:
    """A moment anywhere in the run: by time, by change of the file system, or by rename."""
    kind = rng.choice(["time", "change", "rename"])
    if kind == "time":
        return Moment(seconds=rng.uniform(0, one.seconds))
    share = rng.choice(chosen)
    steps = [step for step, name in enumerate(one.steps[share]) if name == "os.rename" or kind == "change"]
    return Moment(share=share, step=rng.choice(steps))


def stop(processes: Sequence[BaseProcess], moment: Moment, how: str, home: Path) -> bool:
    """Stop processes together at a moment; False when all had ended before it."""
    if moment.seconds is None:
        while not any(process.exitcode for process in processes) and any(p.is_alive() for p in processes):
            wait([process.sentinel for process in processes if process.is_alive()])
    else:
        while how != "KILL" and len(list(home.glob("ready-*"))) < len(processes):
            time.sleep(_POLL_S)  # before that no command has begun that could react
        wait([process.sentinel for process in processes], moment.seconds + _POLL_S)
    for process in processes:
        if process.is_alive():
            os.kill(process.pid or 0, getattr(signal, f"SIG{how}"))
    for process in processes:
        process.join()
    codes = {process.exitcode for process in processes}
    assert codes <= {0, _EXIT_CODES[how]}, f"Expected exit code {_EXIT_CODES[how]}. Got {codes}: {said(home)}"
    return codes != {0}


def check(home: Path, one: Scenario, tally: Tally) -> None:
    """Check that every store of the scenario is one that verifies, or says that it is none yet."""
    from kdstore.store.verify import verify

    for name in one.stores:
        try:
            report = verify(home / name, advance=lambda rows: None)
        except CorruptStoreError:
            raise
        except StoreError:
            assert one.before is None, f"Expected {name} to stay readable during an append."
            tally.found["unfinished" if (home / name / ".build/head.json").is_file() else "not begun"] += 1
        else:
            assert not report.problems, f"Expected a store that verifies. Got {report.problems}."
            left = any((home / name).glob(".build*"))
            tally.found[f"a store of {report.rows} rows{' with .build' if left else ''}"] += 1


def check_tidy(home: Path, one: Scenario) -> None:
    """Check that a command that could react to its signal has left nothing temporary, and no process."""
    left = [str(path) for name in one.stores for pattern in _LEFTOVERS for path in (home / name).glob(pattern)]
    left += map(str, (home / "tmp").iterdir())
    assert not left, f"Expected nothing temporary after a stop. Got {left}."
    links = (path for path in Path("/proc").glob("[0-9]*/cwd") if path.owner() == Path("/proc/self").owner())
    there = [str(path) for path in links if os.path.realpath(path) == str(home.resolve())]
    assert not there, f"Expected no process after a stop. Got {there}."


def complete(home: Path, processes: Sequence[BaseProcess], done: int = 0) -> None:
    """Wait for processes that must end well, or with the code that says that all is ``done``."""
    for process in processes:
        process.join()
    codes = [process.exitcode for process in processes]
    assert set(codes) <= {0, done}, f"Expected the command to end well. Got exit codes {codes}: {said(home)}"


def compare(home: Path, one: Scenario) -> None:
    """Check that every file, directory and byte is that of one process that nobody stopped."""
    odd = sorted(path for path, _ in set(contents(home, one.stores).items()) ^ set(one.after.items()))
    assert not odd, f"Expected the bytes of an uninterrupted run. Got other ones at {odd[:9]}."


def shared(command: tuple[str, ...], share: int, writers: int) -> tuple[str, ...]:
    """The command of one of several writers."""
    return (*command, "--share", f"{share}/{writers}") if writers > 1 else command


def start(home: Path, command: Sequence[str], stop_at: tuple[int, str] | None = None) -> BaseProcess:
    """A process that runs ``kdstore`` in ``home``, and sends itself a signal at a step where asked to."""
    process = _FORKS.Process(target=_kdstore, args=(home, tuple(command), stop_at))
    process.start()
    return process


def _kdstore(home: Path, command: tuple[str, ...], stop_at: tuple[int, str] | None) -> None:
    from kdstore.cli import main as kdstore

    # A shell ignores it in what it starts in the background, and so would this process.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(home)
    tempfile.tempdir = str(home / "tmp")
    log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    share = command[-1].partition("/")[0] if "--share" in command else "0"
    steps: list[str] = []

    def count(event: str, args: tuple[Any, ...]) -> None:
        if not (event in _CHANGES or (event == "open" and args[2] & _WRITING)) or not isinstance(args[0], str | Path):
            return
        if Path(args[0]).is_absolute() and not Path(args[0]).is_relative_to(home):
            return
        steps.append(event)
        if stop_at and len(steps) == stop_at[0] + 1:
            os.kill(os.getpid(), getattr(signal, f"SIG{stop_at[1]}"))

    Path(f"ready-{share}").touch()
    sys.addaudithook(count)
    try:
        kdstore(list(command))
    finally:
        stop_at = None
        Path(f"steps-{share}.json").write_text(json.dumps(steps), encoding="utf-8")


def said(home: Path) -> str:
    """The last errors that the processes in ``home`` have printed."""
    lines = (home / "log").read_text(encoding="utf-8", errors="replace").splitlines()
    return " | ".join([line for line in lines if "rror:" in line][-4:])


def fresh(home: Path, before: Path | None) -> Path:
    """``home`` as a directory with nothing in it but what is in ``before``."""
    shutil.rmtree(home, ignore_errors=True)
    if before:
        shutil.copytree(before, home)
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    return home


def contents(home: Path, stores: Sequence[str]) -> dict[str, str]:
    """Every path below the stores, hidden ones too, with the SHA-256 of files."""
    paths = (path for name in stores for path in (home / name).rglob("*"))
    return {
        str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in paths
    }


if __name__ == "__main__":
    main()
