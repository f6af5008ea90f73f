"""Validate data from outside with pydantic, and say what is wrong in one line."""

from collections.abc import Mapping
from reprlib import Repr
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from kdstore.errors import KDError, UsageError

M = TypeVar("M")

_LONGEST = 80


def parse(
    model: type[M] | TypeAdapter[M],
    data: Mapping[str, Any] | str | bytes,
    what: str,
    error: type[KDError] = UsageError,
) -> M:
    """Build ``model`` from a mapping or JSON text; ``what`` names the data in the message.

    ``model`` is a pydantic model, or what validates a type that is none.

    Raises
    ------
    KDError
        Of the class ``error``: the first problem, where it is, and what was expected there.
    """
    schema = model if isinstance(model, TypeAdapter) else TypeAdapter(model)
    try:
        return schema.validate_json(data) if isinstance(data, (str, bytes)) else schema.validate_python(data)
    except ValidationError as invalid:
        first = invalid.errors(include_url=False)[0]
        where = _brief(".".join(str(part) for part in first["loc"]) or "the whole")
        got = _brief(_Brief().repr(first["input"]))
        raise error(f"Expected valid {what}. Got {got} at {where}: {first['msg']}.") from None


def _brief(text: str) -> str:
    """The beginning of a text, in one line."""
    line = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text[: _LONGEST + 1])
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."


class _Brief(Repr):
    """The beginning of a value, however large it is, or becomes when lists that it shares are spelt out."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = self.maxother = self.maxlong = 2 * _LONGEST

    def repr_int(self, x: int, level: int) -> str:
        """Python refuses to write huge integers."""
        return super().repr_int(x, level) if x.bit_length() < 1024 else f"an integer of {x.bit_length():,} bits"
