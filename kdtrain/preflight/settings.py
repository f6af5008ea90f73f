"""Settings that a run accepts, and that deserve a word."""

from collections.abc import Iterator
from typing import Final

from kdtrain.preflight.findings import Found, passed, warned
from kdtrain.preflight.flight import Flight
from kdtrain.schedules import warmup_length
from kdtrain.trainer import Trainer

USUAL_LR: Final = (1e-6, 1e-2)
USUAL_TEMPERATURE: Final = (1.0, 10.0)


def settings(flight: Flight) -> Iterator[Found]:
    """Is there anything that hardly anybody means?"""
    words = [*_course(flight.trainer), *_values(flight), *_records(flight)]
    yield from map(warned, words)
    if not words:
        yield passed("nothing unusual")


def _course(trainer: Trainer) -> Iterator[str]:
    """Of how long training is."""
    schedule, total = trainer.config.schedule, trainer.total_steps
    warmup = warmup_length(schedule.warmup_steps, schedule.warmup_ratio, total)
    if warmup >= total:
        yield f"--warmup-steps {warmup:,} of {total:,} steps: the learning rate does not fall, or never reaches --lr"
    batches, accumulation = trainer.train_loader.batches, schedule.gradient_accumulation_steps
    if batches < accumulation:
        yield (
            f"--gradient-accumulation-steps {accumulation:,}, and an epoch has {batches:,} batches: steps are taken "
            "on fewer rows"
        )


def _values(flight: Flight) -> Iterator[str]:
    """Of numbers."""
    lr, loss = flight.config.optimizer.lr, flight.config.loss
    if not USUAL_LR[0] <= lr <= USUAL_LR[1]:
        yield f"--lr {lr:g}: with AdamW one between {USUAL_LR[0]:g} and {USUAL_LR[1]:g} is usual"
    if not flight.mix.needs_signal:
        return
    for name, temperature in zip(("final temperature", "--temperature"), flight.mix.temperatures, strict=True):
        if not USUAL_TEMPERATURE[0] <= temperature <= USUAL_TEMPERATURE[1]:
            low, high = USUAL_TEMPERATURE
            yield f"{name} {temperature:g}: one between {low:g} and {high:g} is usual"
    if loss.accept_infidelity:
        yield "--accept-infidelity: the signal may be further from the teacher's than --max-angle"


def _records(flight: Flight) -> Iterator[str]:
    """Of what is kept of a run."""
    trainer, config = flight.trainer, flight.config
    if config.run.checkpoint_steps > trainer.total_steps:
        yield (
            f"--checkpoint-steps {config.run.checkpoint_steps:,} of {trainer.total_steps:,} steps: checkpoints are "
            "written at the ends of epochs alone"
        )
    if flight.stores.val is None:
        yield "no --val: nothing tells when the student begins to learn by heart, and there is no best model"
    patience, epochs = config.schedule.early_stopping_patience, config.schedule.epochs
    validations = 1 + epochs // config.validation.validation_frequency
    if patience is not None and patience >= validations:
        yield f"--early-stopping-patience {patience} of {validations} validations: training never stops early"
