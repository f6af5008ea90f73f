"""The JSON files of a run, as models: ``epoch_N_summary.json``, ``training_report.json`` and
``multi_component_loss_summary.json``.

They hold nothing but what the rows of the tables say (`kdtrain.logs.history`), what the loader tells of an epoch, and
what the trainer knows of the run. A number that is not finite, or that nobody measured, is null.
"""

from pydantic import JsonValue

from kdstore.store.files import Record


class Stats(Record):
    """A number over the steps that have it."""

    count: int
    mean: float
    first: float
    last: float
    min: float
    max: float


class HealthWarning(Record):
    """Something that looks wrong; `kdtrain.logs.health` has the rules. ``component`` is set where it is about one."""

    kind: str
    component: str | None
    step: int
    message: str


class ValidationSummary(Record):
    """One validation; ``components`` before weights, ``metrics`` by the validator."""

    step: int
    epoch: int
    loss: float | None
    components: dict[str, float | None]
    metrics: dict[str, float | None]
    best: bool
    label_tokens: int
    seconds: float | None
    metrics_seconds: float | None


class ComponentCourse(Record):
    """A component over an epoch."""

    raw: Stats | None
    weighted: Stats | None
    weight: Stats | None


class EpochSummary(Record):
    """``epoch_N_summary.json``. ``seconds`` are of steps; ``account`` is the loader's, of rows and coverage."""

    epoch: int
    step: int
    steps: int
    account: str
    loss: Stats | None
    components: dict[str, ComponentCourse]
    grad_norms: dict[str, Stats | None]
    learning_rate: Stats | None
    temperature: Stats | None
    alpha: Stats | None
    label_tokens: int
    seconds: float
    tokens_per_second: float | None
    data_wait_seconds: float
    sampling_seconds: float
    memory_usage_mb: Stats | None
    gpu_memory_mb: Stats | None
    gpu_util: Stats | None
    validation: ValidationSummary | None
    warnings: tuple[HealthWarning, ...]


class EpochLine(Record):
    """An epoch in the report: means over its steps, and where it ended."""

    epoch: int
    step: int
    steps: int
    train_loss: float | None
    val_loss: float | None
    grad_norm: float | None
    learning_rate: float | None
    temperature: float | None
    label_tokens: int
    seconds: float
    tokens_per_second: float | None


class TrainingReport(Record):
    """``training_report.json``. ``run`` is what the trainer knows: configuration, stores, device, outcome."""

    run: dict[str, JsonValue]
    steps: int
    label_tokens: int
    seconds: float
    tokens_per_second: float | None
    loss: Stats | None
    best: ValidationSummary | None
    epochs: tuple[EpochLine, ...]
    validations: tuple[ValidationSummary, ...]
    warnings: tuple[HealthWarning, ...]


class GradientSummary(Record):
    """Means over measurements: the norm of a component's gradient, and its share of all norms there."""

    norm: float
    share: float


class ComponentSummary(Record):
    """A component over the run. ``loss_share`` is its part of all that was minimised, summed over steps."""

    raw: Stats | None
    weighted: Stats | None
    weight_start: float | None
    weight_end: float | None
    loss_share: float | None
    gradients: dict[str, GradientSummary | None]


class LossSummary(Record):
    """``multi_component_loss_summary.json``."""

    steps: int
    loss: Stats | None
    gradient_measurements: int
    components: dict[str, ComponentSummary]
