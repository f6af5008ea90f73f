"""Command-line options made from the configuration's fields, so that each is described once."""

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import click
from pydantic import ByteSize
from pydantic.fields import FieldInfo

from kdtrain.config import Config, built_in, option_of, read_recipe, resolve, section_of, sections
from kdtrain.kinds import Kind
from kdtrain.sections import NONE

F = TypeVar("F", bound=Callable[..., Any])
_TOML_ONLY = {"after"}
_ALIASES = {"read_threads": ("--num-workers",)}
# Words of the predecessor's that are no parameters of ours; docs/migrating.md explains each.
_PREDECESSORS = (
    click.option(
        "--enable-epoch-sampling", is_flag=True, default=None, hidden=True,
        help="--max-train-samples then means --epoch-samples.",
    ),
    click.option("--fp16", is_flag=True, default=None, hidden=True, help="--dtype fp16."),
    click.option("--pin-memory", type=bool, hidden=True, help="True, as it always is on CUDA."),
)  # fmt: skip


class _Several(click.ParamType[tuple[Any, ...]]):
    """Values with commas between them."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.name = "names" if kind is str else "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return tuple(self.kind(one.strip()) for one in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not numbers such as 3,1.", param, ctx)

    def takes(self, word: str) -> bool:
        """Whether a word on the command line may be one more value."""
        if self.kind is str:
            from kdtrain.losses import LOSSES  # imports torch, which `--help` must not

            names = LOSSES.names()
            # A slip of the pen counts too, so that it is refused as one.
            slip = not Path(word).exists() and bool(get_close_matches(word, names, n=1, cutoff=0.7))
            return slip or all(one in names for one in word.split(","))
        try:
            float(word)
        except ValueError:
            return False
        return True


class _OrNone(click.ParamType[Any]):
    """A number, or the word for what is not set."""

    def __init__(self, kind: type) -> None:
        self._number = click.types.convert_type(kind)
        self.name = self._number.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value == NONE else self._number.convert(value, param, ctx)


class RunCommand(click.Command):
    """A command whose lists can be given with commas or, as the predecessor's were, as several words."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Join the words of a list first."""
        kinds = {
            name: parameter.type
            for parameter in self.params
            for name in parameter.opts
            if isinstance(parameter.type, _Several)
        }
        joined: list[str] = []
        values = 0  # of the list that the last words belong to
        kind: _Several | None = None
        for word in args:
            if kind and (values == 0 or kind.takes(word)):
                joined[-1:] = [joined[-1], word] if values == 0 else [f"{joined[-1]},{word}"]
                values += 1
                continue
            joined.append(word)
            option, given, _ = word.partition("=")
            kind, values = kinds.get(option.replace("_", "-")), int(bool(given))
        return super().parse_args(ctx, joined)


def run_options(kind: Kind | None) -> Callable[[F], F]:
    """Add the options of a run: where its configuration comes from, and one for each parameter.

    The defaults in ``--help`` are those that the kind's recipe gives. Without a kind there is one for every parameter
    of either, and ``--recipe`` has no default.
    """

    def add(function: F) -> F:
        defaults = resolve(read_recipe(kind.recipe), {}) if kind else Config()
        options = [*_general(kind.recipe if kind else None), *_PREDECESSORS]
        for section, parameters in sections().items():
            for name, field in parameters.model_fields.items():
                if name not in (kind.skip if kind else ()) and name not in _TOML_ONLY:
                    options.append(_option(name, field, getattr(getattr(defaults, section), name)))
        for option in reversed(options):
            function = option(function)
        return function

    return add


def _general(recipe: str | None) -> list[Callable[[F], F]]:
    """Options that are no parameters."""
    return [
        click.option(
            "--output-dir",
            type=click.Path(path_type=Path),
            help="The run directory.  [default: results/<timestamp>_<model>]",
        ),
        click.option("--recipe", default=recipe, show_default=True, help="TOML file, or a built-in recipe's name."),
        click.option(
            "--preset",
            help=f"What overrides the recipe: a TOML file of the same form, or {', '.join(built_in('preset'))}.",
        ),
        click.option(
            "--set", "assignments", multiple=True, metavar="SECTION.KEY=VALUE",
            help="Set one parameter, whatever else says; the value is TOML or a bare word. May be repeated.",
        ),
        click.option(
            "--resume",
            type=click.Choice(["no", "auto"]),
            default="no",
            show_default=True,
            help="auto: continue from the last checkpoint, or start fresh.",
        ),
        click.option("--no-after", is_flag=True, help="Do not run the command that the recipe names."),
    ]  # fmt: skip


def field_options(*names: str) -> Callable[[F], F]:
    """Add an option for each of some fields; the defaults in ``--help`` are those of no recipe."""

    def add(function: F) -> F:
        for name in reversed(names):
            section = section_of(name)
            default = getattr(getattr(Config(), section), name)
            function = _option(name, sections()[section].model_fields[name], default)(function)
        return function

    return add


def _option(name: str, field: FieldInfo, default: Any) -> Callable[[F], F]:
    option = option_of(name)
    if field.annotation is bool:
        # No default: what is not given leaves the recipe's value alone.
        off = f"--no-{option[2:]}"
        shown = "  [default: on]" if default else ""
        return click.option(f"{option}/{off}", name, is_flag=True, default=None, help=f"{field.description}{shown}")
    shown = "" if default in (None, ()) else f"  [default: {default}]"
    return click.option(
        option, *_ALIASES.get(name, ()), name, type=_type(field.annotation), default=None,
        help=f"{field.description}{shown}",
    )  # fmt: skip


def _type(annotation: Any) -> Any:
    if get_origin(annotation) is Literal:
        return click.Choice(get_args(annotation))
    if get_origin(annotation) is tuple:
        return _Several(str if get_args(annotation)[0] is str else float)
    inner = [kind for kind in get_args(annotation) if kind is not type(None)]
    kind = inner[0] if inner else annotation
    if kind in (str, ByteSize):
        return str  # pydantic reads the units
    return _OrNone(kind) if inner else kind
