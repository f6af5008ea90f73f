"""The sections of a run's configuration: every parameter, its limits, what it means, and where its effect is seen.

A parameter's ``probe`` names what differs when it does: ``FILE: column`` for a file of the run directory, or one of
the places in `PLACES`. A test runs every parameter at two values and looks there.
"""

import string
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, ByteSize, ConfigDict, Field, field_validator, model_validator
from pydantic.fields import FieldInfo

MAX_INT: Final = 2**31 - 1
PLACEHOLDERS: Final = ("run", "train", "val", "rows")
NONE: Final = "none"
PLACES: Final = {
    "refused": "whether a run is refused before it starts",
    "memory": "what is kept in memory for the backward pass",
    "processes": "what several processes do together",
    "torch": "what PyTorch is told",
    "command": "the command that runs after training",
}

_STEPS = "step_metrics.csv"
_VALIDATIONS = "training_metrics.csv"
_LOG = "distillation_log.txt"
_ORDER = f"{_STEPS}: total_loss_raw"

Weight = Annotated[float, Field(ge=0, le=1e6)]
Share = Annotated[float, Field(ge=0, lt=1)]


def setting(default: Any, description: str, *, probe: str, **limits: Any) -> Any:
    """A field with a default; ``probe`` says where its effect is seen, ``limits`` are pydantic's."""
    return Field(default=default, description=description, json_schema_extra={"probe": probe}, **limits)


def is_optional(field: FieldInfo) -> bool:
    """Whether a parameter may be not set."""
    return type(None) in get_args(field.annotation)


def _count(default: int | None, description: str, *, probe: str, least: int = 1) -> Any:
    return setting(default, description, probe=probe, ge=least, le=MAX_INT)


class Section(BaseModel):
    """Base of the sections; the word ``none`` stands for what is not set, where that is possible."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _read_none(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        unset = {name for name, field in cls.model_fields.items() if is_optional(field)}
        return {key: None if key in unset and value == NONE else value for key, value in values.items()}


class DataConfig(Section):
    """What is read, and how it becomes batches."""

    batch_size: int = _count(
        4, "Rows per forward pass, over all processes together.", probe=f"{_STEPS}: effective_batch_size"
    )
    max_input_len: int = _count(512, "Longest input in tokens.", probe="refused")
    max_output_len: int = _count(128, "Longest output in tokens.", probe="refused")
    max_train_samples: int | None = _count(None, "Train on a random subset of this size.", probe=f"{_STEPS}: step")
    max_val_samples: int | None = _count(
        None, "Validate on a random subset of this size.", probe=f"{_VALIDATIONS}: val_label_tokens"
    )
    epoch_samples: int | None = _count(
        None,
        "Rows of an epoch; the next one goes on where it ended, until all have been seen.",
        probe=f"{_STEPS}: epoch",
    )
    epoch_sampling: Literal["order", "rows"] = setting(
        "order", "With --epoch-samples: rows draws them anew from all each epoch, at more reading.", probe=_ORDER
    )
    sampling_seed: int | None = setting(
        None, "Seeds order and samples of the rows; by default --seed.", probe=_ORDER, ge=0, le=2**63 - 1
    )
    group_blocks: int | None = setting(
        None,
        "Blocks that are shuffled together; by default up to 256, as many as 64 MiB hold.",
        probe=_ORDER,
        ge=1,
        le=1 << 20,
    )
    mix: tuple[float, ...] = setting(
        (), "Of several stores: the share of the batches of each, such as 3,1.", probe=_ORDER
    )
    streams: int = setting(
        1, "Streams that the order interleaves; they divide the batch.", probe=_ORDER, ge=1, le=1024
    )
    last_batch: Literal["uneven", "pad", "drop"] = setting(
        "uneven", "What becomes of rows that fill no batch: a smaller one, padding, or nothing.",
        probe=f"{_STEPS}: step",
    )  # fmt: skip
    length_grouped: bool = setting(
        False, "Put rows of like length together, among those shuffled together.", probe=_ORDER
    )
    ram_limit: ByteSize | None = setting(
        None,
        "Memory that streaming may take, such as 512MiB; by default a quarter of what is available.",
        probe=f"{_LOG}: --ram-limit",
        gt=0,
    )
    residency: Literal["auto", "window", "full"] = setting(
        "auto", "Keep the whole store in memory: where it fits, never, or always.", probe=f"{_LOG}: the whole store"
    )
    read_threads: int | None = setting(
        None, "Threads that read; by default half of the cores.", probe=f"{_LOG}: reading threads", ge=1, le=256
    )


class ModelConfig(Section):
    """Which model is trained."""

    model_name: str = setting(
        "Salesforce/codet5p-220m", "Directory or hub name of a model.", probe="final_model: weights"
    )
    from_scratch: str | None = setting(
        None, "Start from random weights of this preset instead.", probe="final_model: weights"
    )
    vocab_size: int = setting(
        8192,
        "Size of the tokenizer that is learned from scratch.",
        probe="final_model: vocab_size",
        ge=260,
        le=1 << 20,
    )
    dropout_rate: float | None = setting(
        None, "Share of activations dropped in training; by default the model's own.", probe=_ORDER, ge=0, lt=1
    )
    gradient_checkpointing: bool = setting(
        False, "Compute activations again in the backward pass: less memory, a third more time.", probe="memory"
    )
    compile: bool = setting(
        False, "Compile encoder and decoder with torch.compile; pays off in long runs on a GPU.", probe="torch"
    )


class OptimizerConfig(Section):
    """AdamW."""

    lr: float = setting(3e-5, "Highest learning rate.", probe=f"{_STEPS}: learning_rate", gt=0, le=10)
    weight_decay: float = setting(
        0.01, "Decoupled weight decay; not on norms and biases.", probe="final_model: weights", ge=0, le=10
    )
    clip_norm: float = setting(
        1.0, "Gradients are scaled down to this norm.", probe="final_model: weights", gt=0, le=1e6
    )
    adam_beta1: Share = setting(0.9, "Decay of the running mean of gradients.", probe="final_model: weights")
    adam_beta2: Share = setting(0.999, "Decay of the running mean of their squares.", probe="final_model: weights")
    adam_epsilon: float = setting(1e-8, "Added to the root of the latter.", probe="final_model: weights", gt=0, le=1)


class ScheduleConfig(Section):
    """How long, and the course of the learning rate."""

    epochs: int = _count(5, "Passes over the training rows.", probe=f"{_STEPS}: epoch")
    max_steps: int | None = _count(None, "Stop after this many optimizer steps.", probe=f"{_STEPS}: step")
    gradient_accumulation_steps: int = _count(
        1, "Batches per optimizer step.", probe=f"{_STEPS}: effective_batch_size"
    )
    warmup_steps: int = _count(
        0,
        "Steps of linear warm-up; 0 takes --warmup-ratio of all steps.",
        probe=f"{_STEPS}: learning_rate",
        least=0,
    )
    warmup_ratio: Share = setting(
        0.15, "Share of all optimizer steps that warm up; --warmup-steps above 0 wins.",
        probe=f"{_STEPS}: learning_rate",
    )  # fmt: skip
    lr_decay: Literal["linear", "cosine"] = setting(
        "linear", "The way of the learning rate from its highest value to its last.", probe=f"{_STEPS}: learning_rate"
    )
    final_lr_factor: float = setting(
        0.0, "The last learning rate as a share of the highest one.", probe=f"{_STEPS}: learning_rate", ge=0, le=1
    )
    early_stopping_patience: int | None = _count(
        None, "Stop after so many validations without a better loss, and take the best weights.",
        probe=f"{_STEPS}: step",
    )  # fmt: skip
    early_stopping_delta: float = setting(
        0.0, "What a validation loss must be lower by to count as better.", probe=f"{_STEPS}: step", ge=0, le=1e6
    )


class LossConfig(Section):
    """The weighted sum of loss components; see `kdtrain.weights`."""

    loss_function: Literal["traditional", "enhanced", "ast_enhanced", "multi_component"] = setting(
        "multi_component",
        "Components: ce kl; ce kl pans; ce kl ast; or focal jsd semantic.",
        probe=f"{_STEPS}: *_loss_raw",
    )
    loss_components: tuple[str, ...] = setting(
        (), "Components by name instead, such as: focal jsd semantic contrastive.", probe=f"{_STEPS}: *_loss_raw"
    )
    loss_weights: tuple[Weight, ...] = setting(
        (), "Their weights, in the same order; where dynamic ones start.", probe=f"{_STEPS}: *_weight"
    )
    focal_gamma: float = setting(
        2.0,
        "How much less focal cares for labels that are already likely.",
        probe=f"{_STEPS}: focal_loss_raw",
        ge=0,
        le=10,
    )
    focal_alpha: float = setting(0.25, "Multiplies focal.", probe=f"{_STEPS}: focal_loss_raw", gt=0, le=1)
    pans_max_n: int = setting(
        4, "The longest n-grams that pans looks at.", probe=f"{_STEPS}: pans_loss_raw", ge=1, le=16
    )
    pans_decay: float = setting(
        0.1,
        "How fast an n-gram counts less with the distance from its place.",
        probe=f"{_STEPS}: pans_loss_raw",
        ge=0,
        le=10,
    )
    contrastive_temperature: float = setting(
        0.1,
        "Divides the cosines of contrastive; lower ones are more selective.",
        probe=f"{_STEPS}: contrastive_loss_raw",
        gt=0,
        le=100,
    )
    pans_weight: Weight = setting(0.1, "Weight of pans without --loss-weights.", probe=f"{_STEPS}: pans_weight")
    ast_weight: Weight = setting(0.1, "Weight of ast without --loss-weights.", probe=f"{_STEPS}: ast_weight")
    semantic_loss_scale: Weight = setting(
        5.0, "Multiplies the weight of semantic (beta).", probe=f"{_STEPS}: semantic_loss_weighted"
    )
    alpha: float = setting(
        0.5,
        "Share of the labels (ce, focal); the teacher (kl, jsd) has the rest.",
        probe=f"{_STEPS}: alpha",
        ge=0,
        le=1,
    )
    enable_dynamic_weighting: bool = setting(
        False,
        "Weights go from their start to their end over training, and alpha rises.",
        probe=f"{_STEPS}: *_weight",
    )
    end_weights: tuple[Weight, ...] = setting(
        (), "Where dynamic weights end, in the order of the components.", probe=f"{_STEPS}: *_weight"
    )
    weight_shape: Literal["linear", "cosine"] = setting(
        "linear", "The way between them.", probe=f"{_STEPS}: *_weight"
    )
    introduce_at: tuple[Share, ...] = setting(
        (), "The share of training after which each component begins to count.", probe=f"{_STEPS}: *_weight"
    )
    normalize_components: bool = setting(
        False, "Divide each component by the running average of its size.", probe=f"{_STEPS}: *_weight"
    )
    temperature: float = setting(
        4.0,
        "Softens teacher and student where they are compared.",
        probe=f"{_STEPS}: temperature",
        ge=0.05,
        le=100,
    )
    temperature_decay: bool = setting(True, "Let the temperature fall over training.", probe=f"{_STEPS}: temperature")
    final_temperature: float = setting(
        1.5,
        "Where it falls to, unless it is below from the start.",
        probe=f"{_STEPS}: temperature",
        ge=0.05,
        le=100,
    )
    temperature_shape: Literal["exponential", "linear", "cosine"] = setting(
        "exponential", "The way between them.", probe=f"{_STEPS}: temperature"
    )
    enable_token_weighting: bool = setting(
        False,
        "Let tokens that decide an assertion count more in ce and focal.",
        probe=f"{_STEPS}: focal_loss_raw",
    )
    critical_token_weight: float = setting(
        2.0, "How much they count; other tokens count 1.", probe=f"{_STEPS}: focal_loss_raw", ge=1.5, le=4
    )
    semantic_embedding: str | None = setting(
        None,
        "The store's embedding for semantic; needed where it has several.",
        probe=f"{_STEPS}: semantic_loss_raw",
    )
    contrastive_embedding: str | None = setting(
        None,
        "The store's embedding for contrastive; codebert where there is one.",
        probe=f"{_STEPS}: contrastive_loss_raw",
    )
    ast_samples: int = _count(
        2, "Rows of a batch for which ast lets the student write.", probe=f"{_STEPS}: ast_loss_raw"
    )
    max_angle: float = setting(
        10.0,
        "Refuse a store whose gradient was measured to lie further from the full teacher's, in degrees.",
        probe="refused",
        gt=0,
        le=180,
    )
    accept_infidelity: bool = setting(False, "Train on such a store nevertheless.", probe="refused")


class ValidationConfig(Section):
    """How often the student is measured on the validation rows, and by what."""

    validation_frequency: int = _count(
        1, "Epochs between validations; the last epoch always has one.", probe=f"{_VALIDATIONS}: val_loss"
    )
    validator: str = setting(
        "none",
        "What scores texts that the student writes, such as java; none: losses alone.",
        probe=f"{_VALIDATIONS}: f1",
    )
    use_enhanced_metrics: bool = setting(
        False,
        "Score them by all that the validator knows, not only by what is cheap.",
        probe=f"{_VALIDATIONS}: ast_validity",
    )
    validation_samples: int = _count(
        100, "Validation rows for which the student writes.", probe=f"{_VALIDATIONS}: f1"
    )


class RunConfig(Section):
    """Where and how the run happens."""

    seed: int = setting(42, "Seeds order, initial weights and dropout.", probe=_ORDER, ge=0, le=2**63 - 1)
    device: str = setting("auto", "auto, cpu, cuda, cuda:N or mps.", probe="refused")
    dtype: Literal["fp32", "bf16", "fp16"] = setting(
        "fp32", "Number format of matrix products; weights stay fp32.", probe=_ORDER
    )
    deterministic: bool = setting(
        False, "Refuse operations whose result may differ between two runs on a GPU.", probe="torch"
    )
    parallel: Literal["ddp", "fsdp"] = setting(
        "ddp", "Of several processes: each holds the whole model, or a share of it.", probe="processes"
    )
    ddp_timeout: int = _count(1800, "Seconds that a process waits for the others.", probe="processes")
    gradient_steps: int = _count(
        100,
        "Steps between measurements of each component's gradient; 0: never.",
        probe="component_gradients.csv: step",
        least=0,
    )
    checkpoint_steps: int = _count(
        500, "Steps between checkpoints; epochs end with one too.", probe="checkpoints: names"
    )
    keep_checkpoints: int = _count(2, "How many of the newest checkpoints are kept.", probe="checkpoints: names")
    after: tuple[str, ...] = setting(
        (),
        "Command to run after training, as a list of arguments; {run}, {train} and {val} are replaced, and for a "
        "teacher {rows} by its rows and how they are divided, as arguments of kdstore build.",
        probe="command",
    )

    @field_validator("after")
    @classmethod
    def _check_after(cls, after: tuple[str, ...]) -> tuple[str, ...]:
        # Now, and not after hours of training.
        for part in after:
            if "\0" in part:
                raise ValueError("an argument holds a NUL character")
            for text, name, form, conversion in string.Formatter().parse(part):
                if name is not None and (name not in PLACEHOLDERS or form or conversion):
                    raise ValueError(
                        f"only {{run}}, {{train}}, {{val}} and {{rows}} are replaced in {part!r}; write {{{{ for {{"
                    )
                if name == "rows" and (text or part != "{rows}"):
                    raise ValueError(f"{{rows}} becomes several arguments, so it stands alone, not in {part!r}")
        return after
