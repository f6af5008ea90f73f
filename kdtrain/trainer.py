"""One training loop for teachers and students, on one process or several."""

import math
import shutil
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from kdstore.console import Bar, note
from kdstore.encode.build import peak_rss_bytes
from kdstore.errors import MismatchError, UsageError, first_line
from kdstore.validation import parse
from kdtrain import checkpoint
from kdtrain.config import Config
from kdtrain.distributed import put_weights, weights_of
from kdtrain.logs.run_log import RunLog, describe
from kdtrain.models import seq2seq
from kdtrain.objective import Objective
from kdtrain.records import GradientRecord, StepRecord, ValidationRecord
from kdtrain.rundir import RunDir, check_same
from kdtrain.stepper import Stepper
from kdtrain.stopping import Stop, end
from kdtrain.stream.batch import Batch
from kdtrain.stream.loader import Loader
from kdtrain.stream.mixture import Mixture
from kdtrain.validation import Validation


@dataclass
class Progress:
    """What training has come to; part of a checkpoint. Losses are NaN until the first validation."""

    step: int = 0
    elapsed_s: float = 0.0
    start_val_loss: float = math.nan
    best_val_loss: float = math.nan
    best_step: int = 0
    val_loss: float = math.nan
    worse: int = 0
    stopped_early: bool = False


@dataclass(frozen=True)
class Summary:
    """The end of a run. ``tokens_per_s`` counts label tokens trained on since this start."""

    progress: Progress
    tokens_per_s: float
    peak_rss_mb: float


class Trainer:
    """Trains one student on its stores.

    Parameters
    ----------
    objective
        The student, in fp32 on its device, and its loss.
    tokenizer
        Saved beside every model that is written.
    train, val
        Loaders; without ``val`` there is no best model.
    run
        The run directory, already recorded.

    Raises
    ------
    UsageError
        Training is to stop early, and there is no validation.
    CapabilityError
        See `Stepper`.
    UnknownNameError
        See `Validation`.
    """

    def __init__(
        self, objective: Objective, tokenizer: Any, train: Loader | Mixture, val: Loader | None, run: RunDir
    ) -> None:
        self.objective, self.student, self.model = objective, objective.student, objective.student.model
        self.config, self.device, self.processes = objective.config, objective.device, objective.processes
        self.tokenizer, self.train_loader, self.run = tokenizer, train, run
        schedule = self.config.schedule
        if val is None and schedule.early_stopping_patience:
            raise UsageError(
                "Expected a validation store with --early-stopping-patience. Got none. Name one with --val."
            )
        self.steps_per_epoch = -(-train.batches // schedule.gradient_accumulation_steps)
        wanted = schedule.epochs * self.steps_per_epoch
        self.total_steps = min(wanted, schedule.max_steps or wanted)
        self.stepper = Stepper(objective, train, self.total_steps)
        self.validation = Validation(objective, val, tokenizer) if val else None
        self.progress, self.stop = Progress(), Stop()
        # FSDP keeps shares of weights, and one process alone cannot ask for the rest.
        self.has_gradients = self.processes.world == 1 or self.config.run.parallel == "ddp"

    def resume(self) -> int | None:
        """Load the newest checkpoint; its step, or None where there is none.

        Raises
        ------
        TrainingError
            The checkpoint is damaged or of another model.
        MismatchError
            It was made with another training or validation store, seed or batch size.
        """
        path = checkpoint.latest(self.run.checkpoints)
        if path is None:
            return None
        weights, state = checkpoint.load(path)
        try:
            put_weights(self.student, weights)
            self._restore(state)
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise checkpoint.damaged(path, f"a state that does not fit ({first_line(error)})") from None
        return self.progress.step

    def _restore(self, state: checkpoint.State) -> None:
        if state["val_fingerprint"] != (mine := self._val_fingerprint()):
            raise MismatchError(
                f"Expected the validation store (--val) with fingerprint {state['val_fingerprint']} as this run was "
                f"started with. Got {mine}. Resume with the same store, or start a new run."
            )
        check_same(parse(Config, state["config"], "configuration of a checkpoint"), self.config)
        self.train_loader.load_state_dict(state["loader"])
        self.stepper.load_state_dict(state["stepper"])
        self.progress = Progress(**state["progress"])
        for what, mine in self._machine().items():
            if (before := state["machine"][what]) != mine:
                note(f"not bit-exact: this run had {what} {before} so far, and goes on with {mine}")

    def _machine(self) -> dict[str, str]:
        """What the last bits of a result depend on beside the configuration."""
        return {
            "torch": str(torch.__version__),
            "threads": str(torch.get_num_threads()),
            "device": self.device.type,
            "processes": str(self.processes.world),
        }

    def _val_fingerprint(self) -> str | None:
        return self.validation.loader.store.manifest.fingerprint if self.validation else None

    def fit(self, log: RunLog, bar: Bar) -> Summary:
        """Train to the end, and write ``final_model`` and, with validation, ``best_model``.

        A signal ends training after the step that runs, with a checkpoint.

        Raises
        ------
        TrainingError
            A loss or gradient is not finite; nothing was changed by the step that met it. Or a checkpoint or
            model cannot be written.
        CorruptStoreError
            The store cannot be read.
        KeyboardInterrupt, SystemExit, RequeueError
            As the signal asks.
        """
        bar.advance(self.progress.step)
        if self._finished():
            note(f"this run has ended at step {self.progress.step}: its final model is written again")
        tokens, start = 0, time.monotonic()
        with self.stop.listening():
            if self.progress.step == 0:
                self._validate(log)
            while not self._finished():
                tokens += self._epoch(log, bar)
                self._settle(log)
                if signal := self._asked():
                    end(signal, f"after step {self.progress.step}; a checkpoint is kept")
            if self.progress.stopped_early:
                told = f"stopped early: no validation was better since step {self.progress.best_step}"
                note(told)
                log.say(told)
            self._publish_final()
            if signal := self._asked():
                end(signal, "after the last step; all of training is done")
        seconds = time.monotonic() - start
        return Summary(self.progress, tokens / seconds, peak_rss_bytes() / 2**20)

    def _finished(self) -> bool:
        return self.progress.step >= self.total_steps or self.progress.stopped_early

    def _asked(self) -> int:
        """The signal that asks some process to stop, or 0: the same in all of them."""
        return int(self.processes.gather(torch.tensor(self.stop.signal)).max())

    def _epoch(self, log: RunLog, bar: Bar) -> int:
        """Steps to the end of the epoch or of training, or to a signal; the label tokens trained on."""
        self.stepper.module.train()
        tokens, accumulation = 0, self.config.schedule.gradient_accumulation_steps
        with closing(iter(self.train_loader)) as batches:
            while self.progress.step < self.total_steps:
                start, epoch = time.monotonic(), self.train_loader.epoch + 1
                micro = list(islice(batches, accumulation))
                if not micro:
                    break
                record = self._step(micro, start, epoch)
                tokens += record.label_tokens
                log.step(record)
                bar.advance()
                bar.describe(describe(record, self.config.schedule.epochs))
                self._measure_gradients(log, micro[-1], epoch)
                if self._asked():
                    break
                if self._checkpoint_is_due():
                    self._checkpoint(log)
        return tokens

    def _step(self, micro: list[Batch], start: float, epoch: int) -> StepRecord:
        """One optimizer step, that began with waiting for its batches."""
        wait, sampled = time.monotonic() - start, self._sampling_s()
        measures = self.stepper.step(self.progress.step, micro)
        seconds = time.monotonic() - start
        before = self.progress.step % self.steps_per_epoch * self.config.schedule.gradient_accumulation_steps
        self.progress.step += 1
        self.progress.elapsed_s += seconds
        return StepRecord(
            step=self.progress.step,
            epoch=epoch,
            mini_batch=before + len(micro) - 1,
            **vars(measures),
            seconds=seconds,
            data_wait_s=wait,
            sampling_s=self._sampling_s() - sampled,
            elapsed_s=self.progress.elapsed_s,
        )

    def _sampling_s(self) -> float:
        return self.student.policy.seconds if self.student.policy else 0.0

    def _measure_gradients(self, log: RunLog, batch: Batch, epoch: int) -> None:
        """Now and then, how steep each component is; on the main process's rows."""
        every, step = self.config.run.gradient_steps, self.progress.step
        due = every and (step == 1 or step % every == 0)
        if not due or not self.has_gradients or not self.processes.main or not batch.rows:
            return
        found = self.stepper.steepness(step - 1, batch)
        decoder, encoder = ({name: norms[at] for name, norms in found.items()} for at in (0, 1))
        log.gradients(GradientRecord(step, epoch, decoder, encoder))

    def _settle(self, log: RunLog) -> None:
        """Close an epoch, or what a signal has left of it: validation where it is due, and a checkpoint."""
        step, every = self.progress.step, self.config.validation.validation_frequency
        epoch = -(-step // self.steps_per_epoch)
        last, ended = step == self.total_steps, step % self.steps_per_epoch == 0
        if last or (ended and epoch % every == 0):
            self._validate(log)
        if last or ended:
            in_epoch = step - (epoch - 1) * self.steps_per_epoch
            part = f"{in_epoch:,} of the {self.steps_per_epoch:,} steps of the epoch"
            log.epoch(epoch, step, self.train_loader.account(epoch - 1) if ended else part)
            if self.student.policy and (undecided := self.student.policy.undecided()):
                log.say(f"texts of the student that count as invalid because they {undecided}")
        self._checkpoint(log)

    def _validate(self, log: RunLog) -> None:
        """Measure the student on the validation rows; keep the model when it is the best so far."""
        if self.validation is None:
            return
        found = self.validation(self.stepper.module)
        weights = self.stepper.weights
        weights.observe_validation(found.raw)
        loss = sum(weights.reference()[name] * value for name, value in found.raw.items())
        best = self._note_loss(loss)
        at, measured = self.progress, vars(found).copy()
        if failure := measured.pop("failure"):
            told = f"the validator {self.config.validation.validator!r} failed: {failure}; its columns stay empty"
            note(told)
            log.say(told)
        log.validation(
            ValidationRecord(
                step=at.step,
                epoch=-(-at.step // self.steps_per_epoch),
                loss=loss,
                best=best,
                elapsed_s=at.elapsed_s,
                **measured,
            )
        )
        if best:
            self._publish(self.run.best_model)

    def _note_loss(self, loss: float) -> bool:
        """Take note of a validation loss; whether it is the lowest so far."""
        at, schedule = self.progress, self.config.schedule
        if at.step == 0:
            at.start_val_loss = loss
        at.val_loss = loss
        first = math.isnan(at.best_val_loss) and math.isfinite(loss)
        better = first or loss < at.best_val_loss - schedule.early_stopping_delta
        at.worse = 0 if better else at.worse + 1
        at.stopped_early = at.worse >= (schedule.early_stopping_patience or math.inf)
        if first or loss < at.best_val_loss:
            at.best_val_loss, at.best_step = loss, at.step
            return True
        return False

    def _publish(self, target: Path) -> None:
        """Write the model; every process has a part in it."""
        weights = {
            name.removeprefix("model."): value
            for name, value in weights_of(self.student).items()
            if name.startswith("model.")
        }
        if self.processes.main:
            checkpoint.publish(target, lambda path: seq2seq.save(self.model, self.tokenizer, path, weights))
        self.processes.wait()

    def _publish_final(self) -> None:
        """Write the last model; with early stopping the best one."""
        if not self.config.schedule.early_stopping_patience:
            self._publish(self.run.final_model)
        elif self.processes.main:
            checkpoint.publish(self.run.final_model, self._copy_best)

    def _copy_best(self, path: Path) -> None:
        shutil.copytree(self.run.best_model, path, dirs_exist_ok=True)

    def _checkpoint_is_due(self) -> bool:
        # The end of an epoch has a checkpoint of its own, after validation.
        step = self.progress.step
        ends = step % self.steps_per_epoch == 0 or step == self.total_steps
        return step % self.config.run.checkpoint_steps == 0 and not ends

    def _checkpoint(self, log: RunLog) -> None:
        weights = weights_of(self.student)
        state = {
            "loader": self.train_loader.state_dict(),
            "stepper": self.stepper.state_dict(),
            "progress": asdict(self.progress),
            "val_fingerprint": self._val_fingerprint(),
            "machine": self._machine(),
            "config": self.config.to_json(),
        }
        if self.processes.main:
            log.sync()  # rows of the steps that the checkpoint has must outlast it
            keep = self.config.run.keep_checkpoints
            checkpoint.save(self.run.checkpoints, self.progress.step, weights, state, keep)
        self.processes.wait()
