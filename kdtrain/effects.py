"""Values that somebody gave and that others leave without any effect: refused, so that nobody is misled by them."""

from typing import Final

from kdstore.errors import UsageError
from kdtrain.config import Config, Resolved
from kdtrain.sections import NONE, LossConfig, ScheduleConfig, ValidationConfig

# Parameters of one component.
_OWNERS: Final = {
    "focal_gamma": "focal",
    "focal_alpha": "focal",
    "pans_max_n": "pans",
    "pans_decay": "pans",
    "pans_weight": "pans",
    "ast_weight": "ast",
    "ast_samples": "ast",
    "semantic_loss_scale": "semantic",
    "semantic_embedding": "semantic",
    "contrastive_temperature": "contrastive",
    "contrastive_embedding": "contrastive",
}
_COMPARING: Final = (
    "temperature", "temperature_decay", "final_temperature", "temperature_shape", "max_angle", "accept_infidelity",
)  # fmt: skip
# What counts only where there are validation rows.
_VALIDATING: Final = (
    *ValidationConfig.model_fields, "max_val_samples",
    *(name for name in ScheduleConfig.model_fields if name.startswith("early_stopping")),
)  # fmt: skip


def check_effect(resolved: Resolved) -> None:
    """Refuse parameters that were given on the command line and that others leave without any effect.

    Recipes and presets may hold them: they are written for more than one use.

    Raises
    ------
    UsageError
        There is one.
    UnknownNameError
        There is no such loss component.
    """
    idle = _of_loss(resolved.config.loss) | _of_rest(resolved.config)
    for name in _given(resolved):
        if name in idle:
            _refuse(resolved, name, idle[name])


def check_validation(resolved: Resolved) -> None:
    """Refuse what counts only in validation; for a run without validation rows.

    Raises
    ------
    UsageError
        There is some.
    """
    for name in _given(resolved):
        if name in _VALIDATING:
            _refuse(resolved, name, "without a validation store (--val)")


def _given(resolved: Resolved) -> list[str]:
    """Parameters that the command line turned on, or gave a value."""
    given = [name for name, source in resolved.sources.items() if source.startswith("--")]
    return [name for name in given if resolved.value(name) not in (None, (), False)]


def _refuse(resolved: Resolved, name: str, why: str) -> None:
    raise UsageError(
        f"Expected no {resolved.source(name)} {why}, where it does nothing. Got {resolved.value(name)}. "
        "Leave one out."
    )


def _of_loss(loss: LossConfig) -> dict[str, str]:
    """Why parameters of the loss that are idle are so, by name."""
    from kdtrain.losses import LOSSES  # imports torch, which `--help` must not
    from kdtrain.weights import PRESETS

    names = loss.loss_components or PRESETS[loss.loss_function]
    kinds = [LOSSES.get(name) for name in names]
    listed = f"among the components {', '.join(names)}"
    idle = {name: f"without {owner} {listed}" for name, owner in _OWNERS.items() if owner not in names}
    if not any(kind.needs_signal for kind in kinds):
        idle |= dict.fromkeys(_COMPARING, f"without one that compares with a teacher {listed}")
    if all(kind.hard is None for kind in kinds):
        idle["alpha"] = f"without one that it divides the weight between {listed}"
    if loss.enable_dynamic_weighting or loss.loss_weights:
        idle |= dict.fromkeys(("pans_weight", "ast_weight"), "with other weights")
    if not loss.enable_dynamic_weighting:
        idle |= dict.fromkeys(("end_weights", "weight_shape"), "without --enable-dynamic-weighting")
    if not loss.temperature_decay:
        idle |= dict.fromkeys(("final_temperature", "temperature_shape"), "with --no-temperature-decay")
    if not loss.enable_token_weighting:
        idle["critical_token_weight"] = "without --enable-token-weighting"
    return idle


def _of_rest(config: Config) -> dict[str, str]:
    """The same for all other parameters."""
    idle = {}
    if config.schedule.warmup_steps > 0:
        idle["warmup_ratio"] = "with --warmup-steps"
    if config.schedule.early_stopping_patience is None:
        idle["early_stopping_delta"] = "without --early-stopping-patience"
    if config.validation.validator == NONE:
        idle |= dict.fromkeys(("use_enhanced_metrics", "validation_samples"), "without --validator")
    if config.data.epoch_samples is None:
        idle["epoch_sampling"] = "without --epoch-samples"
    if config.model.from_scratch is None:
        idle["vocab_size"] = "without --from-scratch"
    return idle
