"""The loaders of a run, from its configuration; together they keep to the memory that streaming may take."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from kdstore.errors import UsageError
from kdstore.store.reader import Store
from kdtrain.config import Config
from kdtrain.distributed import Processes
from kdtrain.stream.config import LastBatch, LoaderConfig
from kdtrain.stream.loader import Loader
from kdtrain.stream.mixture import Mixture
from kdtrain.stream.order import OrderConfig
from kdtrain.stream.plan import default_limit

_VAL_GROUP_BLOCKS = 8  # nothing is shuffled there, so that small groups will do


class Needs(NamedTuple):
    """What of a store is read beside tokens: the teacher's signal, and embeddings by name."""

    signal: bool
    embeddings: tuple[str, ...] = ()


def make_loaders(
    train: Sequence[Store],
    val: Store | None,
    config: Config,
    device: torch.device,
    needs: Needs,
    processes: Processes | None = None,
) -> tuple[Loader | Mixture, Loader | None]:
    """The training loader, a mixture where there are several stores, and the validation loader.

    Raises
    ------
    EmptyInputError, CapabilityError, UsageError
        See `Loader` and `Mixture`.
    """
    if config.data.mix and len(train) == 1:
        raise UsageError("Expected several stores with --mix. Got one. Name more stores, or leave --mix out.")
    processes = processes or Processes()
    limit = config.data.ram_limit or default_limit()
    val_loader = _validation(val, config, device, limit, needs, processes) if val else None
    if val_loader:
        limit -= val_loader.plan.expected_peak
    found = []
    for left in range(len(train), 0, -1):
        loader = training_loader(train[-left], config, device, max(1, limit // left), needs, processes)
        limit -= loader.plan.expected_peak
        found.append(loader)
    if len(found) == 1:
        return found[0], val_loader
    return Mixture(found, config.data.mix or [1.0] * len(found), _seed(config)), val_loader


def training_loader(
    store: Store,
    config: Config,
    device: torch.device,
    limit: int,
    needs: Needs,
    processes: Processes | None = None,
) -> Loader:
    """The loader of one training store within ``limit`` bytes."""
    data, processes = config.data, processes or Processes()
    most = min(store.rows, data.max_train_samples or store.rows)
    order = OrderConfig(
        _seed(config),
        streams=data.streams,
        group_blocks=data.group_blocks,
        epoch_rows=min(most, data.epoch_samples) if data.epoch_samples else None,
        sampling=data.epoch_sampling,
    )
    loader_config = LoaderConfig(
        batch_rows=data.batch_size,
        order=order,
        signal=needs.signal,
        embeddings=needs.embeddings,
        rank=processes.rank,
        world=processes.world,
        max_rows=data.max_train_samples,
        last=_last(data.last_batch, processes),
        length_grouped=data.length_grouped,
        ram_limit=limit,
        residency=data.residency,
        threads=data.read_threads,
    )
    return Loader(store, loader_config, device)


def _validation(
    store: Store, config: Config, device: torch.device, limit: int, needs: Needs, processes: Processes
) -> Loader:
    loader_config = LoaderConfig(
        batch_rows=config.data.batch_size,
        order=OrderConfig(_seed(config), group_blocks=_VAL_GROUP_BLOCKS, shuffle=False),
        signal=needs.signal,
        embeddings=needs.embeddings,
        rank=processes.rank,
        world=processes.world,
        last=_last("uneven", processes),
        max_rows=config.data.max_val_samples,
        ram_limit=limit,
        residency="window",
        threads=config.data.read_threads,
    )
    return Loader(store, loader_config, device)


def _last(last: LastBatch, processes: Processes) -> LastBatch:
    """Several processes take every step together: one that has no rows of an uneven batch takes rows of padding."""
    return "pad" if processes.world > 1 and last == "uneven" else last


def _seed(config: Config) -> int:
    return config.run.seed if config.data.sampling_seed is None else config.data.sampling_seed
