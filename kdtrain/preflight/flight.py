"""The run that is checked: what it was asked for, and what checks have found out for those after them."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import torch

from kdstore.store.reader import Store
from kdtrain.config import Config
from kdtrain.mix import Mix
from kdtrain.models import seq2seq
from kdtrain.preflight.sample import Sample
from kdtrain.run import Loaders, Stores
from kdtrain.stream.batch import Batch
from kdtrain.trainer import Trainer


@dataclass(frozen=True)
class Request:
    """What a run was asked for: its configuration, stores, run directory, and the command after it."""

    config: Config
    train: tuple[Path, ...]
    val: Path | None
    output_dir: Path | None
    resume: bool
    after: tuple[str, ...]


@dataclass
class Flight:
    """A request and, once the check that finds it has passed, each of the rest.

    ``stack`` keeps open what has to be closed at the end. ``opened`` are the stores that could be opened, ``samples``
    a sample of the rows of each training store, ``micro`` the first batches of training.
    """

    request: Request
    stack: ExitStack
    opened: list[Store] = field(default_factory=list)
    stores: Stores = field(init=False)
    device: torch.device = field(init=False)
    mix: Mix = field(init=False)
    samples: list[Sample] = field(init=False)
    loaders: Loaders = field(init=False)
    model: seq2seq.Model = field(init=False)
    trainer: Trainer = field(init=False)
    micro: list[Batch] = field(init=False)
    recommended: dict[str, int] | None = None

    @property
    def config(self) -> Config:
        """The configuration."""
        return self.request.config
