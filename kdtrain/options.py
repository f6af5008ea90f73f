"""Command-line options made from the configuration's fields, so that each is described once."""

from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import click
from pydantic import ByteSize
from pydantic.fields import FieldInfo

from kdstore.errors import UsageError
from kdtrain.config import Config, LossConfig, read_recipe, resolve, section_of, sections

F = TypeVar("F", bound=Callable[..., Any])
_RECIPE_ONLY = {"after"}


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


def run_options(recipe: str, skip: Collection[str] = ()) -> Callable[[F], F]:
    """Add ``--output-dir``, ``--recipe``, ``--resume``, ``--no-after``, and an option for each field.

    Parameters
    ----------
    recipe
        Built-in recipe used when none is named; the defaults in ``--help`` are those it gives.
    skip
        Fields that the command has no option for.
    """

    def add(function: F) -> F:
        defaults = resolve(read_recipe(recipe), {})
        options = [
            click.option(
                "--output-dir",
                type=click.Path(path_type=Path),
                help="The run directory.  [default: results/<timestamp>_<model>]",
            ),
            click.option(
                "--recipe", default=recipe, show_default=True, help="TOML file, or a built-in recipe's name."
            ),
            click.option(
                "--resume",
                type=click.Choice(["no", "auto"]),
                default="no",
                show_default=True,
                help="auto: continue from the last checkpoint, or start fresh.",
            ),
            click.option("--no-after", is_flag=True, help="Do not run the command that the recipe names."),
            # The predecessor's way to say it.
            click.option(
                "--enable-epoch-sampling",
                is_flag=True,
                default=None,
                hidden=True,
                help="--max-train-samples then means --epoch-samples.",
            ),
        ]
        for section, kind in sections().items():
            for name, field in kind.model_fields.items():
                if name not in skip and name not in _RECIPE_ONLY:
                    options.append(_option(name, field, getattr(getattr(defaults, section), name)))
        for option in reversed(options):
            function = option(function)
        return function

    return add


def field_options(*names: str) -> Callable[[F], F]:
    """Add an option for each of some fields; the defaults in ``--help`` are those of no recipe."""

    def add(function: F) -> F:
        for name in reversed(names):
            section = section_of(name)
            default = getattr(getattr(Config(), section), name)
            function = _option(name, sections()[section].model_fields[name], default)(function)
        return function

    return add


def configure(recipe: str, options: Mapping[str, Any], forced: Mapping[str, Any]) -> Config:
    """The configuration of a recipe and the options given on the command line; ``forced`` wins over both.

    Raises
    ------
    UsageError
        Two options contradict each other, or a value is out of range.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if {"model_name", "from_scratch"} <= given.keys():
        raise UsageError("Expected --model-name or --from-scratch. Got both. Leave one out.")
    if "model_name" in given:
        given["from_scratch"] = None  # what a recipe says of it no longer counts
    if "loss_function" in given:
        given = {"loss_components": (), **given}
    if "loss_components" in given:
        given = {"loss_weights": (), "end_weights": (), "introduce_at": (), **given}
    if given.pop("enable_epoch_sampling", False):
        if not {"max_train_samples"} <= given.keys() or "epoch_samples" in given:
            raise UsageError(
                "Expected --max-train-samples, the rows of an epoch, with --enable-epoch-sampling. Got none, or "
                "--epoch-samples too. Use --epoch-samples alone."
            )
        given["epoch_samples"] = given.pop("max_train_samples")
    if "epoch_sampling" in given and "epoch_samples" not in given:
        raise UsageError("Expected --epoch-samples, the rows of an epoch, with --epoch-sampling. Got none.")
    config = resolve(read_recipe(recipe), {**given, **forced})
    _check_effect(given, config.loss)
    return config


def _check_effect(given: Mapping[str, Any], loss: LossConfig) -> None:
    """Refuse options that others leave without any effect.

    Raises
    ------
    UsageError
        There is one.
    """
    weighed = loss.enable_dynamic_weighting or bool(loss.loss_weights)
    cases = {
        "pans_weight": (weighed, "with other weights"),
        "ast_weight": (weighed, "with other weights"),
        "end_weights": (not loss.enable_dynamic_weighting, "without --enable-dynamic-weighting"),
        "weight_shape": (not loss.enable_dynamic_weighting, "without --enable-dynamic-weighting"),
        "final_temperature": (not loss.temperature_decay, "with --no-temperature-decay"),
        "temperature_shape": (not loss.temperature_decay, "with --no-temperature-decay"),
        "critical_token_weight": (not loss.enable_token_weighting, "without --enable-token-weighting"),
    }
    for name, (idle, why) in cases.items():
        if given.get(name) not in (None, ()) and idle:
            raise UsageError(
                f"Expected no --{name.replace('_', '-')} {why}, where it does nothing. Got {given[name]}. "
                "Leave one out."
            )


def _option(name: str, field: FieldInfo, default: Any) -> Callable[[F], F]:
    if field.annotation is bool:
        # No default: what is not given leaves the recipe's value alone.
        option = f"--{name.replace('_', '-')}"
        names = f"{option}/--no-{option[2:]}" if default else option
        return click.option(names, name, is_flag=True, default=None, help=field.description)
    shown = "" if default in (None, ()) else f"  [default: {default}]"
    return click.option(
        f"--{name.replace('_', '-')}", name, type=_type(field.annotation), default=None,
        help=f"{field.description}{shown}",
    )  # fmt: skip


def _type(annotation: Any) -> Any:
    if get_origin(annotation) is Literal:
        return click.Choice(get_args(annotation))
    if get_origin(annotation) is tuple:
        return _Several(str if get_args(annotation)[0] is str else float)
    inner = [kind for kind in get_args(annotation) if kind is not type(None)]
    kind = inner[0] if inner else annotation
    return str if kind is ByteSize else kind  # pydantic reads the units
