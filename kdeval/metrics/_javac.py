"""Ask the parser of an installed JDK which texts are Java statements."""

import re
import shutil
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from kdstore.errors import CapabilityError, first_line

_PROGRAM: Final = Path(__file__).with_name("Parse.java")
# A small heap, one kind of compiled code, one thread to collect garbage: a batch takes about a second.
_OPTIONS: Final = ("-Xms32m", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_START_S: Final = 60.0
_TEXT_S: Final = 1.0  # the slowest text of 20,000 characters that we found takes 0.05
_ANSWERS: Final = {b"0"[0]: False, b"1"[0]: True}
_REMEDY: Final = "Install a JDK, 11 or later, or leave out javac_validity."


@dataclass(frozen=True, slots=True)
class Jdk:
    """A Java of this machine that has a compiler: its program, and the compiler's version."""

    java: str
    version: str

    def parse(self, sources: Sequence[bytes]) -> list[bool]:
        """Whether each text, in UTF-8, is one Java statement or more; one process of `Parse.java` for all.

        Raises
        ------
        CapabilityError
            The process cannot be started, ends early or takes longer than a minute and a second for each text.
        """
        if not sources:
            return []
        # The program's own directory, without classes: neither CLASSPATH nor the working directory has a say.
        command = [self.java, *_OPTIONS, "-cp", str(_PROGRAM.parent), str(_PROGRAM)]
        question = b"".join(struct.pack(">I", len(source)) + source for source in sources)
        limit_s = _START_S + _TEXT_S * len(sources)
        try:
            done = subprocess.run(command, input=question, capture_output=True, timeout=limit_s, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise self._failure(len(sources), first_line(error)) from None
        if done.returncode or len(done.stdout) != len(sources):
            said = _complaint(done.stderr)
            raise self._failure(
                len(sources), f"{len(done.stdout):,} answers, then it ended with code {done.returncode}: {said}"
            )
        return [_ANSWERS[answer] for answer in done.stdout]

    def _failure(self, texts: int, got: str) -> CapabilityError:
        return CapabilityError(f"Expected {self.java} to parse {texts:,} texts. Got {got.rstrip('.')}. {_REMEDY}")


def find_jdk() -> Jdk:
    """The Java on PATH, asked once for its version in the life of this process.

    Raises
    ------
    CapabilityError
        There is none, or it has no compiler.
    """
    java = shutil.which("java")
    if java is None:
        raise CapabilityError(f"Expected a JDK. Got no program java on PATH. {_REMEDY}")
    return Jdk(java, _compiler_version(java))


@cache
def _compiler_version(java: str) -> str:
    try:
        listed = subprocess.run([java, "--list-modules"], capture_output=True, timeout=_START_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CapabilityError(f"Expected a JDK. Got: {first_line(error).rstrip('.')}. {_REMEDY}") from None
    found = re.search(rb"^jdk\.compiler@(\S+)", listed.stdout, re.MULTILINE)
    if not found:
        raise CapabilityError(f"Expected a JDK. Got {java} without the module jdk.compiler. {_REMEDY}")
    return found[1].decode(errors="replace")


def _complaint(stderr: bytes) -> str:
    """The line in which a process of Java says why it ended."""
    lines = stderr.decode(errors="replace").splitlines()
    # The first line may only repeat the options in JAVA_TOOL_OPTIONS.
    return next((line for line in lines if line.strip() and not line.startswith("Picked up")), "no message")
