"""A build as processes on this machine: started together, watched, and stopped together."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from kdstore.console import note, progress
from kdstore.errors import StoreError
from kdstore.launch.record import LocalLaunch, write_launch
from kdstore.store import atomic
from kdstore.store.manifest import Head
from kdstore.store.writer import is_prepared, missing_parts, pinned_head

_POLL_S = 0.2
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_GRACE_S = 30.0  # between SIGTERM and SIGKILL: a process ends its batch, and removes what it has staged
_PROGRAM = "from kdstore.cli import main; main()"
_LAST_BYTES = 1 << 16  # of a log, in which its last words are looked for


@dataclass(frozen=True)
class Child:
    """One process of the build, and the file that gets all it says."""

    index: int
    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def code(self) -> int | None:
        """Its exit code as a shell has it (128 and the signal's number when it was killed); None while it runs."""
        code = self.process.poll()
        return code if code is None or code >= 0 else 128 - code


def logs_for(out: Path) -> Path:
    """Where the processes of a store's build write what they say: beside it."""
    return out.with_name(f"{out.name}.logs")


def run(launch: LocalLaunch) -> int:
    """Run a build as processes and wait for them; the exit code of the first that failed, or 0.

    A signal that ends this function ends them too: they are told by SIGTERM, so that they remove what they have
    staged.

    Raises
    ------
    StoreError
        The processes of an earlier launch are still running.
    """
    logs = logs_for(launch.outs[0])
    with atomic.locked(_lock(launch), "running the processes of this build"), _signals_wait() as arrived:
        write_launch(launch)
        children: list[Child] = []
        try:
            for index in range(launch.tasks):
                # One by one: those that were started are stopped when another cannot be.
                children.append(_start(launch, index, logs / f"{index}.log"))  # noqa: PERF401
            return _watch(children, launch.outs, arrived)
        finally:
            _stop(children)


def running(launch: LocalLaunch) -> dict[int, str]:
    """All tasks as ``running`` while their launcher lives."""
    if not _lock(launch).is_file():
        return {}
    try:
        with atomic.locked(_lock(launch), "looking"):
            return {}
    except StoreError:
        return dict.fromkeys(range(launch.tasks), "running")


def environment(index: int, tasks: int, threads: int | None) -> dict[str, str]:
    """What process ``index`` of ``tasks`` sees: its threads and, where there are several GPUs, one of them.

    What the user has set stays, but for ``threads``.
    """
    env = dict(os.environ)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads or "OMP_NUM_THREADS" not in env:
        env["OMP_NUM_THREADS"] = str(threads or max(1, cores // tasks))
    gpus = _gpus()
    if gpus > 1 and "CUDA_VISIBLE_DEVICES" not in env:
        env["CUDA_VISIBLE_DEVICES"] = str(index % gpus)
    return env


def _gpus() -> int:
    """How many GPUs the driver lists; asked without loading torch."""
    if shutil.which("nvidia-smi") is None:
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines()) if listed.returncode == 0 else 0


def _lock(launch: LocalLaunch) -> Path:
    return logs_for(launch.outs[0]) / ".lock"


def _start(launch: LocalLaunch, index: int, log: Path) -> Child:
    command = [sys.executable, "-c", _PROGRAM, "build", *launch.argv, "--share", f"{index}/{launch.tasks}"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=launch.cwd,
            env=environment(index, launch.tasks, launch.threads),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            # Ctrl-C reaches the launcher alone, which then stops each of them once.
            process_group=0,
        )
    return Child(index, process, log)


def _watch(children: Sequence[Child], outs: Sequence[Path], arrived: Sequence[int]) -> int:
    """Show progress and tell of failures until all have ended; the first failure's exit code, or 0.

    Returns early when a signal has ``arrived``, and when process 0 failed before the others could begin.
    """
    failures = _Failures(children)
    with progress("process 0 settles the build", None):
        while not (all(map(is_prepared, outs)) or arrived or children[0].code is not None):
            failures.tell()
            time.sleep(_POLL_S)
    if arrived or not all(map(is_prepared, outs)):
        failures.tell()
        return failures.first
    heads = {out: head for out in outs if (head := pinned_head(out))}
    with progress("parts", sum(len(head.part_sizes()) for head in heads.values())) as bar:
        done = 0
        while True:
            ended = all(child.code is not None for child in children)
            failures.tell()
            now = _parts_in_place(heads)
            bar.advance(now - done)
            done = now
            if ended or arrived:
                return failures.first
            time.sleep(_POLL_S)


class _Failures:
    """Tells once of each child that has failed, and keeps the exit code of the ``first``."""

    def __init__(self, children: Sequence[Child]) -> None:
        self._children = children
        self._told: set[int] = set()
        self.first = 0

    def tell(self) -> None:
        for child in self._children:
            if child.code and child.index not in self._told:
                self._told.add(child.index)
                self.first = self.first or child.code
                note(
                    f"process {child.index} {_end(child.process.returncode)}: {_last_words(child.log)} ({child.log})"
                )


def _end(returncode: int) -> str:
    if returncode < 0:
        return f"was killed by {signal.Signals(-returncode).name}"
    return f"failed with exit code {returncode}"


def _parts_in_place(heads: dict[Path, Head]) -> int:
    return sum(len(head.part_sizes()) - len(missing_parts(out, head)) for out, head in heads.items())


def _last_words(log: Path) -> str:
    """The last error in a log, or else its last line."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LAST_BYTES))
        lines = file.read().decode("utf-8", "replace").splitlines()
    said = [line.strip() for line in lines if line.strip()]
    errors = [line for line in said if "error:" in line.lower()]
    return (errors or said or ["it said nothing"])[-1]


def _stop(children: Sequence[Child]) -> None:
    """End all that still run, by force after a while; returns when none does."""
    alive = [child for child in children if child.code is None]
    deadline = time.monotonic() + _GRACE_S
    try:
        for child in alive:
            child.process.terminate()
        for child in alive:
            child.process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        note(f"processes that did not end within {_GRACE_S:g} s of SIGTERM are killed.")
    finally:
        for child in alive:
            if child.code is None:
                os.killpg(child.process.pid, signal.SIGKILL)
                child.process.wait()


@contextmanager
def _signals_wait() -> Iterator[list[int]]:
    """Signals that would end the program do so after the block, which gets a list of those that have arrived.

    An exception in the middle of starting a process would leave one that nobody knows of.
    """
    arrived: list[int] = []

    def remember(signum: int, frame: FrameType | None) -> None:
        arrived.append(signum)

    ending = [number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, remember) for number in ending}
    try:
        yield arrived
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if signal.SIGINT in arrived:
        raise KeyboardInterrupt
    if arrived:
        raise SystemExit(128 + arrived[0])
