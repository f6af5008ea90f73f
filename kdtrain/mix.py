"""The components of a run, and what they need of its stores."""

from collections.abc import Sequence
from typing import Any

from kdstore.errors import CapabilityError, MismatchError, UsageError
from kdstore.schema import Vector
from kdstore.store.reader import Store
from kdtrain.config import LossConfig
from kdtrain.losses import LOSSES, Component, LabelLoss
from kdtrain.weights import Weights, lowest_temperature

_PREFIX = "embeddings/"
_CODE_ENCODER = "codebert"


class Mix:
    """Loss components that have a weight at some time of training; ``kinds`` are their classes, by name, in order.

    Raises
    ------
    UnknownNameError, UsageError
        See `kdtrain.weights.Weights`; or tokens are to be weighted, or an embedding is named, for no component.
    """

    def __init__(self, config: LossConfig) -> None:
        self.config = config
        self.kinds: dict[str, type[Component]] = {name: LOSSES.get(name) for name in Weights(config, 2).names}
        if config.enable_token_weighting and not any(issubclass(kind, LabelLoss) for kind in self.kinds.values()):
            raise UsageError(
                f"Expected ce or focal with --enable-token-weighting. Got {', '.join(self.kinds)}. Leave it out."
            )
        for name in ("semantic", "contrastive"):
            if getattr(config, f"{name}_embedding") and name not in self.kinds:
                raise UsageError(f"Expected {name!r} among the components with --{name}-embedding. Got none.")

    @property
    def names(self) -> tuple[str, ...]:
        """The components, in the configured order."""
        return tuple(self.kinds)

    @property
    def compared(self) -> list[str]:
        """Names of the components that compare with the teacher."""
        return [name for name, kind in self.kinds.items() if kind.needs_signal]

    @property
    def needs_signal(self) -> bool:
        """Whether any component compares with the teacher."""
        return bool(self.compared)

    def settings(self, name: str) -> dict[str, Any]:
        """The configured arguments of a component's constructor."""
        return {option: getattr(self.config, f"{name}_{option}") for option in self.kinds[name].options}

    @property
    def temperatures(self) -> tuple[float, float]:
        """The lowest and the highest temperature at which it is compared."""
        return lowest_temperature(self.config), self.config.temperature

    def columns(self, stores: Sequence[Store]) -> dict[str, tuple[str, int]]:
        """The embedding of each component that needs one: its name in every store, and its width.

        Raises
        ------
        CapabilityError
            A store has no such embedding; or several, and none was chosen.
        MismatchError
            It has another width in another store.
        """
        found = {}
        for name, kind in self.kinds.items():
            if kind.needs_embedding:
                first, *others = (self._column(name, store) for store in stores)
                for store, other in zip(stores[1:], others, strict=True):
                    if other != first:
                        raise MismatchError(
                            f"Expected the embedding {first[0]!r} of width {first[1]} in {store.root}, as in "
                            f"{stores[0].root}. Got {other[0]!r} of {other[1]}. Build both stores with one command."
                        )
                found[name] = first
        return found

    def _column(self, component: str, store: Store) -> tuple[str, int]:
        """The embedding that a component takes from a store."""
        widths = {
            field.name.removeprefix(_PREFIX): field.width
            for field in store.head.schema_.fields
            if isinstance(field, Vector)
        }
        asked: str | None = getattr(self.config, f"{component}_embedding", None)
        if asked is None:
            asked = _default(component, list(widths))
        if asked is None or asked not in widths:
            raise CapabilityError(
                f"Expected an embedding for {component!r} in {store.root}. Got {', '.join(widths) or 'none'}. "
                + (
                    f"Name one with --{component}-embedding."
                    if widths and hasattr(self.config, f"{component}_embedding")
                    else "Build the store with --embed NAME=ENCODER, or choose other --loss-components."
                )
            )
        return asked, widths[asked]


def _default(component: str, names: list[str]) -> str | None:
    """The only embedding; or of several the code encoder's for contrastive, and the only other one for the rest."""
    if len(names) == 1:
        return names[0]
    code = [name for name in names if name.startswith(_CODE_ENCODER)]
    chosen = code if component == "contrastive" else [name for name in names if name not in code]
    return chosen[0] if len(chosen) == 1 else None
