r"""How much each component pulls, and what would make it pull as much as wanted: a rule of thumb.

With g the norms of the gradients of components' parts of the loss at one place, as means over the later half of
the measurements, a component's *pull* is its share :math:`s_c = g_c / \sum g`. Norms are proportional to weights and
beta, so for wanted shares t

* each weight, times :math:`f_c = t_c / s_c`, gives these shares and leaves :math:`\sum g` as it is;
* or beta, times :math:`\frac{t}{1 - t} \cdot \frac{1 - s}{s}`, gives semantic its own, and the others keep the ratios
  among themselves.

Either the one or the other, not both. The place is the encoder's output, which every component reaches; where one of
them was not measured there, the decoder's. It is a rule of thumb: directions are not looked at, gradients that point
against each other cancel, norms change with the student, and what is best on validation rows may be another mixture.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from kdstore.errors import UsageError
from kdtrain.logs.table import Numbers
from kdtrain.losses import LOSSES

SCALED = "semantic"
"""The component that beta multiplies."""
_STEADY = 1e-6


@dataclass(frozen=True)
class Pull:
    """One component: its share of the gradient and the wanted one, and its weight and the one that gives it."""

    share: float
    target: float
    factor: float
    weight: float | None
    recommended_weight: float | None


@dataclass(frozen=True)
class Advice:
    """What would give the wanted shares, from measurements of some steps.

    ``loss_weights`` are for ``--loss-weights``, in the order of ``pulls``; None where weights change over training:
    there what was given is to be multiplied by the factors. ``beta`` is None where it is unknown, its factor where
    semantic has no share.
    """

    place: str
    first_step: int
    last_step: int
    measurements: int
    pulls: dict[str, Pull]
    loss_weights: tuple[float, ...] | None
    beta: float | None
    beta_factor: float | None
    recommended_beta: float | None


def advise(
    components: Sequence[str],
    gradients: Sequence[Numbers],
    steps: Sequence[Numbers],
    wanted: Mapping[str, float],
) -> Advice | None:
    """What would give components the ``wanted`` shares; those not named divide the rest equally.

    Parameters
    ----------
    gradients
        Rows of ``component_gradients.csv``.
    steps
        Rows of ``step_metrics.csv``, from which weights and beta are known; may be empty.

    Returns
    -------
    Advice or None
        None where fewer than two components have a gradient.

    Raises
    ------
    UsageError
        A wanted share is of a component without a gradient, or they leave nothing for the rest.
    """
    late = gradients[len(gradients) // 2 :]
    found = {place: _norms(components, late, place) for place in ("encoder", "decoder")}
    place = max(found, key=lambda name: len(found[name]))  # the first of equals: the encoder
    norms = found[place]
    if len(norms) < 2:
        return None
    targets = _targets(tuple(norms), wanted)
    first, last = (int(row["step"] or 0) for row in (late[0], late[-1]))
    span = [row for row in steps if first <= (row["step"] or 0) <= last]
    pulls = {}
    for name, norm in norms.items():
        share = norm / sum(norms.values())
        factor, weight = targets[name] / share, _mean([row[f"{name}_weight"] for row in span])
        pulls[name] = Pull(share, targets[name], factor, weight, None if weight is None else weight * factor)
    beta, beta_factor = _beta(span), None
    if SCALED in pulls:
        own = pulls[SCALED]
        beta_factor = own.target / (1 - own.target) * (1 - own.share) / own.share
    return Advice(
        place=place,
        first_step=first,
        last_step=last,
        measurements=len(late),
        pulls=pulls,
        loss_weights=_loss_weights(components, pulls, span),
        beta=beta,
        beta_factor=beta_factor,
        recommended_beta=None if beta is None or beta_factor is None else beta * beta_factor,
    )


def _norms(components: Sequence[str], rows: Sequence[Numbers], place: str) -> dict[str, float]:
    """Mean norm of each component that has a gradient at a place."""
    means = {name: _mean([row[f"{name}_{place}_norm"] for row in rows]) for name in components}
    return {name: mean for name, mean in means.items() if mean}


def _targets(names: Sequence[str], wanted: Mapping[str, float]) -> dict[str, float]:
    if unknown := [name for name in wanted if name not in names]:
        raise UsageError(
            f"Expected the wanted share of one of {', '.join(names)}, which have a gradient. Got {unknown[0]!r}. "
            "Name one of these."
        )
    rest, others = 1 - sum(wanted.values()), [name for name in names if name not in wanted]
    if (rest <= 0) if others else abs(rest) > _STEADY:
        raise UsageError(
            f"Expected wanted shares that sum to {'less than 1' if others else '1'}. Got {sum(wanted.values()):g}. "
            f"{', '.join(others) or 'All components'} must have the rest."
        )
    return {name: wanted.get(name, rest / max(1, len(others))) for name in names}


def _beta(rows: Sequence[Numbers]) -> float | None:
    """What semantic's part of the loss is multiplied by beside its weight."""
    found = [
        (row[f"{SCALED}_loss_weighted"] or 0.0) / (raw * weight)
        for row in rows
        if (raw := row.get(f"{SCALED}_loss_raw")) and (weight := row[f"{SCALED}_weight"])
    ]
    return _mean(found)


def _loss_weights(
    components: Sequence[str], pulls: Mapping[str, Pull], rows: Sequence[Numbers]
) -> tuple[float, ...] | None:
    """``--loss-weights`` for the recommended weights: what alpha does to each is taken back."""
    if not rows or len(pulls) < len(components):
        return None
    found = []
    for name in components:
        weights = [row[f"{name}_weight"] or 0.0 for row in rows]
        alphas = [row["alpha"] or 0.0 for row in rows]
        if any(max(values) - min(values) > _STEADY * max(values) for values in (weights, alphas)):
            return None
        hard = LOSSES.get(name).hard if name in LOSSES.names() else None
        found.append(
            (pulls[name].recommended_weight or 0.0) / {True: alphas[0], False: 1 - alphas[0], None: 1.0}[hard]
        )
    return tuple(found)


def _mean(values: Sequence[float | None]) -> float | None:
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return fmean(finite) if finite else None
