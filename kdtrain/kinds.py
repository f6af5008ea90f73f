"""The two kinds of runs, and the configuration that a command line gives each."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kdstore.console import note
from kdstore.errors import UsageError
from kdtrain.config import Layer, Resolved, check_names, combine, read_preset, read_recipe, section_of, sections
from kdtrain.effects import check_effect
from kdtrain.sections import NONE, LossConfig


@dataclass(frozen=True)
class Kind:
    """What is trained: the recipe that is read unless another is named, and what cannot be chosen.

    ``skip`` has no options; ``forced`` wins over every other source.
    """

    name: str
    recipe: str
    skip: frozenset[str]
    forced: Mapping[str, Any]


# A student has the tokenizer of its store.
STUDENT: Final = Kind("student", "java_student", frozenset({"vocab_size"}), {})
# A teacher learns from labels alone, and from one store.
TEACHER: Final = Kind(
    "teacher",
    "java_teacher",
    frozenset({"mix", *LossConfig.model_fields}) - {"enable_token_weighting", "critical_token_weight"},
    {
        "loss_components": ("ce",), "loss_weights": (), "end_weights": (), "introduce_at": (), "alpha": 1.0,
        "enable_dynamic_weighting": False, "normalize_components": False,
    },
)  # fmt: skip


def configure(kind: Kind, options: Mapping[str, Any]) -> Resolved:
    """The configuration that the options of `kdtrain.options.run_options` give a run.

    Raises
    ------
    UsageError
        Two options contradict each other, a value is out of range, or one is without effect.
    UnknownNameError
        There is no such recipe, preset, parameter or loss component.
    """
    given = {name: value for name, value in options.items() if value is not None}
    recipe, preset = given.pop("recipe", kind.recipe), given.pop("preset", None)
    assigned = _assigned(given.pop("assignments", ()))
    layers = [Layer.of_tables(f"recipe {recipe}", read_recipe(recipe))]
    if preset is not None:
        layers.append(Layer.of_tables(f"preset {preset}", read_preset(preset)))
    layers.append(_explicit(kind, Layer.of_options(_translated(given)), assigned))
    forced = Layer(kind.forced, dict.fromkeys(kind.forced, f"{kind.name}s"))
    resolved = combine([*layers, forced])
    check_effect(resolved)
    if kind is not TEACHER and "{rows}" in resolved.config.run.after:
        raise UsageError(
            f"Expected a command after training that a {kind.name} can run. Got {{rows}}, which only a teacher has. "
            "Take it out of run.after."
        )
    return resolved


def _explicit(kind: Kind, options: Layer, assigned: Layer) -> Layer:
    """What the command line says, of which ``--set`` wins."""
    layer = Layer({**options.values, **assigned.values}, {**options.sources, **assigned.sources})
    for name in layer.values:
        if name in kind.skip:
            raise UsageError(f"Expected no {layer.sources[name]}, which a {kind.name} has no use for. Leave it out.")
    if "model_name" in layer.values and layer.values.get("from_scratch", NONE) != NONE:
        names = f"{layer.sources['model_name']} or {layer.sources['from_scratch']}"
        raise UsageError(f"Expected {names}. Got both. Leave one out.")
    return layer


def _translated(given: dict[str, Any]) -> dict[str, Any]:
    """Options that are no parameters, as such: the predecessor's spellings."""
    if given.pop("enable_epoch_sampling", False):
        if not {"max_train_samples"} <= given.keys() or "epoch_samples" in given:
            raise UsageError(
                "Expected --max-train-samples, the rows of an epoch, with --enable-epoch-sampling. Got none, or "
                "--epoch-samples too. Use --epoch-samples alone."
            )
        given["epoch_samples"] = given.pop("max_train_samples")
    if given.pop("fp16", False):
        if given.get("dtype", "fp16") != "fp16":
            raise UsageError(f"Expected --fp16 or --dtype. Got both, and {given['dtype']}. Leave one out.")
        given["dtype"] = "fp16"
    if (pinned := given.pop("pin_memory", None)) is not None:
        if not pinned:
            raise UsageError(
                "Expected --pin-memory True, as it always is where batches go to a CUDA device. Got False. "
                "Leave it out."
            )
        note("--pin-memory: batches for a CUDA device are always pinned, others never; there is nothing to set")
    return given


def _assigned(texts: Sequence[str]) -> Layer:
    """The layer of ``--set SECTION.KEY=VALUE``; of two for one parameter the later counts."""
    values, sources = {}, {}
    for text in texts:
        where, equals, value = text.partition("=")
        section, dot, key = where.strip().replace("-", "_").partition(".")
        if not equals or not dot:
            known = any(section in one.model_fields for one in sections().values())
            hint = f"Write {section_of(section)}.{section}=..." if known else "kdtrain show-config lists them."
            raise UsageError(f"Expected --set SECTION.KEY=VALUE. Got {text!r}. {hint}")
        check_names("section with --set", [section], list(sections()))
        check_names(f"key of [{section}] with --set", [key], list(sections()[section].model_fields))
        values[key], sources[key] = _toml_value(value), f"--set {section}.{key}"
    return Layer(values, sources)


def _toml_value(text: str) -> Any:
    """A value in TOML notation, or the text itself where it is none."""
    try:
        found = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # TOMLDecodeError; nested thousands deep
        return text
    return found["value"] if len(found) == 1 else text
