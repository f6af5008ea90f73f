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
from kdtrain.rundir import RunDir
from kdtrain.stream.batch import Batch
from kdtrain.stream.loader import Loader
from kdtrain.stream.mixture import Mixture
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
    a sample of the rows of each training store, ``micro`` the first batches of training. ``compares``: whether the
    loss reads the teacher's signal, which it does as long as nobody knows better.
    """

    request: Request
    stack: ExitStack
    opened: list[Store] = field(default_factory=list)
    compares: bool = True
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

    @property
    def run(self) -> RunDir:
        """The run directory; one without a name is new."""
        return RunDir(self.request.output_dir or Path("results") / "new")

    @property
    def readers(self) -> list[Loader]:
        """The loader of each store."""
        train, val = self.loaders
        return [*(train.loaders if isinstance(train, Mixture) else [train]), *filter(None, [val])]
