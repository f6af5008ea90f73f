"""Whether a text is Java, by javalang: one definition for metrics and losses, and what bounds it in a worker process.

Loads neither torch nor anything else of the packages, so that a worker process starts fast.
"""

import os
import signal
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from types import FrameType

from javalang.parser import JavaSyntaxError, Parser
from javalang.tokenizer import EndOfInput, JavaToken, LexerError, tokenize

# What javalang raises on text that is not Java. Beyond its two own errors these are slips: `do {` ends in
# StopIteration, the escape \u-bEf in ValueError, deep nesting in RecursionError.
_NOT_JAVA = (
    JavaSyntaxError,
    LexerError,
    StopIteration,
    ValueError,
    RecursionError,
    IndexError,
    TypeError,
    AttributeError,
)
_AGAIN_S = 0.1


def parses_as_statements(text: str) -> bool:
    """Whether ``text`` is one Java statement or more, by javalang.

    javalang tries one reading after another, so that the time can double with every level of nesting: 300
    characters can take seconds, 1,000 for ever. Use `parses_within` for texts that nobody has seen.
    """
    try:
        # The line break ends a trailing comment, which would swallow the brace.
        tokens = list(tokenize(f"{{\n{text}\n}}"))
        if not _parentheses_match(tokens):
            return False
        parser = Parser(tokens)
        statements = parser.parse_block()
        # Text such as `} {` closes our brace early and leaves a rest behind.
        return bool(statements) and isinstance(parser.tokens.look(), EndOfInput)
    except _NOT_JAVA:
        return False


def _parentheses_match(tokens: Sequence[JavaToken]) -> bool:
    """Without this, javalang looks for ever for the end of an annotation like ``@A(``."""
    depth = 0
    for token in tokens:
        depth += (token.value == "(") - (token.value == ")")
        if depth < 0:
            return False
    return depth == 0


def parses_within(text: str, limit_s: float) -> bool:
    """As `parses_as_statements`, for at most ``limit_s`` seconds; in the main thread of a process only.

    Where Python cannot be interrupted, the kernel ends the process after twice that time on a processor.

    Raises
    ------
    TimeoutError
        It takes longer.
    """
    try:
        before = signal.signal(signal.SIGALRM, _too_long)
        try:
            # Again and again: an exception is lost where it meets a callback of the garbage collector.
            signal.setitimer(signal.ITIMER_REAL, limit_s, _AGAIN_S)
            signal.setitimer(signal.ITIMER_PROF, 2 * limit_s)  # SIGPROF, which nothing handles
            return parses_as_statements(text)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGALRM, before)
    except TimeoutError as error:
        # javalang was amid thousands of errors of its own, each the context of the next: a pool would write them all
        # down, and take longer for that than the text did.
        raise TimeoutError(*error.args) from None


def _too_long(number: int, frame: FrameType | None) -> None:
    raise TimeoutError("Expected javalang to decide in time. Got no answer. Count the text as invalid.")


def start_worker(life: Connection, memory_bytes: int) -> None:
    """Make this process a worker that can do no harm: initializer of a process pool.

    Parameters
    ----------
    life
        Reading end of a pipe to which nobody writes: the process ends when the other end is closed, which the
        kernel does where its owner is killed.
    memory_bytes
        How much memory the process may take beyond what it has now; a text that needs more raises MemoryError.
    """
    import resource

    import psutil

    # Ctrl-C reaches all processes of a terminal; the owner ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(life,), daemon=True).start()
    most = psutil.Process().memory_info().vms + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _end_with(life: Connection) -> None:
    wait([life])
    os._exit(1)
