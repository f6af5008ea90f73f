"""The configuration of a run: sections of parameters, put together from layers of which later ones win.

A parameter's name is its key in TOML and, with dashes, its option on the command line; names are unique over all
sections. Layers, in order: defaults, the recipe, the preset, options, ``--set``.
"""

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Literal, cast

from kdstore.errors import UnknownNameError, UsageError, first_line
from kdstore.validation import parse
from kdtrain.sections import (
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    ScheduleConfig,
    Section,
    ValidationConfig,
)

__all__ = [
    "Config", "Layer", "LossConfig", "Resolved", "Tables", "built_in", "check_names", "combine", "option_of",
    "read_preset", "read_recipe", "resolve", "section_of", "sections",
]  # fmt: skip

Tables = dict[str, dict[str, Any]]
DEFAULT: Final = "default"
# What was said of one parameter no longer holds where a later layer names another.
_FORGETS: Final = {
    "model_name": ("from_scratch",),
    "loss_function": ("loss_components", "loss_weights", "end_weights", "introduce_at"),
    "loss_components": ("loss_weights", "end_weights", "introduce_at"),
}


class Config(Section):
    """The whole configuration."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    loss: LossConfig = LossConfig()
    validation: ValidationConfig = ValidationConfig()
    run: RunConfig = RunConfig()

    def to_json(self) -> str:
        """Canonical JSON text: sorted keys, so that equal configurations have equal bytes."""
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"

    def sha256(self) -> str:
        """SHA-256 of `to_json`."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


@dataclass(frozen=True)
class Layer:
    """Values by parameter, and where each comes from, in words."""

    values: Mapping[str, Any]
    sources: Mapping[str, str]

    @classmethod
    def of_tables(cls, source: str, tables: Tables) -> "Layer":
        """The layer of a TOML file.

        Raises
        ------
        UnknownNameError
            It has a section or key that does not exist; the nearest one is named.
        UsageError
            A section is no table.
        """
        check_names(f"section in the {source}", tables, list(sections()))
        values: dict[str, Any] = {}
        for name, table in tables.items():
            if not isinstance(table, Mapping):
                raise UsageError(f"Expected {name!r} in the {source} to be a table. Got {table!r}. Write [{name}].")
            check_names(f"key of [{name}] in the {source}", table, list(sections()[name].model_fields))
            values |= table
        return cls(values, dict.fromkeys(values, source))

    @classmethod
    def of_options(cls, values: Mapping[str, Any]) -> "Layer":
        """The layer of options on the command line."""
        return cls(values, {key: option_of(key) for key in values})


@dataclass(frozen=True)
class Resolved:
    """A configuration, and where each value that is not a default comes from, in words."""

    config: Config
    sources: Mapping[str, str]

    def source(self, key: str) -> str:
        """Where the value of a parameter comes from."""
        return self.sources.get(key, DEFAULT)

    def value(self, key: str) -> Any:
        """The value of a parameter."""
        return getattr(getattr(self.config, section_of(key)), key)


def combine(layers: Iterable[Layer]) -> Resolved:
    """Defaults, overridden by one layer after the other.

    Raises
    ------
    UsageError
        A value has the wrong type or is out of range.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for layer in layers:
        for key in {old for new in layer.values for old in _FORGETS.get(new, ())}:
            values.pop(key, None)
            sources.pop(key, None)
        for key, value in layer.values.items():
            parse(sections()[section_of(key)], {key: value}, layer.sources[key])
        values |= layer.values
        sources |= layer.sources
    tables: Tables = {name: {} for name in sections()}
    for key, value in values.items():
        tables[section_of(key)][key] = value
    return Resolved(parse(Config, tables, "configuration"), sources)


def resolve(recipe: Tables, options: Mapping[str, Any]) -> Config:
    """Defaults, overridden by a recipe, overridden by ``options``, which are keyed by parameter.

    Raises
    ------
    UnknownNameError
        The recipe has a section or key that does not exist.
    UsageError
        A value has the wrong type or is out of range.
    """
    return combine([Layer.of_tables("recipe", recipe), Layer.of_options(options)]).config


def sections() -> dict[str, type[Section]]:
    """The sections by name."""
    return {name: cast(type[Section], field.annotation) for name, field in Config.model_fields.items()}


def section_of(key: str) -> str:
    """The section that holds ``key``."""
    return next(name for name, section in sections().items() if key in section.model_fields)


def option_of(key: str) -> str:
    """A parameter's option."""
    return f"--{key.replace('_', '-')}"


def read_recipe(name: str) -> Tables:
    """The recipe in the file ``name``, or the built-in one called ``name``.

    Raises
    ------
    UnknownNameError
        There is neither such a file nor such a built-in recipe.
    UsageError
        The file is not valid TOML.
    """
    return _read("recipe", name)


def read_preset(name: str) -> Tables:
    """The preset in the file ``name``, or the built-in one called ``name``; raises like `read_recipe`."""
    return _read("preset", name)


def built_in(kind: Literal["recipe", "preset"]) -> list[str]:
    """Names of the recipes or presets that are part of this package."""
    return sorted(Path(file.name).stem for file in files("kdtrain").joinpath(f"{kind}s").iterdir())


def _read(kind: Literal["recipe", "preset"], name: str) -> Tables:
    path = Path(name)
    if path.is_file():
        data = path.read_bytes()
    else:
        check_names(f"{kind} (a TOML file, or a built-in one)", [name], built_in(kind))
        data = files("kdtrain").joinpath(f"{kind}s", f"{name}.toml").read_bytes()
    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, UnicodeDecodeError; nested thousands deep
        raise UsageError(f"Expected valid TOML in the {kind} {name}. Got: {first_line(error)}.") from None


def check_names(what: str, given: Iterable[str], known: list[str]) -> None:
    """Raise `UnknownNameError`, which names the nearest known name, where one is not known."""
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
            raise UnknownNameError(f"Expected a known {what}. Got {name!r}. {hint}")
