"""Checks of the model, alone and together with what it is trained on."""

from collections.abc import Iterator

import torch

from kdstore.errors import ModelError
from kdtrain import checks
from kdtrain.distributed import Processes
from kdtrain.preflight.findings import Found, passed, warned
from kdtrain.preflight.flight import Flight
from kdtrain.run import make_model, open_loaders, put_together
from kdtrain.sections import NONE


def model(flight: Flight) -> Iterator[Found]:
    """Can the model be loaded, and are its weights numbers?"""
    settings = flight.config.model
    found, name = make_model(flight.stores.train[0], flight.config), settings.from_scratch or settings.model_name
    for key, weights in found.named_parameters():
        if not bool(torch.isfinite(weights).all()):
            raise ModelError(
                f"Expected finite weights in the model {name}. Got NaN or infinity in {key!r}. Use another "
                "checkpoint of it."
            )
    flight.model = found
    count = sum(weights.numel() for weights in found.parameters())
    how = "with random weights" if settings.from_scratch else "loaded"
    yield passed(f"{name}, {how}: {count:,} weights, all finite")


def tokenizer(flight: Flight) -> Iterator[Found]:
    """Has the model the store's tokenizer, vocabulary and special ids?"""
    store, settings = flight.stores.train[0], flight.config.model
    ids = f"{store.head.vocab_size:,} ids"
    if settings.from_scratch:
        yield passed(f"the student starts with the store's tokenizer: {ids}")
        return
    checks.check_model(flight.model, settings.model_name, store, exact=flight.mix.needs_signal)
    special = store.head.tokenizer
    yield passed(
        f"{settings.model_name} has the store's: {ids}, pad {special.pad_id}, end {special.eos_id}, decoder start "
        f"{special.decoder_start_id}"
    )


def streaming(flight: Flight) -> Iterator[Found]:
    """Does what streaming keeps in memory fit into --ram-limit?"""
    flight.loaders = open_loaders(flight.stores, flight.config, flight.device, flight.mix, Processes())
    for loader in flight.readers:
        yield passed(f"{loader.store.root}: {loader.describe()}")
    for note in checks.too_few(flight.stores.train, flight.stores.val, flight.config.data):
        yield warned(note)


def student(flight: Flight) -> Iterator[Found]:
    """Can model, loss, loaders and optimizer be put together? What they make is thrown away at the end."""
    config = flight.config
    # The validator has a check of its own, and does not keep a student from learning.
    quiet = config.model_copy(update={"validation": config.validation.model_copy(update={"validator": NONE})})
    flight.trainer = flight.stack.enter_context(
        put_together(flight.stores, quiet, flight.run, flight.model, flight.loaders, Processes())
    )
    trainer, schedule = flight.trainer, config.schedule
    rows = config.data.batch_size * schedule.gradient_accumulation_steps
    yield passed(
        f"{trainer.total_steps:,} steps of {rows:,} rows, {trainer.steps_per_epoch:,} to an epoch, at most "
        f"{schedule.epochs:,} epochs"
    )
