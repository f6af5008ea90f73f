"""Checks of where results go: the run directory, what an earlier run has left there, and room for the rest."""

import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path

from kdstore.errors import TrainingError
from kdstore.store.files import read_bounded
from kdstore.validation import parse
from kdtrain import checkpoint
from kdtrain.config import Config
from kdtrain.logs.columns import gradient_columns, metrics_columns, step_columns
from kdtrain.logs.table import damaged, read_table
from kdtrain.preflight.findings import Found, failed, of_each, passed, size, skipped, warned
from kdtrain.preflight.flight import Flight
from kdtrain.rundir import LOCK, RunDir, check_same, claim

_WEIGHT_BYTES, _STATE_BYTES = 4, 8  # of a weight in fp32, and of what AdamW keeps for it
_STEP_BYTES = 2048  # of a step in tables and event files
_TIGHT = 0.8


def output(flight: Flight) -> Iterator[Found]:
    """Can the run directory be used: is it free, or a run of this configuration that nobody works on?"""
    request, run, settings = flight.request, flight.run, flight.config.model
    claim(request.output_dir, settings.from_scratch or settings.model_name, resume=request.resume)
    if (run.root / LOCK).is_file():
        _check_unlocked(run)
    if request.resume and run.config.is_file():
        check_same(parse(Config, read_bounded(run.config), f"configuration {run.config}"), flight.config)
        yield passed(f"{run.root} holds a run of this configuration, which goes on")
    else:
        yield passed(f"{request.output_dir or 'a new directory below results/'} is free")


def _check_unlocked(run: RunDir) -> None:
    with (run.root / LOCK).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainingError(
                f"Expected to be alone in {run.root}. Got another process training there. Wait for it."
            ) from None


def checkpoints(flight: Flight) -> Iterator[Found]:
    """Can the newest checkpoint be continued from, and the older ones be read?"""
    newest = checkpoint.latest(flight.run.checkpoints) if flight.request.resume else None
    if newest is None:
        yield skipped("there is none to continue from")
        return
    yield from of_each([newest], lambda path: _resume(flight, path))
    yield from of_each([path for path in checkpoint.all_of(newest.parent) if path != newest], _read)


def _resume(flight: Flight, path: Path) -> Iterator[Found]:
    trainer = flight.trainer
    trainer.resume()
    yield passed(f"{path} is read: step {trainer.progress.step:,} of {trainer.total_steps:,}")
    yield from of_each(_log_tables(flight), _read_table)
    if trainer.progress.step >= trainer.total_steps:
        yield warned("this run has ended: only its final model would be written again")


def _log_tables(flight: Flight) -> list[tuple[Path, list[str]]]:
    """The tables that a resumed run goes on with, and the columns that it needs there."""
    run, trainer = flight.run, flight.trainer
    names, metrics = trainer.stepper.weights.names, trainer.validation.metrics if trainer.validation else ()
    found = [
        (run.step_metrics, step_columns(names)),
        (run.metrics, metrics_columns(names, metrics)),
        (run.component_gradients, gradient_columns(names)),
    ]
    return [(path, columns) for path, columns in found if path.exists()]


def _read_table(table: tuple[Path, list[str]]) -> Iterator[Found]:
    path, columns = table
    found, rows = read_table(path)
    if found != columns:
        raise damaged(path, 1, "other columns")
    yield passed(f"{path}: {sum(1 for _ in rows):,} rows")


def _read(path: Path) -> Iterator[Found]:
    checkpoint.load(path)
    yield passed(f"{path} is read")


def disk(flight: Flight) -> Iterator[Found]:
    """Is there room for checkpoints, models and logs?"""
    run, trainer, config = flight.run, flight.trainer, flight.config
    weights = sum(parameter.numel() for parameter in trainer.student.parameters())
    written = trainer.total_steps // config.run.checkpoint_steps + -(-trainer.total_steps // trainer.steps_per_epoch)
    # One more is written before the oldest is removed.
    kept = min(config.run.keep_checkpoints + 1, written)
    models = 2 if flight.stores.val else 1
    needed = weights * (kept * (_WEIGHT_BYTES + _STATE_BYTES) + models * _WEIGHT_BYTES)
    needed += trainer.total_steps * _STEP_BYTES
    there = sum(path.stat().st_size for path in run.root.rglob("*") if path.is_file()) if flight.request.resume else 0
    place = next(path for path in (run.root, *run.root.absolute().parents) if path.exists())
    free, left = shutil.disk_usage(place).free, max(0, needed - there)
    told = (
        f"about {size(needed)} for {kept} checkpoints, {models} models and logs, {size(there)} of it there "
        f"already; {size(free)} are free at {place}"
    )
    if left > free:
        yield failed(
            f"Expected room for what the run writes: {told}. Got {size(left - free)} too little. Free it, use "
            "another --output-dir, or a smaller --keep-checkpoints."
        )
    else:
        yield warned(f"{told}: little is left") if left > _TIGHT * free else passed(told)
