"""Parse generated texts as Java in processes of their own.

javalang can take for ever on a text that a model makes up (see `kdstore.java`); in a worker it can stop nothing.
"""

import time
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from multiprocessing import get_context
from types import TracebackType
from typing import Self

from kdstore.errors import TrainingError, first_line
from kdstore.java import parses_within, start_worker

MAX_CHARACTERS = 20_000
"""Longer texts are invalid, and not parsed. Assertions have about a hundred characters."""


class ParserPool:
    """Decides in worker processes which texts are Java statements; a context manager.

    Workers are spawned, never forked, so that torch and its threads do not matter to them, and start with the
    first text. Each loads the program's main module, as all of Python's spawned processes do: a script that makes a
    pool needs its ``if __name__ == "__main__"``. None outlives `close` or this process, however that ends.

    A text that cannot be decided is invalid, and counted: one that takes longer than ``limit_s``, that ends its
    worker, needs more than ``memory_bytes`` or breaks javalang, or that has more than `MAX_CHARACTERS`. Workers
    that die are replaced; the texts that were with them are parsed again, one by one, so that the right one is
    blamed.

    Parameters
    ----------
    workers
        Number of processes, at least 1.
    limit_s
        Seconds that a text may take.
    memory_bytes
        Memory that a worker may take beyond what it starts with.

    Attributes
    ----------
    timeouts, crashes, too_long
        Number of texts so far that took too long, that broke their worker or javalang, that were too long to parse.
    waited_s
        Seconds spent in `Pending.result` so far.
    """

    def __init__(self, workers: int = 1, limit_s: float = 5.0, memory_bytes: int = 1 << 30) -> None:
        self.workers, self.limit_s, self.memory_bytes = workers, limit_s, memory_bytes
        self.timeouts = self.crashes = self.too_long = 0
        self.waited_s = 0.0
        self._running: _Workers | None = None

    def submit(self, texts: Sequence[str]) -> "Pending":
        """Start to parse ``texts``, and return at once.

        Raises
        ------
        TrainingError
            The system lacks what a pool of processes needs.
        """
        return Pending(self, texts, [self._start(text) for text in texts])

    def close(self) -> None:
        """End the workers, whatever they parse; one that is starting ends when it has. What was submitted is lost."""
        if self._running is not None:
            self._running.close()
            self._running = None

    def __enter__(self) -> Self:
        """The pool itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _start(self, text: str) -> Future[bool] | None:
        if len(text) > MAX_CHARACTERS:
            self.too_long += 1
            return None
        future = self._workers().parse(text, self.limit_s)
        if self._workers().dead:
            self.close()
            future = self._workers().parse(text, self.limit_s)
        return future

    def _workers(self) -> "_Workers":
        if self._running is None:
            self._running = _Workers(self.workers, self.memory_bytes)
        return self._running

    def _collect(self, texts: Sequence[str], futures: Sequence[Future[bool] | None]) -> list[bool]:
        answers = [future is not None and self._answer(future) for future in futures]
        lost = [text for text, answer in zip(texts, answers, strict=True) if answer is None]
        with closing(self._one_by_one(lost)) as again:
            return [next(again) if answer is None else answer for answer in answers]

    def _answer(self, future: Future[bool]) -> bool | None:
        """Whether a text is valid; None where its worker, or one beside it, is dead."""
        try:
            return future.result()
        except BrokenProcessPool:
            return None
        except TimeoutError:
            self.timeouts += 1
        except Exception:  # MemoryError, and whatever javalang has not raised before; counted, and training goes on
            self.crashes += 1
        return False

    def _one_by_one(self, texts: Sequence[str]) -> Generator[bool, None, None]:
        """Parse texts each alone in a worker: where that dies, this text is why."""
        alone: _Workers | None = None
        try:
            for text in texts:
                if alone is None:
                    alone = _Workers(1, self.memory_bytes)
                    alone.check()
                answer = self._answer(alone.parse(text, self.limit_s))
                if answer is None:
                    self.crashes += 1
                    alone.close()
                    alone = None
                yield bool(answer)
        finally:
            if alone is not None:
                alone.close()


class Pending:
    """Texts that a `ParserPool` is parsing."""

    def __init__(self, pool: ParserPool, texts: Sequence[str], futures: Sequence[Future[bool] | None]) -> None:
        self._pool, self._texts, self._futures = pool, texts, futures

    def result(self) -> list[bool]:
        """Wait for the workers: for each text, whether it is valid. To be called once, before the pool is closed.

        Raises
        ------
        TrainingError
            No process can be started, or it dies before it has been given a text.
        """
        started = time.perf_counter()
        try:
            return self._pool._collect(self._texts, self._futures)
        finally:
            self._pool.waited_s += time.perf_counter() - started


class _Workers:
    """An executor whose processes hold one end of a pipe, and end when the other one is closed."""

    def __init__(self, count: int, memory_bytes: int) -> None:
        try:
            context = get_context("spawn")
            self._life, self._hold = context.Pipe(duplex=False)
            self._executor = ProcessPoolExecutor(count, context, start_worker, (self._life, memory_bytes))
        except (OSError, NotImplementedError) as error:  # the latter: a system without semaphores
            raise _no_worker(error) from None
        self.dead = False

    def parse(self, text: str, limit_s: float) -> Future[bool]:
        """Start to parse a text; a failed future where a worker is dead or cannot be started."""
        try:
            return self._executor.submit(parses_within, text, limit_s)
        except _DEAD:
            self.dead = True
            failed: Future[bool] = Future()
            failed.set_exception(BrokenProcessPool())
            return failed

    def check(self) -> None:
        """Raise `TrainingError` where workers die without having been given a text."""
        try:
            self._executor.submit(bool).result()
        except _DEAD as error:
            raise _no_worker(error) from None

    def close(self) -> None:
        self._hold.close()
        self._executor.shutdown()
        self._life.close()


# OSError: a process cannot be started, or the executor has closed its queue because another one has just died.
_DEAD = (BrokenProcessPool, OSError)


def _no_worker(error: Exception) -> TrainingError:
    return TrainingError(
        f"Expected a process that parses generated Java. Got: {first_line(error).rstrip('.')}. "
        "Raise the limits on memory, processes and open files, or do without what parses Java (ast, ast_validity)."
    )
