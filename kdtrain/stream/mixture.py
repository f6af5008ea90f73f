r"""Mix the batches of several stores by weight, in an order that is as exact and resumable as that of one.

Batches are dealt by *periods*. Store s has :math:`k_s = \max(1, round(w_s P / \sum w))` of the slots of every period,
and each period permutes its slots anew. So the number of batches that store s has given before batch t of the mixture
follows from t alone: :math:`k_s \lfloor t / K \rfloor` and its slots among the first :math:`t \bmod K` of the running
period, where :math:`K = \sum k_s`. Each store goes through its own epochs meanwhile, whatever the others do.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from kdstore.codecs import Codec, Signal
from kdstore.errors import MismatchError, UsageError
from kdtrain.stream.batch import Batch
from kdtrain.stream.loader import Loader
from kdtrain.stream.order import Indices, Key
from kdtrain.stream.state import check_same, counted

PERIOD = 100  # weights count to a hundredth


class Mixture(IterableDataset[Batch]):
    """Batches of several loaders, mixed by weight; used as a `Loader` is.

    An epoch has as many batches as the loaders' epochs together. ``Batch.source`` says which loader one comes from.

    Parameters
    ----------
    loaders
        At least one, all for the same rank.
    weights
        One for each loader: its share of the batches.
    seed
        Settles the order of slots.

    Raises
    ------
    UsageError
        There are not as many weights as loaders, or one is not positive; or ranks could have different numbers of
        batches.
    """

    def __init__(self, loaders: Sequence[Loader], weights: Sequence[float], seed: int) -> None:
        if len(weights) != len(loaders) or not all(0 < weight < float("inf") for weight in weights):
            raise UsageError(
                f"Expected a weight above 0 for each of {len(loaders)} stores. Got "
                f"{', '.join(f'{weight:g}' for weight in weights) or 'none'}. Give one for each: --mix 3,1."
            )
        if any(loader.config.world > 1 and loader.config.last == "uneven" for loader in loaders):
            raise UsageError("Expected as many batches on every rank of a mixture. Got --last-batch uneven. Use pad.")
        self.loaders, self.seed = list(loaders), seed
        shares = np.asarray(weights) / sum(weights)
        self.slots = np.maximum(1, np.rint(shares * PERIOD)).astype(np.int64)
        self.epoch = 0
        self.batches_yielded = 0

    @property
    def batches(self) -> int:
        """Batches of one epoch."""
        return sum(loader.batches for loader in self.loaders)

    @property
    def rows(self) -> int:
        """Rows of one epoch of every loader, over all ranks."""
        return sum(loader.rows for loader in self.loaders)

    def __len__(self) -> int:
        """Batches of one epoch."""
        return self.batches

    def __iter__(self) -> Generator[Batch, None, None]:
        """Yield what is left of the current epoch; afterwards the state is the start of the next one.

        Raises
        ------
        CorruptStoreError
            As for `Loader`.
        UsageError
            In a worker process: a mixture is not divided among workers.
        """
        if get_worker_info():
            raise UsageError("Expected a mixture to be read in its own process. Got a worker. Use num_workers=0.")
        first = self.epoch * self.batches
        with ExitStack() as stack:
            running: list[Iterator[Batch]] = [
                stack.enter_context(closing(_endless(loader, source))) for source, loader in enumerate(self.loaders)
            ]
            for index in range(first + self.batches_yielded, first + self.batches):
                batch = next(running[self._source(index)])
                self.batches_yielded += 1
                if self.batches_yielded == self.batches:  # told before the last batch is handed out, as by `Loader`
                    self.epoch, self.batches_yielded = self.epoch + 1, 0
                yield batch

    def signal(self, batch: Batch, temperature: float) -> Signal | None:
        """See `Loader.signal`."""
        return self.loaders[batch.source].signal(batch, temperature)

    def codec_of(self, batch: Batch) -> Codec[Any] | None:
        """See `Loader.codec_of`."""
        return self.loaders[batch.source].codec

    def sample_ids(self, batch: Batch, rows: int | None = None) -> list[str]:
        """See `Loader.sample_ids`."""
        return self.loaders[batch.source].sample_ids(batch, rows)

    def account(self, epoch: int) -> str:
        """What the epochs up to this one, counted from 0, took of every store: above 1 are repeats."""
        before = self._before((epoch + 1) * self.batches).tolist()
        return "; ".join(
            f"{loader.store.root}: {batches / loader.batches:.2f} of its epochs"
            for loader, batches in zip(self.loaders, before, strict=True)
        )

    def state_dict(self) -> dict[str, Any]:
        """Where the next batch starts, and the state of every loader."""
        return {
            **self._identity(),
            "epoch": self.epoch,
            "batches_yielded": self.batches_yielded,
            "loaders": [loader.state_dict() for loader in self.loaders],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state`` was taken.

        Raises
        ------
        MismatchError
            The state belongs to another mixture; what differs is named.
        """
        check_same(state, self._identity())
        epoch, batches, states = counted(state, "epoch"), counted(state, "batches_yielded"), state.get("loaders")
        if batches >= self.batches or not isinstance(states, list) or len(states) != len(self.loaders):
            raise MismatchError(
                f"Expected a state of this mixture of {len(self.loaders)} stores and {self.batches:,} batches. Got "
                f"{batches:,} batches. Resume with the same stores and settings, or start a new run."
            )
        given = self._before(epoch * self.batches + batches).tolist()
        before = [loader.state_dict() for loader in self.loaders]
        try:
            for loader, its, taken in zip(self.loaders, states, given, strict=True):
                loader.load_state_dict(its)
                if loader.epoch * loader.batches + -(-loader.rows_yielded // loader.config.batch_rows) != taken:
                    raise MismatchError(
                        f"Expected {loader.store.root} to have given {taken:,} batches, as the state of the mixture "
                        "says. Got another place in the state of its loader. Start a new run."
                    )
        except MismatchError:
            for loader, its in zip(self.loaders, before, strict=True):
                loader.load_state_dict(its)
            raise
        self.epoch, self.batches_yielded = epoch, batches

    def _identity(self) -> dict[str, Any]:
        return {"slots of the stores": self.slots.tolist(), "seed of the mixture": self.seed}

    def _slots(self, period: int) -> Indices:
        """Which loader each slot of a period belongs to."""
        key = Key("mixture", self.seed, period)
        return np.repeat(np.arange(len(self.slots)), self.slots)[key.permutation(int(self.slots.sum()), "slots")]

    def _source(self, batch: int) -> int:
        period, slot = divmod(batch, int(self.slots.sum()))
        return int(self._slots(period)[slot])

    def _before(self, batch: int) -> Indices:
        """How many batches of each loader come before a batch of the mixture."""
        period, slot = divmod(batch, int(self.slots.sum()))
        return period * self.slots + np.bincount(self._slots(period)[:slot], minlength=len(self.slots))


def _endless(loader: Loader, source: int) -> Generator[Batch, None, None]:
    """A loader's epochs one after the other, with their source."""
    while True:
        for batch in loader:
            yield replace(batch, source=source)
