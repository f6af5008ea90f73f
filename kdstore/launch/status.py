"""What became of a build: which parts are in place, which tasks are to run again, and how."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from kdstore.errors import StoreError
from kdstore.launch import local, slurm
from kdstore.launch.record import LocalLaunch, SlurmLaunch, read_launch
from kdstore.store import atomic, layout
from kdstore.store.failures import Failure, read_failure
from kdstore.store.manifest import read_manifest
from kdstore.store.writer import finish, is_finished, missing_parts, pinned_head


@dataclass(frozen=True)
class StoreStatus:
    """One store: how many ``parts`` it gets and which are ``missing``; None before process 0 has settled that."""

    path: Path
    finished: bool
    parts: int | None
    missing: tuple[int, ...] | None


@dataclass(frozen=True)
class TaskStatus:
    """One process of a launch.

    ``state`` is ``done``, ``running``, ``pending``, ``failed`` (there is a ``failure``) or ``missing``: nothing is
    known of it, as when it was killed. ``missing_parts`` of it are not in place; None as in `StoreStatus`.
    """

    task: int
    state: str
    missing_parts: int | None
    failure: Failure | None


@dataclass(frozen=True)
class BuildStatus:
    """All stores of a build, and all tasks where it was launched.

    ``finalized``: all parts were there, and this call has made the stores readable. ``again`` is the command that
    runs what is neither done nor running; None where there is nothing to run, or nobody launched the build.
    """

    stores: tuple[StoreStatus, ...]
    tasks: tuple[TaskStatus, ...]
    finalized: bool
    again: str | None

    @property
    def finished(self) -> bool:
        """Whether all stores can be read."""
        return all(store.finished for store in self.stores)


def build_status(*roots: Path) -> BuildStatus:
    """Look at a build; finalize it when no part is missing and nobody else is about to.

    Parameters
    ----------
    roots
        A store of the build, or all of them; of a build that was launched and is not finished, one tells of all.

    Raises
    ------
    StoreError
        Nothing is or was being built there.
    CorruptStoreError
        A record of the build, or a part to be finalized, is damaged.
    """
    for root in roots:
        if not (root / layout.BUILD).is_dir():
            read_manifest(root)  # or its reason why there is none
    launch = next((found for root in roots if (found := read_launch(root))), None)
    outs = launch.outs if launch else roots
    stores = tuple(map(_store, outs))
    finalized = False
    if not all(store.finished for store in stores) and all(store.missing == () for store in stores):
        finalized = _finish(outs)
        stores = tuple(map(_store, outs))
    finished = all(store.finished for store in stores)
    tasks = _tasks(launch, stores) if launch and not finished else ()
    todo = [task.task for task in tasks if task.state in ("failed", "missing")]
    return BuildStatus(stores, tasks, finalized, launch.again(todo) if launch and todo else None)


def _finish(outs: Sequence[Path]) -> bool:
    """Finalize; False where a living build is going to do it, or has just done it."""
    with ExitStack() as stack:
        try:
            for out in outs:
                if not is_finished(out):
                    stack.enter_context(atomic.locked(layout.lock_path(out), "finishing"))
        except (StoreError, *atomic.VANISHED):
            return False
        return finish(outs)


def _store(out: Path) -> StoreStatus:
    head = pinned_head(out)
    if head is None:
        return StoreStatus(out, False, None, None)
    if is_finished(out):
        return StoreStatus(out, True, len(head.part_sizes()), ())
    return StoreStatus(out, False, len(head.part_sizes()), tuple(missing_parts(out, head)))


def _tasks(launch: LocalLaunch | SlurmLaunch, stores: Sequence[StoreStatus]) -> tuple[TaskStatus, ...]:
    left = _left(launch.tasks, stores)
    active = slurm.queued(launch) if isinstance(launch, SlurmLaunch) else local.running(launch)
    failures = (read_failure(launch.outs[0], task) for task in range(launch.tasks))
    return tuple(_task(task, left[task], active, failure, launch.tasks) for task, failure in enumerate(failures))


def _left(tasks: int, stores: Sequence[StoreStatus]) -> list[int | None]:
    """How many parts of each task are missing: task I writes every N-th of all stores' parts, from the I-th on."""
    missing: list[bool] = []
    for store in stores:
        if store.parts is None or store.missing is None:
            return [None] * tasks
        lost = set(store.missing)
        missing += [part in lost for part in range(store.parts)]
    return [sum(missing[task::tasks]) for task in range(tasks)]


def _task(task: int, left: int | None, active: dict[int, str], failure: Failure | None, tasks: int) -> TaskStatus:
    if failure and failure.count != tasks:
        failure = None  # of an earlier launch, with other shares
    if left == 0:
        return TaskStatus(task, "done", 0, None)
    state = active.get(task) or ("failed" if failure else "missing")
    return TaskStatus(task, state, left, failure if state == "failed" else None)
