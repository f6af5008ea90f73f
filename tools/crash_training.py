"""Stop a training run at random steps, again and again, and see that its curve is that of a run nobody stopped."""

import csv
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import click

from kdstore.console import note, print_json
from kdtrain.logs.columns import GRADIENTS_FILE, METRICS_FILE, STEP_FILE

# The number of threads decides the last bits. Set before any process imports torch.
os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
# One process has all this imported, and every run is a fork of it: a start takes about a second.
_FORKS = multiprocessing.get_context("forkserver")
_PRELOAD = ["kdtrain.cli", "kdtrain.commands.student", "kdtrain.run", "transformers.models.t5.modeling_t5"]
_EXIT_CODES = {"KILL": -signal.SIGKILL, "INT": 130, "TERM": 128 + signal.SIGTERM, "USR1": 75}
_TIMED = {
    "timestamp", "tokens_per_second", "data_wait", "memory_usage_mb", "elapsed_time_seconds", "sampling_seconds",
    "validation_seconds", "metrics_seconds", "gpu_memory_mb", "gpu_util",
}  # fmt: skip
_POLL_S = 0.001


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("store", type=click.Path(path_type=Path, exists=True))
@click.option("--val", type=click.Path(path_type=Path, exists=True), required=True, help="Validation store.")
@click.option("--kills", default=20, show_default=True, help="How often the run is stopped.")
@click.option(
    "--signals", default="KILL", show_default=True, help="Drawn from these, with commas between: KILL INT TERM USR1."
)
@click.option("--seed", default=0, show_default=True, help="Of the steps and signals.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write the record to this file.")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def main(
    store: Path, val: Path, kills: int, signals: str, seed: int, out: Path | None, options: tuple[str, ...]
) -> None:
    """Train on STORE with the OPTIONS of `kdtrain student`, stop it at random steps, and compare with a whole run.

    After every stop the same command runs again with --resume auto. Compared are all columns of all tables but times
    and memory, and the bytes of the final model. Ends with 1 where anything differs.

    \b
    Example:
        python tools/crash_training.py train.kd --val val.kd --kills 20 --signals KILL,USR1 --from-scratch micro
    """
    names = signals.upper().split(",")
    if unknown := [name for name in names if name not in _EXIT_CODES]:
        raise click.UsageError(f"Expected signals among {', '.join(_EXIT_CODES)}. Got {unknown[0]}.")
    _FORKS.set_forkserver_preload(_PRELOAD)
    directory = Path(tempfile.mkdtemp(prefix="kdtrain-crash-"))
    try:
        command = ["student", str(store), "--val", str(val), "--no-after", "--device", "cpu", *options]
        record = _compare(directory, command, kills, names, random.Random(seed))
    finally:
        shutil.rmtree(directory)
    if out:
        out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print_json(record)
    sys.exit(bool(record["differences"]))


def _compare(root: Path, command: list[str], kills: int, names: list[str], dice: random.Random) -> dict[str, Any]:
    """Run a command whole, and with so many stops; what came of it."""
    whole, parts = root / "whole", root / "parts"
    _ended(_start(command, whole), 0)
    steps = len(_rows(whole / STEP_FILE))
    stops: list[dict[str, Any]] = []
    for number in sorted(dice.sample(range(1, steps), min(kills, steps - 1))):
        if stops and number <= stops[-1]["rows"]:
            continue  # the run before had come further than it was asked to
        name = dice.choice(names)
        process = _start(command, parts)
        _wait_for_row(parts / STEP_FILE, number, process)
        os.kill(process.pid or 0, getattr(signal, f"SIG{name}"))
        _ended(process, _EXIT_CODES[name])
        stops.append({"step": number, "signal": name, "rows": len(_rows(parts / STEP_FILE))})
        note(f"stopped by SIG{name} at step {number}")
    _ended(_start(command, parts), 0)
    return {"steps": steps, "stops": stops, "differences": _differences(whole, parts)}


def _start(command: Sequence[str], run: Path) -> BaseProcess:
    process = _FORKS.Process(target=_train, args=([*command, "--output-dir", str(run), "--resume", "auto"],))
    process.start()
    return process


def _train(arguments: list[str]) -> None:
    from kdstore import console
    from kdtrain.cli import main as kdtrain

    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    console.stderr.quiet = True  # errors are still said
    kdtrain(arguments)


def _wait_for_row(path: Path, number: int, process: BaseProcess) -> None:
    """Until the row of an optimizer step is there, whole."""
    while not any(row["step"] == str(number) for row in _rows(path)):
        if not process.is_alive():
            raise click.ClickException(f"Expected step {number} of the run. Got an end with {process.exitcode}.")
        time.sleep(_POLL_S)


def _ended(process: BaseProcess, expected: int) -> None:
    process.join()
    if process.exitcode != expected:
        raise click.ClickException(f"Expected the run to end with {expected}. Got {process.exitcode}.")


def _rows(path: Path) -> list[dict[str, str]]:
    """The whole rows of a table; none where it is not there."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    return list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))


def _differences(whole: Path, parts: Path) -> list[str]:
    """What is not equal to the bit, in words."""
    found = []
    for name in (STEP_FILE, METRICS_FILE, GRADIENTS_FILE):
        ours, theirs = (
            [{column: value for column, value in row.items() if column not in _TIMED} for row in _rows(run / name)]
            for run in (parts, whole)
        )
        if len(ours) != len(theirs):
            found.append(f"{name}: {len(ours)} rows instead of {len(theirs)}")
        found += [f"{name}, step {two['step']}" for one, two in zip(ours, theirs, strict=False) if one != two]
    models = [(run / "final_model" / "model.safetensors").read_bytes() for run in (whole, parts)]
    return found + ["final_model"] * (models[0] != models[1])


if __name__ == "__main__":
    main()
