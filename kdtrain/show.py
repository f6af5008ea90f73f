"""A resolved configuration as text: a listing with the source of each value, TOML that gives it again, JSON."""

import json
from collections.abc import Iterator
from typing import Any

from kdtrain.config import DEFAULT, Resolved, sections


def listing(resolved: Resolved) -> Iterator[str]:
    """Lines for people: a section's name, then a parameter, its value and its source on each."""
    tables = resolved.config.model_dump(mode="json")
    width = max(len(key) for table in tables.values() for key in table)
    values = {key: _toml(value) for table in tables.values() for key, value in table.items()}
    widest = max(len(value) for key, value in values.items() if resolved.source(key) == DEFAULT)
    for name, table in tables.items():
        yield f"[{name}]"
        for key in table:
            yield f"  {key:<{width}}  {values[key]:<{widest}}  {resolved.source(key)}"


def as_toml(resolved: Resolved) -> str:
    """A recipe that gives this configuration; what is not set is left out, as in a recipe by hand."""
    lines = []
    for name, table in resolved.config.model_dump(mode="json").items():
        lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items() if value is not None)]
    return "\n".join(lines[1:]) + "\n"


def as_object(resolved: Resolved) -> dict[str, Any]:
    """Values, sources and checksum, for scripts."""
    config = resolved.config
    sources = {
        name: {key: resolved.source(key) for key in section.model_fields} for name, section in sections().items()
    }
    return {"config": config.model_dump(mode="json"), "sources": sources, "sha256": config.sha256()}


def _toml(value: Any) -> str:
    """A value in TOML notation; ``none``, which TOML has not, for what is not set."""
    if value is None:
        return "none"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    # JSON's notation of the rest is TOML's too, but for a control character that JSON leaves as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
