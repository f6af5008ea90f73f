"""Texts are parsed in workers, and no text can stop or outlive what waits for it."""

import multiprocessing
import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

import pytest

from kdstore.errors import TrainingError
from kdstore.parsing import MAX_CHARACTERS, ParserPool

JAVA, OTHER = "assertEquals(1, f(x));", "assertEquals(1, ;"
LEVEL = "a<b> c = x -> {"
ENDLESS = f"{LEVEL * 40}]{'};' * 40}"  # javalang has 2 ** 40 attempts at it


@pytest.fixture(autouse=True)
def _no_process_is_left():
    before = set(multiprocessing.active_children())
    yield
    assert set(multiprocessing.active_children()) == before


def workers() -> list[int]:
    """Process ids of the living workers."""
    return [child.pid for child in multiprocessing.active_children()]


def kill(pid: int) -> None:
    """Kill a process, and wait until it is dead."""
    end = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    select.select([end], [], [])
    os.close(end)


def counts(pool: ParserPool) -> tuple[int, int, int]:
    return pool.timeouts, pool.crashes, pool.too_long


@contextmanager
def blocked(number: signal.Signals) -> Iterator[None]:
    """Processes that start inside do not get this signal."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [number])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_answers_stand_in_the_order_of_the_texts() -> None:
    with ParserPool(workers=2) as pool:
        assert workers() == [], "the first text starts them"
        texts = [[JAVA] * 5 + [OTHER], [], [OTHER, JAVA] * 20]
        pending = [pool.submit(some) for some in texts]
        assert len(workers()) == 2
        for some, answers in reversed(list(zip(texts, pending, strict=True))):
            assert answers.result() == [text == JAVA for text in some]
        assert counts(pool) == (0, 0, 0)
        assert pool.waited_s > 0


def test_a_text_without_an_answer_is_invalid_and_counted() -> None:
    longest = JAVA + " " * (MAX_CHARACTERS - len(JAVA))
    with ParserPool(workers=2, limit_s=0.5) as pool:
        pending = pool.submit([JAVA, ENDLESS, longest, f"{longest} ", ENDLESS, JAVA])
        assert pending.result() == [True, False, True, False, False, True]
        assert counts(pool) == (2, 0, 1)


def test_a_text_that_ends_its_worker_is_found_out_among_others() -> None:
    # A worker that cannot be interrupted is ended by the kernel.
    with ParserPool(workers=2, limit_s=0.3) as pool, blocked(signal.SIGALRM):
        first, second = pool.submit([JAVA, OTHER, ENDLESS, JAVA]), pool.submit([OTHER, JAVA])
        assert first.result() == [True, False, False, True]
        assert second.result() == [False, True]
        assert counts(pool) == (0, 1, 0)
        assert pool.submit([JAVA]).result() == [True]


def test_a_text_that_takes_too_much_memory_is_a_crash() -> None:
    with ParserPool(memory_bytes=0) as pool:
        assert pool.submit([JAVA, "int x = 1; " * 1800, JAVA]).result() == [True, False, True]
        assert counts(pool) == (0, 1, 0)


def test_no_text_is_blamed_for_a_worker_that_somebody_else_ended() -> None:
    with ParserPool(limit_s=0.5) as pool:
        pending = pool.submit([JAVA, ENDLESS, JAVA, OTHER])
        kill(workers()[0])
        assert pending.result() == [True, False, True, False]
        assert counts(pool) == (1, 0, 0)


def test_workers_that_died_at_rest_are_replaced() -> None:
    with ParserPool(workers=2) as pool:
        for _ in range(2):
            assert pool.submit([JAVA, OTHER] * 4).result() == [True, False] * 4
            if workers():
                kill(workers()[0])  # the executor then ends the other one
        # Texts that meet a dying pool are answered one by one; new workers come with the first that meets a dead one.
        there = []
        for _ in range(5):
            assert pool.submit([JAVA, OTHER] * 4).result() == [True, False] * 4
            there.append(len(workers()))
        assert 2 in there
        assert counts(pool) == (0, 0, 0)


def test_closing_does_not_wait_for_a_text() -> None:
    with ParserPool(workers=2, limit_s=3600) as pool:
        pool.submit([ENDLESS] * 30)
        assert len(workers()) == 2
    assert workers() == []


def test_ctrl_c_in_the_terminal_leaves_the_workers_to_their_owner() -> None:
    with ParserPool() as pool:
        assert pool.submit([JAVA]).result() == [True]
        os.kill(workers()[0], signal.SIGINT)
        assert pool.submit([JAVA]).result() == [True]
        assert counts(pool) == (0, 0, 0)


def test_without_processes_training_ends_with_one_line() -> None:
    resource_tracker.ensure_running()
    multiprocessing.set_executable("/bin/false")
    try:
        with pytest.raises(TrainingError, match=r"Got: .+\. Raise the limits") as raised, ParserPool() as pool:
            pool.submit([JAVA, JAVA]).result()
    finally:
        multiprocessing.set_executable(sys.executable)
    assert "\n" not in str(raised.value)


def test_without_files_training_ends_with_one_line() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        with pytest.raises(TrainingError, match="Too many open files"), ParserPool() as pool:
            pool.submit([JAVA])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_workers_end_when_their_parent_is_killed() -> None:
    code = f"""
from kdstore.parsing import ParserPool
pool = ParserPool(workers=2, limit_s=3600)
print(pool.submit([{JAVA!r}] * 9).result(), flush=True)
pending = pool.submit([{ENDLESS!r}])
print("busy", flush=True)
pending.result()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout.readline() == f"{[True] * 9}\n"
        assert parent.stdout.readline() == "busy\n"
        parent.kill()
        # Ends when nobody has the other end any more; the workers have it too.
        assert parent.communicate(timeout=60) == ("", None)
