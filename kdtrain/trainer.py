"""One training loop for teachers and students.

An optimizer step takes several batches (accumulation). Every component is divided by the label tokens, or rows, of
all of them, so that how rows are cut into batches changes nothing.
"""

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from kdstore.console import Bar
from kdstore.encode.build import peak_rss_bytes
from kdstore.encode.device import resolve_dtype
from kdstore.errors import MismatchError, TrainingError, first_line
from kdtrain import checkpoint
from kdtrain.config import Config
from kdtrain.log import RunLog
from kdtrain.losses import LOSSES
from kdtrain.losses.fused import LossOut
from kdtrain.models import seq2seq
from kdtrain.models.sampling import sample_key
from kdtrain.rundir import RunDir
from kdtrain.schedules import linear, warmup_length
from kdtrain.stream.batch import Batch
from kdtrain.stream.loader import Loader
from kdtrain.stream.memory import rss_bytes
from kdtrain.stream.mixture import Mixture
from kdtrain.student import Step, Student
from kdtrain.tokens import CriticalTokens
from kdtrain.weights import Weights, lowest_temperature, temperature_at

_IDS_IN_MESSAGE = 8


@dataclass
class Progress:
    """What training has come to; part of a checkpoint. Losses are NaN until the first validation."""

    step: int = 0
    elapsed_s: float = 0.0
    start_val_loss: float = math.nan
    best_val_loss: float = math.nan
    best_step: int = 0
    val_loss: float = math.nan


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
    student
        Its model is in fp32.
    tokenizer
        Saved beside every model that is written.
    critical
        Finds the tokens that count more in label losses; None: all count alike.
    train, val
        Loaders; without ``val`` there is no best model.
    config
        The resolved configuration.
    device
        Where the model runs.
    run
        The run directory, already recorded.
    """

    def __init__(
        self,
        student: Student,
        tokenizer: Any,
        critical: CriticalTokens | None,
        train: Loader | Mixture,
        val: Loader | None,
        config: Config,
        device: torch.device,
        run: RunDir,
    ) -> None:
        self.student, self.model, self.tokenizer = student.to(device), student.model, tokenizer
        self.critical = critical
        self.train_loader, self.val_loader = train, val
        self.config, self.device, self.run = config, device, run
        self.dtype = resolve_dtype(config.run.dtype, device)
        self.optimizer = adamw(student, config)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        self.progress = Progress()
        self.steps_per_epoch = -(-train.batches // config.schedule.gradient_accumulation_steps)
        wanted = config.schedule.epochs * self.steps_per_epoch
        self.total_steps = min(wanted, config.schedule.max_steps or wanted)
        self.weights = Weights(config.loss, self.total_steps)
        self._per = {name: LOSSES.get(name).per for name in self.weights.names}
        self._warmup = warmup_length(config.schedule.warmup_steps, self.total_steps)

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
        state = checkpoint.load(path, self.student)
        try:
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
        self.train_loader.load_state_dict(state["loader"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.weights.load_state_dict(state["weights"])
        self.progress = Progress(**state["progress"])
        torch.set_rng_state(state["rng"])
        if self.device.type == "cuda" and state["cuda_rng"] is not None:
            torch.cuda.set_rng_state(state["cuda_rng"], self.device)

    def _val_fingerprint(self) -> str | None:
        return self.val_loader.store.manifest.fingerprint if self.val_loader else None

    def fit(self, log: RunLog, bar: Bar) -> Summary:
        """Train to the end, and write ``final_model`` and, with validation, ``best_model``.

        Raises
        ------
        TrainingError
            A loss or gradient is not finite; nothing was changed by the step that met it. Or a checkpoint or
            model cannot be written.
        CorruptStoreError
            The store cannot be read.
        """
        bar.advance(self.progress.step)
        tokens, start = 0, time.monotonic()
        if self.progress.step == 0:
            self._validate(log)
        while self.progress.step < self.total_steps:
            tokens += self._epoch(log, bar)
            if self.progress.step % self.steps_per_epoch == 0:
                epoch = self.progress.step // self.steps_per_epoch
                taken = self.train_loader.account(epoch - 1)
                log.say(f"epoch {epoch}: {taken}; {rss_bytes() / 2**20:,.0f} MiB in memory")
                if self.student.policy and (undecided := self.student.policy.undecided()):
                    log.say(f"texts of the student that count as invalid because they {undecided}")
            self._validate(log)
            self._checkpoint()
        checkpoint.publish(self.run.final_model, lambda path: seq2seq.save(self.model, self.tokenizer, path))
        seconds = time.monotonic() - start
        return Summary(self.progress, tokens / seconds, peak_rss_bytes() / 2**20)

    def _epoch(self, log: RunLog, bar: Bar) -> int:
        """Steps to the end of the epoch, or of training; the label tokens trained on."""
        self.student.train()
        tokens = 0
        with closing(iter(self.train_loader)) as batches:
            while self.progress.step < self.total_steps:
                start, epoch = time.monotonic(), self.train_loader.epoch + 1
                micro = list(islice(batches, self.config.schedule.gradient_accumulation_steps))
                if not micro:
                    break
                wait = time.monotonic() - start
                sampling_s = self.student.policy.seconds if self.student.policy else 0.0
                measures = self._step(micro)
                seconds = time.monotonic() - start
                self.progress.step += 1
                self.progress.elapsed_s += seconds
                tokens += int(measures["label_tokens"])
                speed = {"tokens_per_s": measures["label_tokens"] / seconds, "data_wait_s": wait}
                if self.student.policy:
                    speed["sample_s"] = self.student.policy.seconds - sampling_s
                log.row(self.progress.step, epoch, "train", measures | speed | {"elapsed_s": self.progress.elapsed_s})
                bar.advance()
                bar.describe(f"epoch {epoch}/{self.config.schedule.epochs}, loss {measures['loss']:.4f}")
                if self._checkpoint_is_due():
                    self._checkpoint()
        return tokens

    def _step(self, micro: list[Batch]) -> dict[str, float]:
        """One optimizer step over some batches; what the log says of it."""
        step, counts, outs = self.progress.step, self._counts(micro), []
        weights = self.weights.at(step)
        temperature = temperature_at(self.config.loss, step, self.total_steps)
        coefficients = {name: weight / counts[self._per[name]] for name, weight in weights.items() if weight}
        for batch in micro:
            out = self._loss(batch, self.train_loader, coefficients, temperature, step)
            self._check_finite(out, batch)
            self.scaler.scale(out.total).backward()  # type: ignore[no-untyped-call]
            outs.append(out)
        lr = self.config.optimizer.lr * linear(self.progress.step, self._warmup, self.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.scaler.unscale_(self.optimizer)
        norm = float(clip_grad_norm_(self.student.parameters(), self.config.optimizer.clip_norm))
        # With fp16 an overflow is expected now and then: the scaler skips the step and scales less.
        if not math.isfinite(norm) and not self.scaler.is_enabled():
            raise TrainingError(self._not_finite("the gradient's norm", norm, micro))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        means = self._means(outs, counts)
        self.weights.observe(means)
        shown = {f"{name}_weight": weight for name, weight in weights.items() if name in self._per}
        return {
            **_columns(means, weights), **shown, "temperature": temperature, "lr": lr, "grad_norm": norm,
            "label_tokens": counts["token"],
        }  # fmt: skip

    def _counts(self, batches: Sequence[Batch]) -> dict[str, int]:
        """What means are taken over."""
        return {
            "token": sum(batch.label_tokens for batch in batches),
            "row": sum(batch.rows for batch in batches),
            "sample": sum(self._samples(batch) for batch in batches),
        }

    def _samples(self, batch: Batch) -> int:
        """Rows of a batch for which the student writes."""
        return min(batch.rows, self.config.loss.ast_samples) if self.student.policy else 0

    def _loss(
        self,
        batch: Batch,
        loader: Loader | Mixture,
        coefficients: Mapping[str, float],
        temperature: float,
        step: int,
    ) -> LossOut:
        seed, rows = self.config.run.seed, self._samples(batch)
        ids = loader.sample_ids(batch, rows) if rows else []
        settings = Step(
            coefficients,
            temperature,
            loader.codec_of(batch),
            [sample_key(seed, step, one) for one in ids],
            self._token_weights(batch) if self.student.training else None,
        )
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            out: LossOut = self.student(batch, settings)
        return out

    def _token_weights(self, batch: Batch) -> Tensor | None:
        if self.critical is None:
            return None
        return 1 + (self.config.loss.critical_token_weight - 1) * self.critical.mask(batch.labels_BT).float()

    def _means(self, outs: Sequence[LossOut], counts: Mapping[str, int]) -> dict[str, float]:
        """The mean of each component, by name."""
        sums: dict[str, float] = {}
        for out in outs:
            for name, value in out.components.items():
                sums[name] = sums.get(name, 0.0) + float(value)
        return {name: value / counts[self._per[name]] for name, value in sums.items()}

    def _validate(self, log: RunLog) -> None:
        """Measure the loss on the validation rows; keep the model when it is the best so far."""
        if self.val_loader is None:
            return
        start = time.monotonic()
        found, tokens = self._evaluate(self.val_loader)
        self.weights.observe_validation(found)
        means, at = _columns(found, self.weights.reference()), self.progress
        loss = means["loss"]
        speed = {"label_tokens": tokens, "tokens_per_s": tokens / (time.monotonic() - start)}
        epoch = -(-at.step // self.steps_per_epoch)
        log.row(at.step, epoch, "val", means | speed | {"elapsed_s": at.elapsed_s})
        log.say(f"step {at.step}: validation loss {loss:.4f} ({_listed(means)})")
        if at.step == 0:
            at.start_val_loss = loss
        at.val_loss = loss
        if loss < at.best_val_loss or (math.isnan(at.best_val_loss) and math.isfinite(loss)):
            at.best_val_loss, at.best_step = loss, at.step
            checkpoint.publish(self.run.best_model, lambda path: seq2seq.save(self.model, self.tokenizer, path))

    @torch.no_grad()
    def _evaluate(self, loader: Loader) -> tuple[dict[str, float], int]:
        """Means of all components over all rows, at the temperature that training ends with."""
        self.student.eval()
        counts, outs = Counter[str](), []
        temperature = lowest_temperature(self.config.loss)
        for batch in loader:
            outs.append(self._loss(batch, loader, dict.fromkeys(self.weights.names, 1.0), temperature, 0))
            counts.update(self._counts([batch]))
        return self._means(outs, counts), counts["token"]

    def _checkpoint_is_due(self) -> bool:
        # The end of an epoch has a checkpoint of its own, after validation.
        step = self.progress.step
        ends = step % self.steps_per_epoch == 0 or step == self.total_steps
        return step % self.config.run.checkpoint_steps == 0 and not ends

    def _checkpoint(self) -> None:
        state = {
            "loader": self.train_loader.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "weights": self.weights.state_dict(),
            "progress": asdict(self.progress),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "val_fingerprint": self._val_fingerprint(),
        }
        step, keep = self.progress.step, self.config.run.keep_checkpoints
        checkpoint.save(self.run.checkpoints, step, self.student, state, keep)

    def _check_finite(self, out: LossOut, batch: Batch) -> None:
        for name, value in out.components.items():
            if not torch.isfinite(value):
                raise TrainingError(self._not_finite(f"the loss component {name!r}", float(value), [batch]))

    def _not_finite(self, what: str, value: float, batches: list[Batch]) -> str:
        ids = [sample for batch in batches for sample in self.train_loader.sample_ids(batch)]
        more = f" and {len(ids) - _IDS_IN_MESSAGE} more" if len(ids) > _IDS_IN_MESSAGE else ""
        return (
            f"Expected finite numbers. Got {value} as {what} at step {self.progress.step + 1}, in the samples "
            f"{', '.join(ids[:_IDS_IN_MESSAGE])}{more}. The step was not taken; look at these samples, lower --lr, "
            "or use --dtype fp32."
        )


def adamw(model: torch.nn.Module, config: Config) -> torch.optim.AdamW:
    """AdamW over a model's parameters; vectors (norms, biases) do not decay."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.optimizer.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.optimizer.lr)


def _columns(means: Mapping[str, float], weights: Mapping[str, float]) -> dict[str, float]:
    """The weighted total and the means of components, by column of the log."""
    total = sum(weights[name] * value for name, value in means.items())
    return {"loss": total, **{f"{name}_loss": value for name, value in means.items()}}


def _listed(means: dict[str, float]) -> str:
    return ", ".join(f"{name.removesuffix('_loss')} {value:.4f}" for name, value in means.items() if name != "loss")
