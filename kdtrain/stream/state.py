"""Checks of what a loader's or a mixture's state holds before anything is resumed from it."""

from collections.abc import Mapping
from typing import Any

from kdstore.errors import MismatchError


def counted(state: Mapping[str, Any], name: str) -> int:
    """A count that a state must hold; raises `MismatchError` for anything else."""
    value = state.get(name)
    if type(value) is not int or not 0 <= value < 1 << 60:
        raise MismatchError(f"Expected a state with a count as its {name}. Got {value!r}. Start a new run.")
    return value


def check_same(state: Mapping[str, Any], mine: Mapping[str, Any]) -> None:
    """Raise `MismatchError`, which names the first difference, where a state was taken with other settings."""
    for name, value in mine.items():
        if state.get(name) != value:
            raise MismatchError(
                f"Expected {name} = {state.get(name)} as this run was started with. Got {value}. "
                "Resume with the same stores and settings, or start a new run."
            )
