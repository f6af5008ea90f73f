"""The configuration of a run: typed sections with documented fields, from defaults, a recipe and the command line.

A field's name is its key in a recipe and, with dashes, its option on the command line; names are unique over
all sections. Later sources win: defaults, then the recipe, then options.
"""

import hashlib
import json
import string
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final, Literal, cast

from pydantic import BaseModel, ByteSize, ConfigDict, Field, field_validator

from kdstore.errors import UnknownNameError, UsageError, first_line
from kdstore.validation import parse

Recipe = dict[str, dict[str, Any]]
MAX_INT: Final = 2**31 - 1
PLACEHOLDERS: Final = ("run", "train", "val")


Weight = Annotated[float, Field(ge=0, le=1e6)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """Base of the sections."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataConfig(Section):
    """What is read, and how it becomes batches."""

    batch_size: int = Field(
        default=4, ge=1, le=MAX_INT, description="Rows per forward pass, over all processes together."
    )
    max_input_len: int = Field(default=512, ge=1, le=MAX_INT, description="Longest input in tokens.")
    max_output_len: int = Field(default=128, ge=1, le=MAX_INT, description="Longest output in tokens.")
    max_train_samples: int | None = Field(
        default=None, ge=1, le=MAX_INT, description="Train on a random subset of this size."
    )
    max_val_samples: int | None = Field(
        default=None, ge=1, le=MAX_INT, description="Validate on a random subset of this size."
    )
    epoch_samples: int | None = Field(
        default=None,
        ge=1,
        le=MAX_INT,
        description="Rows of an epoch; the next one goes on where it ended, until all have been seen.",
    )
    epoch_sampling: Literal["order", "rows"] = Field(
        default="order",
        description="With --epoch-samples: rows draws them anew from all each epoch, at more reading.",
    )
    sampling_seed: int | None = Field(
        default=None, ge=0, le=2**63 - 1, description="Seeds order and samples of the rows; by default --seed."
    )
    group_blocks: int | None = Field(
        default=None,
        ge=1,
        le=1 << 20,
        description="Blocks that are shuffled together; by default up to 256, as many as 64 MiB hold.",
    )
    mix: tuple[float, ...] = Field(
        default=(), description="Of several stores: the share of the batches of each, such as 3,1."
    )
    streams: int = Field(
        default=1, ge=1, le=1024, description="Streams that the order interleaves; they divide the batch."
    )
    last_batch: Literal["uneven", "pad", "drop"] = Field(
        default="uneven", description="What becomes of rows that fill no batch: a smaller one, padding, or nothing."
    )
    length_grouped: bool = Field(
        default=False, description="Put rows of like length together, among those shuffled together."
    )
    ram_limit: ByteSize | None = Field(
        default=None,
        gt=0,
        description="Memory that streaming may take, such as 512MiB; by default a quarter of what is available.",
    )
    residency: Literal["auto", "window", "full"] = Field(
        default="auto", description="Keep the whole store in memory: where it fits, never, or always."
    )
    read_threads: int | None = Field(
        default=None, ge=1, le=256, description="Threads that read; by default half of the cores."
    )


class ModelConfig(Section):
    """Which model is trained."""

    model_name: str = Field(default="Salesforce/codet5p-220m", description="Directory or hub name of a model.")
    from_scratch: str | None = Field(default=None, description="Start from random weights of this preset instead.")
    vocab_size: int = Field(
        default=8192,
        ge=260,
        le=1 << 20,
        description="Size of the tokenizer that is learned from scratch.",
    )
    dropout_rate: float | None = Field(
        default=None, ge=0, lt=1, description="Share of activations dropped in training; by default the model's own."
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Compute activations again in the backward pass: less memory, a third more time."
    )
    compile: bool = Field(
        default=False, description="Compile encoder and decoder with torch.compile; pays off in long runs on a GPU."
    )


class OptimizerConfig(Section):
    """AdamW."""

    lr: float = Field(default=3e-5, gt=0, le=10, description="Highest learning rate.")
    weight_decay: float = Field(
        default=0.01, ge=0, le=10, description="Decoupled weight decay; not on norms and biases."
    )
    clip_norm: float = Field(default=1.0, gt=0, le=1e6, description="Gradients are scaled down to this norm.")
    adam_beta1: Share = Field(default=0.9, description="Decay of the running mean of gradients.")
    adam_beta2: Share = Field(default=0.999, description="Decay of the running mean of their squares.")
    adam_epsilon: float = Field(default=1e-8, gt=0, le=1, description="Added to the root of the latter.")


class ScheduleConfig(Section):
    """How long, and the course of the learning rate."""

    epochs: int = Field(default=5, ge=1, le=MAX_INT, description="Passes over the training rows.")
    max_steps: int | None = Field(default=None, ge=1, le=MAX_INT, description="Stop after this many optimizer steps.")
    gradient_accumulation_steps: int = Field(default=1, ge=1, le=MAX_INT, description="Batches per optimizer step.")
    warmup_steps: int = Field(
        default=0, ge=0, le=MAX_INT, description="Steps of linear warm-up; 0 takes --warmup-ratio of all steps."
    )
    warmup_ratio: Share = Field(
        default=0.15, description="Share of all optimizer steps that warm up; --warmup-steps above 0 wins."
    )
    lr_decay: Literal["linear", "cosine"] = Field(
        default="linear", description="The way of the learning rate from its highest value to its last."
    )
    final_lr_factor: float = Field(
        default=0.0, ge=0, le=1, description="The last learning rate as a share of the highest one."
    )
    early_stopping_patience: int | None = Field(
        default=None,
        ge=1,
        le=MAX_INT,
        description="Stop after so many validations without a better loss, and take the best weights.",
    )
    early_stopping_delta: float = Field(
        default=0.0, ge=0, le=1e6, description="What a validation loss must be lower by to count as better."
    )


class LossConfig(Section):
    """The weighted sum of loss components; see `kdtrain.weights`."""

    loss_function: Literal["traditional", "enhanced", "ast_enhanced", "multi_component"] = Field(
        default="multi_component",
        description="Components: ce kl; ce kl pans; ce kl ast; or focal jsd semantic.",
    )
    loss_components: tuple[str, ...] = Field(
        default=(), description="Components by name instead, such as: focal jsd semantic contrastive."
    )
    loss_weights: tuple[Weight, ...] = Field(
        default=(), description="Their weights, in the same order; where dynamic ones start."
    )
    focal_gamma: float = Field(
        default=2.0, ge=0, le=10, description="How much less focal cares for labels that are already likely."
    )
    focal_alpha: float = Field(default=0.25, gt=0, le=1, description="Multiplies focal.")
    pans_max_n: int = Field(default=4, ge=1, le=16, description="The longest n-grams that pans looks at.")
    pans_decay: float = Field(
        default=0.1, ge=0, le=10, description="How fast an n-gram counts less with the distance from its place."
    )
    contrastive_temperature: float = Field(
        default=0.1, gt=0, le=100, description="Divides the cosines of contrastive; lower ones are more selective."
    )
    pans_weight: Weight = Field(default=0.1, description="Weight of pans without --loss-weights.")
    ast_weight: Weight = Field(default=0.1, description="Weight of ast without --loss-weights.")
    semantic_loss_scale: Weight = Field(default=5.0, description="Multiplies the weight of semantic (beta).")
    alpha: float = Field(
        default=0.5, ge=0, le=1, description="Share of the labels (ce, focal); the teacher (kl, jsd) has the rest."
    )
    enable_dynamic_weighting: bool = Field(
        default=False, description="Weights go from their start to their end over training, and alpha rises."
    )
    end_weights: tuple[Weight, ...] = Field(
        default=(), description="Where dynamic weights end, in the order of the components."
    )
    weight_shape: Literal["linear", "cosine"] = Field(default="linear", description="The way between them.")
    introduce_at: tuple[Share, ...] = Field(
        default=(), description="The share of training after which each component begins to count."
    )
    normalize_components: bool = Field(
        default=False, description="Divide each component by the running average of its size."
    )
    temperature: float = Field(
        default=4.0, ge=0.05, le=100, description="Softens teacher and student where they are compared."
    )
    temperature_decay: bool = Field(default=True, description="Let the temperature fall over training.")
    final_temperature: float = Field(
        default=1.5, ge=0.05, le=100, description="Where it falls to, unless it is below from the start."
    )
    temperature_shape: Literal["exponential", "linear", "cosine"] = Field(
        default="exponential", description="The way between them."
    )
    enable_token_weighting: bool = Field(
        default=False, description="Let tokens that decide an assertion count more in ce and focal."
    )
    critical_token_weight: float = Field(
        default=2.0, ge=1.5, le=4, description="How much they count; other tokens count 1."
    )
    semantic_embedding: str | None = Field(
        default=None, description="The store's embedding for semantic; needed where it has several."
    )
    contrastive_embedding: str | None = Field(
        default=None, description="The store's embedding for contrastive; codebert where there is one."
    )
    ast_samples: int = Field(
        default=2, ge=1, le=MAX_INT, description="Rows of a batch for which ast lets the student write."
    )
    max_angle: float = Field(
        default=10.0,
        gt=0,
        le=180,
        description="Refuse a store whose gradient was measured to lie further from the full teacher's, in degrees.",
    )
    accept_infidelity: bool = Field(default=False, description="Train on such a store nevertheless.")


class ValidationConfig(Section):
    """How often the student is measured on the validation rows, and by what."""

    validation_frequency: int = Field(
        default=1, ge=1, le=MAX_INT, description="Epochs between validations; the last epoch always has one."
    )
    validator: str | None = Field(
        default=None, description="What scores texts that the student writes, such as java; none: losses alone."
    )
    use_enhanced_metrics: bool = Field(
        default=False, description="Score them by all that the validator knows, not only by what is cheap."
    )
    validation_samples: int = Field(
        default=100, ge=1, le=MAX_INT, description="Validation rows for which the student writes."
    )


class RunConfig(Section):
    """Where and how the run happens."""

    seed: int = Field(default=42, ge=0, le=2**63 - 1, description="Seeds order, initial weights and dropout.")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:N or mps.")
    dtype: Literal["fp32", "bf16", "fp16"] = Field(
        default="fp32", description="Number format of matrix products; weights stay fp32."
    )
    deterministic: bool = Field(
        default=False, description="Refuse operations whose result may differ between two runs on a GPU."
    )
    parallel: Literal["ddp", "fsdp"] = Field(
        default="ddp", description="Of several processes: each holds the whole model, or a share of it."
    )
    ddp_timeout: int = Field(
        default=1800, ge=1, le=MAX_INT, description="Seconds that a process waits for the others."
    )
    gradient_steps: int = Field(
        default=100,
        ge=0,
        le=MAX_INT,
        description="Steps between measurements of each component's gradient; 0: never.",
    )
    checkpoint_steps: int = Field(
        default=500, ge=1, le=MAX_INT, description="Steps between checkpoints; epochs end with one too."
    )
    keep_checkpoints: int = Field(
        default=2, ge=1, le=MAX_INT, description="How many of the newest checkpoints are kept."
    )
    after: tuple[str, ...] = Field(
        default=(),
        description="Command to run after training, as a list of arguments; {run}, {train} and {val} are replaced.",
    )

    @field_validator("after")
    @classmethod
    def _check_after(cls, after: tuple[str, ...]) -> tuple[str, ...]:
        # Now, and not after hours of training.
        for part in after:
            if "\0" in part:
                raise ValueError("an argument holds a NUL character")
            for _, name, form, conversion in string.Formatter().parse(part):
                if name is not None and (name not in PLACEHOLDERS or form or conversion):
                    raise ValueError(
                        f"only {{run}}, {{train}} and {{val}} are replaced in {part!r}; write {{{{ for {{"
                    )
        return after


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


def sections() -> dict[str, type[Section]]:
    """The sections by name."""
    return {name: cast(type[Section], field.annotation) for name, field in Config.model_fields.items()}


def section_of(key: str) -> str:
    """The section that holds ``key``."""
    return next(name for name, section in sections().items() if key in section.model_fields)


def resolve(recipe: Recipe, options: Mapping[str, Any]) -> Config:
    """Defaults, overridden by a recipe, overridden by ``options``, which are keyed by field name.

    Raises
    ------
    UnknownNameError
        The recipe has a section or key that does not exist; the nearest one is named.
    UsageError
        A value has the wrong type or is out of range.
    """
    _check_names("section", recipe, list(sections()))
    for name, values in recipe.items():
        if not isinstance(values, Mapping):
            raise UsageError(f"Expected the recipe's {name!r} to be a table. Got {values!r}. Write [{name}].")
        _check_names(f"key of [{name}]", values, list(sections()[name].model_fields))
    merged = {name: dict(recipe.get(name, {})) for name in sections()}
    for key, value in options.items():
        name = section_of(key)
        parse(sections()[name], {key: value}, f"--{key.replace('_', '-')}")
        merged[name][key] = value
    return parse(Config, merged, "configuration")


def read_recipe(name: str) -> Recipe:
    """The recipe in the file ``name``, or the built-in one called ``name``.

    Raises
    ------
    UnknownNameError
        There is neither such a file nor such a built-in recipe.
    UsageError
        The file is not valid TOML.
    """
    built_in = {Path(file.name).stem: file for file in files("kdtrain").joinpath("recipes").iterdir()}
    path = Path(name)
    if not path.is_file() and name not in built_in:
        _check_names("recipe (a TOML file, or a built-in one)", {name: None}, sorted(built_in))
    text = path.read_bytes() if path.is_file() else built_in[name].read_bytes()
    try:
        return tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, UnicodeDecodeError; nested thousands deep
        raise UsageError(f"Expected valid TOML in the recipe {name}. Got: {first_line(error)}.") from None


def _check_names(what: str, given: Mapping[str, Any], known: list[str]) -> None:
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
            raise UnknownNameError(f"Expected a known {what}. Got {name!r}. {hint}")
