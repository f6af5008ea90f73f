"""Put a run together: checks, model, loaders, trainer, the command afterwards, and the summary."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from transformers import AutoTokenizer

from kdstore.console import note, progress, stdout
from kdstore.encode.device import resolve_device, resolve_dtype
from kdstore.encode.teacher import load_seq2seq
from kdstore.errors import TrainingError, UsageError
from kdstore.parsing import ParserPool
from kdstore.store.reader import Store
from kdtrain import checkpoint, checks
from kdtrain.config import Config
from kdtrain.distributed import Processes
from kdtrain.loaders import Needs, make_loaders
from kdtrain.logs.run_log import RunLog
from kdtrain.logs.silent import SilentLog
from kdtrain.losses import SampleLoss
from kdtrain.mix import Mix
from kdtrain.models import seq2seq
from kdtrain.objective import Objective
from kdtrain.policy import Policy
from kdtrain.rundir import RunDir
from kdtrain.stream.loader import Loader
from kdtrain.stream.mixture import Mixture
from kdtrain.student import Student
from kdtrain.tokens import CriticalTokens
from kdtrain.trainer import Summary, Trainer


@dataclass(frozen=True)
class Stores:
    """What a run reads; of several training stores the first gives the tokenizer."""

    train: tuple[Store, ...]
    val: Store | None

    @property
    def all(self) -> list[Store]:
        """Those for training, then the one for validation."""
        return [*self.train, *filter(None, [self.val])]


Loaders = tuple[Loader | Mixture, Loader | None]


def settle(config: Config, processes: Processes | None = None) -> tuple[torch.device, Mix]:
    """The device and the loss of a run, from the configuration alone: what can be refused without any data.

    Of several processes on CUDA each has the device of its ``local_rank``.

    Raises
    ------
    CapabilityError
        The device is not there, or cannot compute in the number format.
    UsageError
        The loss or the preset of the model does not exist.
    """
    device = resolve_device(config.run.device)
    if processes and processes.world > 1 and device.type == "cuda":
        device = torch.device("cuda", processes.local_rank)
    resolve_dtype(config.run.dtype, device)
    if config.model.from_scratch:
        seq2seq.check_preset(config.model.from_scratch)
    return device, make_mix(config, processes.world if processes else 1)


def make_mix(config: Config, world: int = 1) -> Mix:
    """The loss of a run of so many processes.

    Raises
    ------
    UsageError
        It does not exist, or a batch is too small for it.
    """
    mix = Mix(config.loss)
    if "contrastive" in mix.names and config.data.batch_size < 2 * world:
        raise UsageError(
            "Expected at least 2 rows of a batch in each process, where contrastive takes its negatives from. Got "
            f"--batch-size {config.data.batch_size}" + (f" for {world} processes." if world > 1 else ".")
        )
    return mix


def train(
    stores: Stores, config: Config, run: RunDir, *, resume: bool, processes: Processes | None = None
) -> Summary:
    """Train as configured, from the newest checkpoint when ``resume``, and write the run directory.

    Raises
    ------
    KDError
        See `kdstore.errors`; nothing is written before all checks have passed.
    """
    with assembled(stores, config, run, processes or Processes()) as (trainer, notes):
        return _fit(trainer, stores, notes, resume=resume)


@contextmanager
def assembled(
    stores: Stores, config: Config, run: RunDir, processes: Processes
) -> Iterator[tuple[Trainer, list[str]]]:
    """A trainer that has passed all checks, and what a user should know of them, one line each; nothing is written.

    Raises
    ------
    KDError
        As for `train`.
    """
    device, mix = settle(config, processes)
    loaders = open_loaders(stores, config, device, mix, processes)
    notes = checks.check_stores(stores.train, stores.val, config, mix)
    model, name = make_model(stores.train[0], config), config.model.model_name
    if not config.model.from_scratch:
        checks.check_model(model, name, stores.train[0], exact=mix.needs_signal)
    with put_together(stores, config, run, model, loaders, processes) as trainer:
        yield trainer, notes


def open_loaders(stores: Stores, config: Config, device: torch.device, mix: Mix, processes: Processes) -> Loaders:
    """What reads the stores of a run: for training, and for validation where there is a store for it.

    Raises
    ------
    KDError
        See `Mix.columns` and `make_loaders`.
    """
    columns = mix.columns(stores.all)
    needs = Needs(mix.needs_signal, tuple({column for column, _ in columns.values()}))
    return make_loaders(stores.train, stores.val, config, device, needs, processes)


def make_model(store: Store, config: Config) -> seq2seq.Model:
    """The model to train, in fp32: loaded, or with weights that follow from the seed, which sets torch's generator.

    Raises
    ------
    ModelError
        It cannot be loaded.
    UnknownNameError
        There is no such preset.
    """
    torch.manual_seed(config.run.seed)
    settings = config.model
    changes = {} if settings.dropout_rate is None else {"dropout_rate": settings.dropout_rate}
    if settings.from_scratch:
        return seq2seq.create(settings.from_scratch, store.head.vocab_size, store.head.tokenizer, **changes)
    return load_seq2seq(settings.model_name, torch.float32, **changes)


@contextmanager
def put_together(
    stores: Stores, config: Config, run: RunDir, model: seq2seq.Model, loaders: Loaders, processes: Processes
) -> Iterator[Trainer]:
    """The trainer of a model that fits its stores; nothing is written.

    Raises
    ------
    KDError
        See `settle`, `Student` and `Trainer`.
    """
    device, mix = settle(config, processes)
    _tune(model, config)
    first = stores.train[0]
    tokenizer = AutoTokenizer.from_pretrained(first.tokenizer_path)
    with _deterministic(config.run.deterministic), ParserPool() as parsers:
        policy = Policy(tokenizer, first.head.tokenizer, first.head.limits.max_output_tokens, parsers)
        sampled = any(issubclass(kind, SampleLoss) for kind in mix.kinds.values())
        settings = {name: mix.settings(name) for name in mix.names}
        student = Student(model, mix.names, mix.columns(stores.all), policy if sampled else None, settings)
        critical = CriticalTokens.of(first) if config.loss.enable_token_weighting else None
        objective = Objective(student.to(device), critical, config, device, processes)
        yield Trainer(objective, tokenizer, *loaders, run)


@contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    """Refuse operations whose result may differ from run to run, where that is wanted."""
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.use_deterministic_algorithms(wanted or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _fit(trainer: Trainer, stores: Stores, notes: list[str], *, resume: bool) -> Summary:
    """Train, and log it."""
    run, main = trainer.run, trainer.processes.main
    if main:
        run.record(trainer.config)
        if resume:
            checkpoint.sweep(run.root)
            checkpoint.sweep(run.checkpoints)
    trainer.processes.wait()
    step = trainer.resume() if resume else None
    if resume:
        note(f"no checkpoint in {run.root}: starting fresh" if step is None else f"continuing after step {step}")
    if not trainer.has_gradients:
        notes.append("component_gradients.csv stays empty: gradients of components are not measured with fsdp")
    loader = trainer.train_loader
    trained = loader.loaders if isinstance(loader, Mixture) else [loader]
    notes += [f"streaming {loader.store.root}: {loader.describe()}" for loader in trained]
    for line in notes:
        note(line)
    log = _log(trainer, step or 0)
    with log, progress("training", trainer.total_steps) as bar:
        log.say(_opening(trainer, stores, step))
        for line in notes:
            log.say(line)
        try:
            with trainer.processes.hearing():
                summary = trainer.fit(log, bar)
        except BaseException as error:
            log.say(f"stopped at step {trainer.progress.step}: {str(error) or type(error).__name__}")
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                note(
                    f"stopped; continue from the last checkpoint in {run.checkpoints} with --resume auto"
                    if checkpoint.latest(run.checkpoints)
                    else "stopped before the first checkpoint (--checkpoint-steps); nothing is lost but these steps"
                )
            raise
        log.say(f"finished at step {summary.progress.step}; {run.final_model}")
        log.finish(_report(trainer, stores, summary))
    return summary


def _log(trainer: Trainer, step: int) -> RunLog:
    if not trainer.processes.main:
        return SilentLog()
    metrics = trainer.validation.metrics if trainer.validation else ()
    return RunLog(trainer.run, trainer.stepper.weights.names, metrics, step)


def _report(trainer: Trainer, stores: Stores, summary: Summary) -> dict[str, Any]:
    """What the trainer knows of a run that is over."""
    at, config = summary.progress, trainer.config
    return {
        "steps": at.step,
        "stopped_early": at.stopped_early,
        "seconds": at.elapsed_s,
        "tokens_per_second": summary.tokens_per_s,
        "peak_memory_mb": summary.peak_rss_mb,
        "start_validation_loss": at.start_val_loss,
        "final_validation_loss": at.val_loss,
        "best_validation_loss": at.best_val_loss,
        "best_step": at.best_step,
        "parameters": sum(parameter.numel() for parameter in trainer.model.parameters()),
        "config_sha256": config.sha256(),
        "train_stores": {str(store.root): store.manifest.fingerprint for store in stores.train},
        "val_stores": {str(store.root): store.manifest.fingerprint for store in filter(None, [stores.val])},
        "device": str(trainer.device),
        "processes": trainer.processes.world,
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def run_after(command: Sequence[str], run: RunDir, stores: Stores) -> None:
    """Run the command that a recipe names, found first beside the running interpreter; no shell.

    A command that needs ``{val}`` is skipped when there is no validation store.

    Raises
    ------
    TrainingError
        It cannot be started or fails.
    """
    if not command:
        return
    paths = {"run": run.root, "train": stores.train[0].root, "val": stores.val.root if stores.val else None}
    if stores.val is None and any("{val}" in part for part in command):
        note(f"no validation store: skipping {command[0]}")
        return
    arguments = [part.format(**paths) for part in command]
    program = find_program(arguments[0])
    if program is None:
        outcome = "no such program"
    else:
        done = subprocess.run([program, *arguments[1:]], env={**os.environ, "PATH": _search_path()}, check=False)
        outcome = f"exit code {done.returncode}" if done.returncode else ""
    if outcome:
        raise TrainingError(
            f"Expected the command after training to succeed. Got {outcome}: {shlex.join(arguments)}. "
            f"The model is in {run.final_model}; run that command again, or train with --no-after."
        )


def find_program(name: str) -> str | None:
    """Where a program is, looked for beside the running interpreter first; None where there is none."""
    return shutil.which(name, path=_search_path())


def _search_path() -> str:
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"


def print_summary(summary: Summary, run: RunDir) -> None:
    """Print the end of a run as a table on standard output."""
    at = summary.progress
    table = Table("result", "value", title=f"Training: {run.root}")
    if at.best_val_loss == at.best_val_loss:  # NaN without validation
        table.add_row("validation loss at start", f"{at.start_val_loss:.4f}")
        table.add_row("validation loss at end", f"{at.val_loss:.4f}")
        table.add_row("best validation loss", f"{at.best_val_loss:.4f} (step {at.best_step})")
    table.add_row("optimizer steps", f"{at.step:,}")
    table.add_row("training time", f"{at.elapsed_s:,.1f} s")
    table.add_row("label tokens per second", f"{summary.tokens_per_s:,.0f}")
    table.add_row("peak memory", f"{summary.peak_rss_mb:,.0f} MiB")
    table.add_row("model", str(run.final_model))
    stdout.print(table)


def _tune(model: seq2seq.Model, config: Config) -> None:
    """Trade time for memory, and the start for the rest, as configured."""
    if config.model.gradient_checkpointing:
        seq2seq.recompute_activations(model)
    if config.model.compile:
        for half in seq2seq.halves(model):
            half.compile(dynamic=True)


def _opening(trainer: Trainer, stores: Stores, step: int | None) -> str:
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    train = " and ".join(
        f"training store {store.root} ({store.rows:,} rows, fingerprint {store.manifest.fingerprint})"
        for store in stores.train
    )
    val = f", validation store {stores.val.root} ({stores.val.rows:,} rows)" if stores.val else ""
    return (
        f"{'continuing after step ' + str(step) if step else 'starting'}: {parameters:,} parameters "
        f"on {trainer.device} in {trainer.config.run.dtype}, {trainer.processes.world} processes, "
        f"{trainer.total_steps:,} steps, {train}{val}, config sha256 {trainer.config.sha256()[:16]}, "
        f"torch threads {torch.get_num_threads()}"
    )
