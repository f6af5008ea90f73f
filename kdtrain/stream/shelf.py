"""Which groups of rows are in memory: of each stream the one in use, and the next, which is being read meanwhile."""

import faulthandler
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from kdtrain.stream.reader import Group
from kdtrain.stream.window import Window

STALL_SECONDS = 60


class GroupKey(NamedTuple):
    """A group of a stream in a pass."""

    pass_: int
    stream: int
    group: int


@dataclass(frozen=True)
class Held:
    """A group in memory: its rows in reading order, as indices into a window, int64 [R], and positions, int64 [R, 3].

    ``group`` is the memory that the window needs; None where it is not this group's alone.
    """

    window: Window
    rows_R: NDArray[np.int64]
    positions_RP: NDArray[np.int64]
    group: Group | None


class Shelf:
    """Holds groups while they are in use; a context manager that ends its thread.

    Parameters
    ----------
    load
        Reads a group; called in a thread of the shelf's own.
    drop
        Called with what is no longer needed.
    upcoming
        The groups of each stream, in the order in which they will be asked for. Groups of other streams can be asked
        for too; they are read when they are, and only one of them is held.
    ahead
        How many groups of a stream are read while one is in use: 0 or 1.
    kept
        Groups that are in memory already, see `leave`.
    """

    def __init__(
        self,
        load: Callable[[GroupKey], Held],
        drop: Callable[[Held], None],
        upcoming: Iterable[Sequence[GroupKey]],
        ahead: int,
        kept: Mapping[GroupKey, Held],
    ) -> None:
        self._load, self._drop = load, drop
        self._streams: set[int] = set()
        self._next: dict[GroupKey, GroupKey] = {}
        for keys in upcoming:
            self._streams |= {key.stream for key in keys}
            self._next |= pairwise(keys) if ahead else ()
        self._current: dict[int, GroupKey] = {}
        self._held = {key: _done(held) for key, held in kept.items()}
        self._thread = ThreadPoolExecutor(1, "kdtrain-shelf")

    def __enter__(self) -> Self:
        """The shelf itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop everything and end the thread; a group that is being read is waited for."""
        self._thread.shutdown(cancel_futures=True)
        for key in list(self._held):
            self._let_go(key)

    def get(self, key: GroupKey) -> Held:
        """The rows of a group; the group before it in its stream is dropped.

        Raises
        ------
        CorruptStoreError
            A block cannot be read.
        """
        if self._current.get(key.stream) != key:
            self._turn_to(key)
        return self._held[key].result()

    def leave(self, keys: Iterable[GroupKey]) -> dict[GroupKey, Held]:
        """Take out those of some groups that are in use; they are not dropped at the end."""
        taken = [key for key in keys if key in self._current.values()]
        return {key: self._held.pop(key).result() for key in taken}

    def _turn_to(self, key: GroupKey) -> None:
        for stream, other in list(self._current.items()):
            if stream == key.stream or not {stream, key.stream} & self._streams:
                self._let_go(other)
        # What was read ahead and has been passed over, because all of its rows went to other ranks.
        for other in [held for held in self._held if held.stream == key.stream and held < key]:
            self._let_go(other)
        self._current[key.stream] = key
        self._ask_for(key)
        _wait(self._held[key])
        if key in self._next:
            self._ask_for(self._next[key])

    def _ask_for(self, key: GroupKey) -> None:
        if key not in self._held:
            self._held[key] = self._thread.submit(self._load, key)

    def _let_go(self, key: GroupKey) -> None:
        self._current = {stream: other for stream, other in self._current.items() if other != key}
        future = self._held.pop(key)
        if not future.cancelled() and future.exception() is None:
            self._drop(future.result())


def _done(held: Held) -> "Future[Held]":
    future: Future[Held] = Future()
    future.set_result(held)
    return future


def _wait(future: "Future[Held]") -> None:
    """Wait for a group; when that takes suspiciously long, what all threads are doing is printed on stderr."""
    if future.done():
        return
    if not sys.__stderr__:  # a daemon has none
        future.exception()
        return
    faulthandler.dump_traceback_later(STALL_SECONDS, file=sys.__stderr__)
    try:
        future.exception()
    finally:
        faulthandler.cancel_dump_traceback_later()
