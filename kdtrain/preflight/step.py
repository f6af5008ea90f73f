"""Checks that compute: the first batch forward, and an optimizer step that is thrown away."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import islice, product

import torch

from kdstore.encode.build import peak_rss_bytes
from kdstore.errors import TrainingError
from kdtrain.losses import LOSSES, EncoderLoss, SampleLoss
from kdtrain.preflight.findings import Found, failed, passed, warned
from kdtrain.preflight.flight import Flight
from kdtrain.trainer import Trainer
from kdtrain.weights import temperature_at

_IDS = 8
_BATCHES = 2  # of a step are taken at most, however many it accumulates
_RISE = 0.05  # of the loss by a step on the very same rows


def batch(flight: Flight) -> Iterator[Found]:
    """Is every component of the first batches a finite number?"""
    trainer = flight.trainer
    with closing(iter(trainer.train_loader)) as batches:
        flight.micro = list(islice(batches, min(_BATCHES, trainer.config.schedule.gradient_accumulation_steps)))
    for one in flight.micro:
        yield passed(
            f"{one.rows} rows, padded to {one.input_ids_BS.shape[1]} input and {one.labels_BT.shape[1]} label "
            f"tokens; {one.label_tokens} labels without padding"
        )
    means = _means(flight)
    for name, value in means.items():
        if not math.isfinite(value):
            ids = [sample for one in flight.micro for sample in trainer.train_loader.sample_ids(one)][:_IDS]
            raise TrainingError(
                f"Expected finite numbers. Got {value} as the loss component {name!r} of the samples "
                f"{', '.join(ids)}, .... Look at these samples and the store's signal, or use --dtype fp32."
            )
    yield passed(f"mean losses before training: {', '.join(f'{name} {value:.4g}' for name, value in means.items())}")


def step(flight: Flight) -> Iterator[Found]:
    """Does a step have finite gradients for every component, lower the loss, and how long does it take?"""
    trainer = flight.trainer
    index = min(trainer.progress.step, trainer.total_steps - 1)
    yield from _gradients(trainer, flight, index)
    stepper = trainer.stepper
    scales = {name: weight * stepper.weights.beta(name) for name, weight in stepper.weights.at(index).items()}
    before = _total(flight, scales)
    stepper.module.train()
    measures = stepper.step(index, flight.micro)
    after = _total(flight, scales)
    norms = ", ".join(f"{name} {value:.3g}" for name, value in measures.norms.items())
    told = f"loss {before:.5g} before and {after:.5g} after, on the same rows"
    if not math.isfinite(measures.norms["total"]):
        yield warned(
            f"the scale that fp16 begins with is too large, so the first step is left out; gradient: {norms}"
        )
    elif after > before + _RISE * abs(before) or not math.isfinite(after):
        yield failed(
            f"Expected a step to lower the loss of its own rows. Got {told}, at a learning rate of "
            f"{measures.learning_rate:.3g}. Use a lower --lr or a longer --warmup-steps."
        )
    else:
        yield passed(f"{told}; norms of the gradient: {norms}")
    yield _pace(flight, min(index + 1, trainer.total_steps - 1))


def _gradients(trainer: Trainer, flight: Flight, index: int) -> Iterator[Found]:
    """Whether every component that has a weight now or at the end moves the student."""
    trainer.stepper.module.train()
    found: dict[str, float] = {}
    for at, one in product({index, trainer.total_steps - 1}, flight.micro):
        for name, norms in trainer.stepper.steepness(at, one).items():
            found[name] = math.hypot(found.get(name, 0.0), *(norm for norm in norms if norm is not None))
    for name, norm in found.items():
        if not math.isfinite(norm):
            yield failed(f"Expected a finite gradient of {name!r}. Got {norm}. Use --dtype fp32 or a lower --lr.")
        elif not norm and issubclass(LOSSES.get(name), SampleLoss):
            yield warned(f"{name}: samples of the first rows are no better or worse than greedy outputs: no gradient")
        elif not norm and issubclass(LOSSES.get(name), EncoderLoss):
            yield warned(f"{name}: no gradient from the first rows, as where all of them have one reference")
        elif not norm:
            yield failed(
                f"Expected a gradient of {name!r}, which has a weight. Got 0. Leave it out, or look at what it reads."
            )
    listed = ", ".join(f"{name} {norm:.3g}" for name, norm in found.items())
    yield passed(f"gradients by the states: {listed}")


def _pace(flight: Flight, index: int) -> Found:
    """Seconds of a step when all is warm, what the run will take, and the memory of this process so far."""
    trainer, device = flight.trainer, flight.trainer.device
    start = time.monotonic()
    trainer.stepper.step(index, flight.micro)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    accumulated = trainer.config.schedule.gradient_accumulation_steps / len(flight.micro)
    seconds = (time.monotonic() - start) * max(1.0, accumulated)
    left = trainer.total_steps - trainer.progress.step
    peak = f"{peak_rss_bytes() / 2**20:,.0f} MiB"
    if device.type == "cuda":
        peak += f", and {torch.cuda.max_memory_allocated(device) / 2**20:,.0f} MiB on {device}"
    return passed(
        f"about {seconds:.3g} s a step, so {_duration(seconds * left)} for {left:,} steps without validation; peak "
        f"memory {peak}"
    )


def _total(flight: Flight, scales: Mapping[str, float]) -> float:
    """The weighted loss without what the student writes, which chance decides."""
    means = _means(flight)
    return sum(
        scale * means[name]
        for name, scale in scales.items()
        if scale and not issubclass(LOSSES.get(name), SampleLoss)
    )


@torch.no_grad()
def _means(flight: Flight) -> dict[str, float]:
    """The mean of each component over the first batches, without dropout."""
    trainer = flight.trainer
    objective, names = trainer.objective, trainer.student.components
    trainer.stepper.module.eval()
    temperature = temperature_at(trainer.config.loss, trainer.progress.step, trainer.total_steps)
    counts, outs = objective.counts(flight.micro), []
    for one, samples in zip(flight.micro, counts.samples, strict=True):
        settings = objective.settings(one, trainer.train_loader, dict.fromkeys(names, 1.0), temperature, 0, samples)
        outs.append(objective.loss(trainer.stepper.module, one, settings))
    return objective.means(objective.sums(outs), counts, names)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {rest} s"
