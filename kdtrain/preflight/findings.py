"""What a check is, what it finds, and how checks are gone through after some of them have failed."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

import torch

from kdstore.errors import KDError, first_line
from kdtrain.preflight.flight import Flight

Status = Literal["pass", "warn", "fail", "skipped"]
T = TypeVar("T")


class Found(NamedTuple):
    """One thing that was found, in one line, which for a failure says what to do."""

    status: Status
    text: str


@dataclass(frozen=True)
class Check:
    """A check; it is skipped where one of those that it ``needs`` has failed or was skipped."""

    name: str
    look: Callable[[Flight], Iterable[Found]]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """What one check has found, and the seconds that it took."""

    check: str
    findings: tuple[Found, ...]
    seconds: float

    @property
    def failed(self) -> bool:
        """Whether anything in it has failed."""
        return any(one.status == "fail" for one in self.findings)

    @property
    def usable(self) -> bool:
        """Whether later checks can build on it."""
        return not self.failed and any(one.status != "skipped" for one in self.findings)


def passed(text: str) -> Found:
    """All is well."""
    return Found("pass", text)


def warned(text: str) -> Found:
    """A run is possible, and somebody should know."""
    return Found("warn", text)


def failed(text: str) -> Found:
    """A run would end early or be worth nothing."""
    return Found("fail", text)


def skipped(text: str) -> Found:
    """There was nothing to check, or no way to."""
    return Found("skipped", text)


def size(count: float) -> str:
    """So many bytes, for people."""
    return f"{count / 2**30:,.2f} GiB" if count >= 1 << 30 else f"{count / 2**20:,.1f} MiB"


def go_through(checks: Sequence[Check], flight: Flight) -> Iterator[Result]:
    """Go through checks in order. A cause that has already been told is not told again as a failure."""
    usable: set[str] = set()
    told: dict[str, str] = {}
    for check in checks:
        start = time.monotonic()
        if missing := [name for name in check.needs if name not in usable]:
            found = [skipped(f"needs what {' and '.join(missing)} could not give")]
        else:
            found = list(_guarded(check.look(flight)))
        result = Result(check.name, tuple(_once(found, told, check.name)), time.monotonic() - start)
        if result.usable:
            usable.add(check.name)
        yield result


def of_each(items: Iterable[T], look: Callable[[T], Iterable[Found]]) -> Iterator[Found]:
    """What is found of each of some things; one that fails does not keep the others from being looked at."""
    for item in items:
        yield from _guarded(look(item))


def _guarded(findings: Iterable[Found]) -> Iterator[Found]:
    """Findings, the last of which may be an error that a user can mend."""
    try:
        yield from findings
    except KDError as error:
        yield failed(" ".join(str(error).split()))
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        yield failed(f"Expected the operating system to allow this. Got: {error.strerror}{where}. Mend what it says.")
    except (torch.OutOfMemoryError, MemoryError) as error:
        yield failed(
            f"Expected this to fit into memory. Got: {first_line(error)}. Use a smaller --batch-size with more "
            "--gradient-accumulation-steps, or --gradient-checkpointing."
        )


def _once(findings: Iterable[Found], told: dict[str, str], name: str) -> Iterator[Found]:
    for one in findings:
        if one.status == "fail" and told.setdefault(one.text, name) != name:
            yield skipped(f"for the cause that {told[one.text]} gives")
        else:
            yield one
