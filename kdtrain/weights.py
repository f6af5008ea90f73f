r"""How much each loss component counts, and at which temperature teacher and student are compared, over training.

With s the share of training that is done, a component's weight is

.. math:: w(s) = b(s) \cdot a(s) \cdot n

and its part of the loss is :math:`w \beta` times its mean:

* **Base** b. Static: ``--loss-weights``; else ``--pans-weight``, ``--ast-weight``, the start of the table below for
  semantic and contrastive, and 1 for all others. With ``--enable-dynamic-weighting``: from ``--loss-weights`` or the
  table's start to ``--end-weights`` or the table's end, by linear or cosine interpolation; a component at 0 is off,
  the others are clamped to [0.01, 0.8], then divided by their sum, so that a single one has 1.
* **Alpha** a: alpha for components on the side of the labels (ce, focal), 1 - alpha for those of the teacher (kl,
  reverse_kl, jsd), 1 for the rest. Static unless weights are dynamic. Dynamic: alpha starts as given and rises by 0.2
  over training; when the labels' loss on the validation rows is worse than at its best, 0.05 are taken back, since
  labels are then learned by heart, and returned with the next best one. Never more than 0.2 are taken, and alpha
  stays in [0, 1].
* **Beta**: ``--semantic-loss-scale`` for semantic, 1 for the rest. It is no part of the weight that logs show.
* **Normaliser** n, with ``--normalize-components``: one over the running average of the component's mean, so that
  components count by their weights whatever their units. The average decays by 0.99 a step and counts as 0.001 where
  it is less; a component that has been 0 so far is left as it is.

A component that ``--introduce-at`` holds back is off before that share of training.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from kdstore.errors import UsageError
from kdtrain.config import LossConfig
from kdtrain.losses import LOSSES
from kdtrain.schedules import interpolate, share_done

PRESETS: Final = {
    "traditional": ("ce", "kl"),
    "enhanced": ("ce", "kl", "pans"),
    "ast_enhanced": ("ce", "kl", "ast"),
    "multi_component": ("focal", "jsd", "semantic"),
}
TABLE: Final = {
    "ce": (0.35, 0.25),
    "kl": (0.6, 0.35),
    "reverse_kl": (0.6, 0.35),
    "pans": (0.05, 0.25),
    "ast": (0.0, 0.15),
    "focal": (0.3, 0.25),
    "jsd": (0.6, 0.35),
    "semantic": (0.05, 0.25),
    "contrastive": (0.1, 0.15),
}
"""Start and end of a component's weight: the predecessor's, and for reverse_kl those of kl."""
LEAST, MOST = 0.01, 0.8
_UNLISTED = (0.1, 0.1)  # a component from another distribution
_ALPHA_RAMP, _ALPHA_STEP, _ALPHA_TAKEN = 0.2, 0.05, 0.2
_DECAY, _SMALLEST = 0.99, 1e-3


def components(config: LossConfig) -> tuple[str, ...]:
    """The components that a configuration names: its own list, or those of ``loss_function``.

    Raises
    ------
    UnknownNameError
        No such component.
    UsageError
        One is named twice, or there are not as many weights as components.
    """
    names = config.loss_components or PRESETS[config.loss_function]
    for name in names:
        LOSSES.get(name)
    if len({*names}) < len(names):
        raise UsageError(f"Expected each loss component once. Got {', '.join(names)}. Drop the second one.")
    for option, values in (
        ("--loss-weights", config.loss_weights),
        ("--end-weights", config.end_weights),
        ("--introduce-at", config.introduce_at),
    ):
        if values and len(values) != len(names):
            raise UsageError(
                f"Expected a number for each of {', '.join(names)} with {option}. Got {len(values)}. "
                "Name them with --loss-components in the same order."
            )
    return names


def temperature_at(config: LossConfig, step: int, total: int) -> float:
    """T of the divergences: falls to ``final_temperature``, unless it is there already or decay is off."""
    end = min(config.temperature, config.final_temperature)
    if not config.temperature_decay:
        return config.temperature
    return interpolate(config.temperature, end, share_done(step, total), config.temperature_shape)


def lowest_temperature(config: LossConfig) -> float:
    """T at the end of training."""
    return temperature_at(config, 1, 2)


@dataclass(frozen=True)
class _Learned:
    """What training has come to know: alpha taken back, and the running averages of components, with their counts."""

    taken: float = 0.0
    averages: Mapping[str, tuple[float, int]] = field(default_factory=dict)

    def unit(self, name: str) -> float:
        """The average of a component, freed from its start at 0."""
        average, count = self.averages.get(name, (0.0, 0))
        return max(_SMALLEST, average / (1 - _DECAY**count)) if average else 1.0


class Weights:
    """Weights of some components over training; what they learn on the way is part of a checkpoint.

    Parameters
    ----------
    config
        The loss.
    total_steps
        Optimizer steps of the whole training.

    Raises
    ------
    UnknownNameError, UsageError
        See `components`; or no component has any weight, or none at the end of training.
    """

    def __init__(self, config: LossConfig, total_steps: int) -> None:
        self._config, self._total = config, total_steps
        self._all = components(config)
        self._learned, self._best = _Learned(), math.inf
        possible = [
            self._at(share, _Learned(taken))
            for share in (0.0, 0.5, 1.0, *config.introduce_at)
            for taken in (0.0, _ALPHA_TAKEN)
        ]
        self.names = tuple(name for name in self._all if self.beta(name) and any(one[name] for one in possible))
        if not any(self.reference().values()):
            raise UsageError(
                "Expected a loss component with a weight at the end of training. Got none. Set --alpha, "
                "--loss-weights or --end-weights."
            )

    def at(self, step: int) -> dict[str, float]:
        """The weight of each component in an optimizer step, counted from 0; without beta."""
        return self._at(share_done(step, self._total), self._learned)

    def beta(self, name: str) -> float:
        """What the weight of a component is multiplied by in the loss."""
        return self._config.semantic_loss_scale if name == "semantic" else 1.0

    def alpha(self, step: int) -> float:
        """Alpha in an optimizer step, counted from 0."""
        return self._alpha(share_done(step, self._total), self._learned)

    def reference(self) -> dict[str, float]:
        """Weight times beta for validation: bases of the end and alpha as given, whatever training has learned."""
        weights = self._weighed(self._bases(1.0), self._config.alpha, _Learned())
        return {name: weight * self.beta(name) for name, weight in weights.items()}

    def observe(self, means: Mapping[str, float]) -> None:
        """Take note of the means of components in a step."""
        if not self._config.normalize_components:
            return
        averages = dict(self._learned.averages)
        for name, value in means.items():
            average, count = averages.get(name, (0.0, 0))
            averages[name] = (_DECAY * average + (1 - _DECAY) * abs(value), count + 1)
        self._learned = replace(self._learned, averages=averages)

    def observe_validation(self, means: Mapping[str, float]) -> None:
        """Take note of the means of components on the validation rows."""
        hard = [value for name, value in means.items() if LOSSES.get(name).hard]
        if not self._config.enable_dynamic_weighting or not hard or not math.isfinite(sum(hard)):
            return
        better = sum(hard) <= self._best
        self._best = min(self._best, sum(hard))
        change = -_ALPHA_STEP if better else _ALPHA_STEP
        self._learned = replace(self._learned, taken=min(_ALPHA_TAKEN, max(0.0, self._learned.taken + change)))

    def state_dict(self) -> dict[str, Any]:
        """What was learned on the way."""
        averages = {name: list(pair) for name, pair in self._learned.averages.items()}
        return {"taken": self._learned.taken, "best": self._best, "averages": averages}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        averages = {str(name): (float(average), int(count)) for name, (average, count) in state["averages"].items()}
        self._learned, self._best = _Learned(float(state["taken"]), averages), float(state["best"])

    def _at(self, share: float, learned: _Learned) -> dict[str, float]:
        return self._weighed(self._bases(share), self._alpha(share, learned), learned)

    def _alpha(self, share: float, learned: _Learned) -> float:
        alpha = self._config.alpha
        if not self._config.enable_dynamic_weighting:
            return alpha
        return max(0.0, min(1.0, alpha + _ALPHA_RAMP * share) - learned.taken)

    def _weighed(self, bases: Mapping[str, float], alpha: float, learned: _Learned) -> dict[str, float]:
        weights = {}
        for name, base in bases.items():
            side = {True: alpha, False: 1 - alpha, None: 1.0}[LOSSES.get(name).hard]
            weights[name] = base * side / learned.unit(name)
        return weights

    def _bases(self, share: float) -> dict[str, float]:
        begins = self._config.introduce_at or [0.0] * len(self._all)
        plain = self._dynamic(share) if self._config.enable_dynamic_weighting else self._static()
        bases = {
            name: base if share >= begin else 0.0 for (name, base), begin in zip(plain.items(), begins, strict=True)
        }
        if not self._config.enable_dynamic_weighting:
            return bases
        kept = {name: min(MOST, max(LEAST, base)) if base > 0 else 0.0 for name, base in bases.items()}
        total = sum(kept.values()) or 1.0
        return {name: base / total for name, base in kept.items()}

    def _static(self) -> dict[str, float]:
        config = self._config
        given = {"pans": config.pans_weight, "ast": config.ast_weight}
        given |= {name: TABLE[name][0] for name in ("semantic", "contrastive")}
        weights: Sequence[float] = config.loss_weights or [given.get(name, 1.0) for name in self._all]
        return dict(zip(self._all, weights, strict=True))

    def _dynamic(self, share: float) -> dict[str, float]:
        config = self._config
        starts = config.loss_weights or [TABLE.get(name, _UNLISTED)[0] for name in self._all]
        ends = config.end_weights or [TABLE.get(name, _UNLISTED)[1] for name in self._all]
        return {
            name: interpolate(start, end, share, config.weight_shape)
            for name, start, end in zip(self._all, starts, ends, strict=True)
        }
