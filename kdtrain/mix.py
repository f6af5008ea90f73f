"""Weigh loss components into one total."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from kdstore.codecs import Signal
from kdstore.errors import UsageError
from kdtrain.config import LossConfig
from kdtrain.losses import LOSSES


@dataclass(frozen=True)
class LossOut:
    """Sums over label tokens: the weighted total, differentiable, and each component unweighted, detached."""

    total: Tensor
    components: dict[str, Tensor]


class Mix:
    """A weighted sum of loss components.

    Parameters
    ----------
    weights
        Weight by component name; components of weight 0 are left out.
    temperature
        T of the components that compare distributions.

    Raises
    ------
    UnknownNameError
        No such component.
    UsageError
        No component has a weight.
    """

    def __init__(self, weights: Mapping[str, float], temperature: float) -> None:
        self.weights = {name: weight for name, weight in weights.items() if weight}
        if not self.weights:
            raise UsageError("Expected a loss component with a weight. Got none. Set --alpha.")
        self.temperature = temperature
        self._components = {name: LOSSES.get(name)() for name in self.weights}

    @property
    def compared(self) -> list[str]:
        """Names of the components that compare with the teacher."""
        return [name for name, component in self._components.items() if component.needs_signal]

    @property
    def needs_signal(self) -> bool:
        """Whether any component compares with the teacher."""
        return bool(self.compared)

    def __call__(self, student_logits_LV: Tensor, labels_L: Tensor, signal: Signal | None) -> LossOut:
        """Sums over the label tokens of float logits [L, V] and labels int64 [L]."""
        sums = {
            name: component(student_logits_LV, labels_L, signal, self.temperature)
            for name, component in self._components.items()
        }
        total = sum(
            (self.weights[name] * value for name, value in sums.items()), start=student_logits_LV.new_zeros(())
        )
        return LossOut(total, {name: value.detach() for name, value in sums.items()})


def distillation_mix(config: LossConfig) -> Mix:
    """``alpha * ce + (1 - alpha) * distillation``.

    Raises
    ------
    UnknownNameError
        No such component.
    UsageError
        The distillation component does not look at the teacher.
    """
    if not LOSSES.get(config.distillation).needs_signal:
        raise UsageError(
            f"Expected a component that compares with the teacher as --distillation. Got {config.distillation!r}. "
            "Use kl or jsd; --alpha weighs the labels' cross-entropy."
        )
    return Mix({"ce": config.alpha, config.distillation: 1 - config.alpha}, config.temperature)
