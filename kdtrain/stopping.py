"""Stop at the end of an optimizer step when a signal asks for it.

Ctrl-C, SIGTERM and SIGUSR1 are remembered; training then writes a checkpoint after the step that runs, and ends. A
second Ctrl-C ends the program where it is; other signals are sent twice by batch systems and launchers, and mean one
thing. SLURM sends SIGUSR1 some time before a job's limit when told to (``--signal``): exit code 75 then tells the
job's script to put the job back into the queue.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from kdstore.errors import RequeueError

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Stop:
    """The signal that asked training to stop; 0 while none has."""

    def __init__(self) -> None:
        self.signal = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take note of signals while the block runs; in a thread none arrive, and nothing is done."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal and number == signal.SIGINT:
            end(number, "at once")
        self.signal = self.signal or number


@contextmanager
def making_room() -> Iterator[None]:
    """Let SIGUSR1 end the program with `RequeueError` while the block runs, before training and after it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGUSR1, lambda number, frame: end(number, "at once; what was complete is kept"))
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def end(number: int, when: str) -> NoReturn:
    """End the program as the signal asks.

    Raises
    ------
    KeyboardInterrupt, SystemExit, RequeueError
        For SIGINT, SIGTERM and SIGUSR1.
    """
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    if number == signal.SIGTERM:
        raise SystemExit(128 + number)
    raise RequeueError(f"stopped by SIGUSR1 {when}. Run the same command with --resume auto to continue.")
