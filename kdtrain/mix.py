"""The components of a run, and what they need of its stores."""

from collections.abc import Sequence
from dataclasses import dataclass

from kdstore.errors import CapabilityError, MismatchError
from kdstore.schema import Vector
from kdstore.store.reader import Store
from kdtrain.config import LossConfig
from kdtrain.losses import LOSSES, Component
from kdtrain.weights import Weights, lowest_temperature

_PREFIX = "embeddings/"
_CODE_ENCODER = "codebert"


@dataclass(frozen=True)
class Mix:
    """Loss components that have a weight at some time of training.

    Raises
    ------
    UnknownNameError, UsageError
        See `kdtrain.weights.Weights`.
    """

    config: LossConfig

    def __post_init__(self) -> None:
        """Refuse what cannot be weighed."""
        assert self.names

    @property
    def names(self) -> tuple[str, ...]:
        """The components, in the configured order."""
        return Weights(self.config, 2).names

    @property
    def kinds(self) -> dict[str, type[Component]]:
        """Their classes by name."""
        return {name: LOSSES.get(name) for name in self.names}

    @property
    def compared(self) -> list[str]:
        """Names of the components that compare with the teacher."""
        return [name for name, kind in self.kinds.items() if kind.needs_signal]

    @property
    def needs_signal(self) -> bool:
        """Whether any component compares with the teacher."""
        return bool(self.compared)

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
                    if widths
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
