"""Put a run together: checks, model, loaders, trainer, the command afterwards, and the summary."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.table import Table
from transformers import AutoTokenizer

from kdstore.console import note, progress, stdout
from kdstore.encode.device import resolve_device, resolve_dtype
from kdstore.encode.teacher import load_seq2seq
from kdstore.errors import KDError, TrainingError, UsageError
from kdstore.store.reader import Store
from kdtrain import checkpoint, preflight
from kdtrain.config import Config
from kdtrain.loaders import Needs, make_loaders
from kdtrain.log import RunLog
from kdtrain.losses import SampleLoss
from kdtrain.losses._parsing import ParserPool
from kdtrain.mix import Mix
from kdtrain.models import seq2seq
from kdtrain.policy import Policy
from kdtrain.rundir import RunDir
from kdtrain.stream.mixture import Mixture
from kdtrain.student import Student
from kdtrain.tokens import CriticalTokens
from kdtrain.trainer import Summary, Trainer


@dataclass(frozen=True)
class Stores:
    """What a run reads; of several training stores the first gives the tokenizer."""

    train: tuple[Store, ...]
    val: Store | None


def settle(config: Config) -> tuple[torch.device, Mix]:
    """The device and the loss of a run, from the configuration alone: what can be refused without any data.

    Raises
    ------
    CapabilityError
        The device is not there, or cannot compute in the number format.
    UsageError
        The loss or the preset of the model does not exist.
    """
    device = resolve_device(config.run.device)
    resolve_dtype(config.run.dtype, device)
    if config.model.from_scratch:
        seq2seq.check_preset(config.model.from_scratch)
    mix = Mix(config.loss)
    if "contrastive" in mix.names and config.data.batch_size < 2:
        raise UsageError(
            "Expected at least 2 rows in a batch, where contrastive takes its negatives from. Got --batch-size 1."
        )
    return device, mix


def train(stores: Stores, config: Config, run: RunDir, *, resume: bool) -> Summary:
    """Train as configured, from the newest checkpoint when ``resume``, and write the run directory.

    Raises
    ------
    KDError
        See `kdstore.errors`; nothing is written before all checks have passed.
    """
    device, mix = settle(config)
    columns = mix.columns([*stores.train, *filter(None, [stores.val])])
    needs = Needs(mix.needs_signal, tuple({column for column, _ in columns.values()}))
    loaders = make_loaders(stores.train, stores.val, config, device, needs)
    notes = preflight.check_stores(stores.train, stores.val, config, mix)
    torch.manual_seed(config.run.seed)
    first = stores.train[0]
    tokenizer = AutoTokenizer.from_pretrained(first.tokenizer_path)
    with ParserPool() as parsers:
        policy = Policy(tokenizer, first.head.tokenizer, first.head.limits.max_output_tokens, parsers)
        sampled = any(issubclass(kind, SampleLoss) for kind in mix.kinds.values())
        student = Student(_model(first, config, mix), mix.names, columns, policy if sampled else None)
        critical = CriticalTokens.of(first) if config.loss.enable_token_weighting else None
        trainer = Trainer(student, tokenizer, critical, *loaders, config, device, run)
        return _fit(trainer, stores, notes, resume=resume)


def _fit(trainer: Trainer, stores: Stores, notes: list[str], *, resume: bool) -> Summary:
    """Train, and log it."""
    run = trainer.run
    run.record(trainer.config)
    if resume:
        checkpoint.sweep(run.root)
        checkpoint.sweep(run.checkpoints)
    step = trainer.resume() if resume else None
    if resume:
        note(f"no checkpoint in {run.root}: starting fresh" if step is None else f"continuing after step {step}")
    loader = trainer.train_loader
    trained = loader.loaders if isinstance(loader, Mixture) else [loader]
    notes += [f"streaming {loader.store.root}: {loader.describe()}" for loader in trained]
    for line in notes:
        note(line)
    with RunLog(run, trainer.weights.names, step or 0) as log, progress("training", trainer.total_steps) as bar:
        log.say(_opening(trainer, stores, step))
        for line in notes:
            log.say(line)
        try:
            summary = trainer.fit(log, bar)
        except (KDError, KeyboardInterrupt, SystemExit) as error:
            log.say(f"stopped at step {trainer.progress.step}: {str(error) or type(error).__name__}")
            if not isinstance(error, KDError):
                note(
                    f"stopped; continue from the last checkpoint in {run.checkpoints} with --resume auto"
                    if checkpoint.latest(run.checkpoints)
                    else "stopped before the first checkpoint (--checkpoint-steps); nothing is lost but these steps"
                )
            raise
        log.say(f"finished at step {summary.progress.step}; {run.final_model}")
    return summary


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
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    program = shutil.which(arguments[0], path=path)
    if program is None:
        outcome = "no such program"
    else:
        done = subprocess.run([program, *arguments[1:]], env={**os.environ, "PATH": path}, check=False)
        outcome = f"exit code {done.returncode}" if done.returncode else ""
    if outcome:
        raise TrainingError(
            f"Expected the command after training to succeed. Got {outcome}: {shlex.join(arguments)}. "
            f"The model is in {run.final_model}; run that command again, or train with --no-after."
        )


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


def _model(store: Store, config: Config, mix: Mix) -> seq2seq.Model:
    if config.model.from_scratch:
        return seq2seq.create(config.model.from_scratch, store.head.vocab_size, store.head.tokenizer)
    model = load_seq2seq(config.model.model_name, torch.float32)
    preflight.check_model(model, config.model.model_name, store, exact=mix.needs_signal)
    return model


def _opening(trainer: Trainer, stores: Stores, step: int | None) -> str:
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    train = " and ".join(
        f"training store {store.root} ({store.rows:,} rows, fingerprint {store.manifest.fingerprint})"
        for store in stores.train
    )
    val = f", validation store {stores.val.root} ({stores.val.rows:,} rows)" if stores.val else ""
    return (
        f"{'continuing after step ' + str(step) if step else 'starting'}: {parameters:,} parameters "
        f"on {trainer.device} in {trainer.config.run.dtype}, {trainer.total_steps:,} steps, {train}{val}, "
        f"config sha256 {trainer.config.sha256()[:16]}, torch threads {torch.get_num_threads()}"
    )
