"""Validate data from outside with pydantic, and say what is wrong in one line."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from kdstore.errors import KDError, UsageError

M = TypeVar("M", bound=BaseModel)


def parse(model: type[M], data: Mapping[str, Any] | str | bytes, what: str, error: type[KDError] = UsageError) -> M:
    """Build ``model`` from a mapping or JSON text; ``what`` names the data in the message.

    Raises
    ------
    KDError
        Of the class ``error``: the first problem, where it is, and what was expected there.
    """
    try:
        if isinstance(data, (str, bytes)):
            return model.model_validate_json(data)
        return model.model_validate(data)
    except ValidationError as invalid:
        first = invalid.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        got = repr(first["input"])
        raise error(
            f"Expected valid {what}. Got {got[:80]}{'...' if len(got) > 80 else ''} at {where}: {first['msg']}."
        ) from None
