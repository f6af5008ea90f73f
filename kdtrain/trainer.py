"""One training loop for teachers and students.

An optimizer step takes several batches (accumulation). Its loss is the weighted sum over all their label tokens
divided by the number of those tokens, so that how rows are cut into batches changes nothing.
"""

import math
import time
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
from kdtrain.mix import LossOut, Mix
from kdtrain.models import seq2seq
from kdtrain.rundir import RunDir
from kdtrain.schedules import linear, warmup_length
from kdtrain.stream.batch import IGNORED, Batch
from kdtrain.stream.loader import Loader
from kdtrain.stream.memory import rss_bytes
from kdtrain.stream.mixture import Mixture

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
    """Trains one model on one store.

    Parameters
    ----------
    model
        A seq2seq model in fp32.
    tokenizer
        Saved beside every model that is written.
    mix
        The loss.
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
        model: seq2seq.Model,
        tokenizer: Any,
        mix: Mix,
        train: Loader | Mixture,
        val: Loader | None,
        config: Config,
        device: torch.device,
        run: RunDir,
    ) -> None:
        self.model, self.tokenizer, self.mix = model.to(device), tokenizer, mix
        self.train_loader, self.val_loader = train, val
        self.config, self.device, self.run = config, device, run
        self.dtype = resolve_dtype(config.run.dtype, device)
        self.optimizer = adamw(model, config)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        self.progress = Progress()
        self.steps_per_epoch = -(-train.batches // config.schedule.gradient_accumulation_steps)
        wanted = config.schedule.epochs * self.steps_per_epoch
        self.total_steps = min(wanted, config.schedule.max_steps or wanted)
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
        state = checkpoint.load(path, self.model)
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
            self._validate(log)
            self._checkpoint()
        checkpoint.publish(self.run.final_model, lambda path: seq2seq.save(self.model, self.tokenizer, path))
        seconds = time.monotonic() - start
        return Summary(self.progress, tokens / seconds, peak_rss_bytes() / 2**20)

    def _epoch(self, log: RunLog, bar: Bar) -> int:
        """Steps to the end of the epoch, or of training; the label tokens trained on."""
        self.model.train()
        tokens = 0
        with closing(iter(self.train_loader)) as batches:
            while self.progress.step < self.total_steps:
                start, epoch = time.monotonic(), self.train_loader.epoch + 1
                micro = list(islice(batches, self.config.schedule.gradient_accumulation_steps))
                if not micro:
                    break
                wait = time.monotonic() - start
                measures = self._step(micro)
                seconds = time.monotonic() - start
                self.progress.step += 1
                self.progress.elapsed_s += seconds
                tokens += int(measures["label_tokens"])
                speed = {"tokens_per_s": measures["label_tokens"] / seconds, "data_wait_s": wait}
                log.row(self.progress.step, epoch, "train", measures | speed | {"elapsed_s": self.progress.elapsed_s})
                bar.advance()
                bar.describe(f"epoch {epoch}/{self.config.schedule.epochs}, loss {measures['loss']:.4f}")
                if self._checkpoint_is_due():
                    self._checkpoint()
        return tokens

    def _step(self, micro: list[Batch]) -> dict[str, float]:
        """One optimizer step over some batches; what the log says of it."""
        tokens = sum(batch.label_tokens for batch in micro)
        outs = []
        for batch in micro:
            out = self._loss(batch, self.train_loader)
            self._check_finite(out, batch)
            self.scaler.scale(out.total / tokens).backward()  # type: ignore[no-untyped-call]
            outs.append(out)
        lr = self.config.optimizer.lr * linear(self.progress.step, self._warmup, self.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.scaler.unscale_(self.optimizer)
        norm = float(clip_grad_norm_(self.model.parameters(), self.config.optimizer.clip_norm))
        # With fp16 an overflow is expected now and then: the scaler skips the step and scales less.
        if not math.isfinite(norm) and not self.scaler.is_enabled():
            raise TrainingError(self._not_finite("the gradient's norm", norm, micro))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return {**_means(outs, tokens), "lr": lr, "grad_norm": norm, "label_tokens": tokens}

    def _loss(self, batch: Batch, loader: Loader | Mixture) -> LossOut:
        start_ids_BT = self.model.prepare_decoder_input_ids_from_labels(labels=batch.labels_BT)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits_BTV: Tensor = self.model(
                input_ids=batch.input_ids_BS,
                attention_mask=batch.attention_mask_BS,
                decoder_input_ids=start_ids_BT,
                use_cache=False,
            ).logits
        logits_LV = logits_BTV[batch.labels_BT != IGNORED].float()
        return self.mix(logits_LV, batch.labels_L, loader.signal(batch, self.mix.temperature))

    def _validate(self, log: RunLog) -> None:
        """Measure the loss on the validation rows; keep the model when it is the best so far."""
        if self.val_loader is None:
            return
        start = time.monotonic()
        means, tokens = self._evaluate(self.val_loader)
        loss, at = means["loss"], self.progress
        speed = {"label_tokens": tokens, "tokens_per_s": tokens / (time.monotonic() - start)}
        epoch = -(-at.step // self.steps_per_epoch)
        log.row(at.step, epoch, "val", means | speed | {"elapsed_s": at.elapsed_s})
        log.say(f"step {at.step}: validation loss {loss:.4f} ({_listed(means)})")
        if at.step == 0:
            at.start_val_loss = loss
        at.val_loss = loss
        if not loss >= at.best_val_loss:  # also true for the first one, when the best is NaN
            at.best_val_loss, at.best_step = loss, at.step
            checkpoint.publish(self.run.best_model, lambda path: seq2seq.save(self.model, self.tokenizer, path))

    @torch.no_grad()
    def _evaluate(self, loader: Loader) -> tuple[dict[str, float], int]:
        self.model.eval()
        tokens, outs = 0, []
        for batch in loader:
            outs.append(self._loss(batch, loader))
            tokens += batch.label_tokens
        return _means(outs, tokens), tokens

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
            "progress": asdict(self.progress),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "val_fingerprint": self._val_fingerprint(),
        }
        step, keep = self.progress.step, self.config.run.keep_checkpoints
        checkpoint.save(self.run.checkpoints, step, self.model, state, keep)

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


def _means(outs: list[LossOut], tokens: int) -> dict[str, float]:
    """Means per label token, by column of the log."""
    means = {"loss": float(sum(out.total.detach() for out in outs)) / tokens}
    for name in outs[0].components:
        means[f"{name}_loss"] = float(sum(out.components[name] for out in outs)) / tokens
    return means


def _listed(means: dict[str, float]) -> str:
    return ", ".join(f"{name.removesuffix('_loss')} {value:.4f}" for name, value in means.items() if name != "loss")
