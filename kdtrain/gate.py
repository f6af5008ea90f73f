"""Is a store's signal true enough for a loss? What its build has measured, held against ``--max-angle``."""

from collections.abc import Sequence
from typing import Any

from kdstore.codecs import Codec
from kdstore.errors import CapabilityError
from kdstore.store.manifest import CodecRecord, Fidelity
from kdstore.store.reader import Store
from kdtrain.config import LossConfig
from kdtrain.mix import Mix


def check_signal(store: Store, codec: Codec[Any], mix: Mix, config: LossConfig) -> list[str]:
    """Check every component of a loss that compares with the teacher.

    Gives what a user should know of the signal's fidelity and could not be refused for, one line each: that nobody
    measured it, or how far off it is where that was accepted.

    Raises
    ------
    CapabilityError
        The codec cannot serve a component or the temperatures at all; or nobody accepted that the gradient that it
        gives lies further from the full teacher's than ``max_angle``, or was measured at other temperatures.
    """
    lowest, highest = mix.temperatures
    _check_served(store, codec, lowest, highest)
    notes = []
    for name in mix.compared:
        codec.check_divergence(name)
        records = measured(store.head.codec, name)
        worst = worst_between(records, lowest, highest)
        if worst is None:
            notes.append(
                f"{store.root}: nobody measured how true its signal is for {name!r}. Stores of very few rows and "
                "imported candidates have no such numbers; --max-angle is not applied."
            )
            continue
        outside = [T for T in sorted({lowest, highest}) if not records[0].temperature <= T <= records[-1].temperature]
        if outside:
            between = f"T = {records[0].temperature:g} to {records[-1].temperature:g}"
            if not config.accept_infidelity:
                raise CapabilityError(
                    f"Expected a signal of {store.root} that was measured for {name!r} at T = {outside[0]:g}. Got "
                    f"measurements at {between}. Train within them, or pass --accept-infidelity."
                )
            notes.append(f"{store.root}: measured for {name!r} at {between}, accepted by --accept-infidelity.")
        if worst.angle_deg > config.max_angle:
            if not config.accept_infidelity:
                raise CapabilityError(_refusal(store, worst, records, (lowest, highest), config.max_angle))
            notes.append(f"{store.root}: {_found(worst)}, accepted by --accept-infidelity.")
    return notes


def _check_served(store: Store, codec: Codec[Any], lowest: float, highest: float) -> None:
    if codec.temperatures is not None and lowest != highest:
        raise CapabilityError(
            f"Expected one of the temperatures that the signal of {store.root} serves "
            f"({', '.join(f'{T:g}' for T in codec.temperatures)}). Got all from {highest:g} down to {lowest:g}. Pass "
            "--no-temperature-decay, or build the store with --codec lowrank."
        )
    for temperature in (lowest, highest):
        codec.check_temperature(temperature)


def measured(codec: CodecRecord | None, divergence: str) -> list[Fidelity]:
    """What the manifest says of the settings that the store was written with, by temperature.

    It lists others that were tried too.
    """
    if codec is None:
        return []
    kept = (codec.name, codec.config, divergence)
    found = [record for record in codec.fidelity if (record.codec, record.settings, record.divergence) == kept]
    return sorted(found, key=lambda record: record.temperature)


def governing(records: Sequence[Fidelity], temperature: float) -> Fidelity | None:
    """The record to go by at a temperature; None where there is none.

    It is the one measured there; between two measured temperatures the worse of both; outside of all the nearest.
    Where one temperature was measured more than once, the worst counts.
    """
    below = [record for record in records if record.temperature <= temperature]
    above = [record for record in records if record.temperature >= temperature]
    nearest = []
    if below:
        nearest.append(max(below, key=lambda record: (record.temperature, record.angle_deg)))
    if above:
        nearest.append(min(above, key=lambda record: (record.temperature, -record.angle_deg)))
    return max(nearest, key=lambda record: record.angle_deg, default=None)


def worst_between(records: Sequence[Fidelity], lowest: float, highest: float) -> Fidelity | None:
    """The worst of the records to go by at some temperatures; None where there is none."""
    within = [record.temperature for record in records if lowest < record.temperature < highest]
    found = [governing(records, temperature) for temperature in (lowest, *within, highest)]
    return max(filter(None, found), key=lambda record: record.angle_deg, default=None)


def _refusal(
    store: Store, worst: Fidelity, records: Sequence[Fidelity], temperatures: tuple[float, float], limit: float
) -> str:
    lowest, highest = temperatures
    lower = [r.temperature for r in records if r.temperature < highest and r.angle_deg <= limit]
    constant = "" if lowest == highest else " --no-temperature-decay"
    ways = [
        f"build it with --codec lowrank{f' --target-angle {limit:g}' if worst.codec == 'lowrank' else ''}",
        *(f"train at --temperature {T:g}{constant}" for T in sorted(lower)[-1:]),
        "pass --accept-infidelity",
    ]
    return (
        f"Expected a gradient within {limit:g} degrees of the full teacher's (--max-angle) from {store.root} at "
        f"T = {highest:g}{f' to {lowest:g}' if lowest < highest else ''}. Got {_found(worst)}. {_either(ways)}."
    )


def _found(record: Fidelity) -> str:
    return (
        f"{record.angle_deg:.1f} degrees for {record.divergence!r} at T = {record.temperature:g} from the codec "
        f"{record.codec!r}, measured on {record.positions:,} label tokens with the gradients of {record.reference}"
    )


def _either(ways: Sequence[str]) -> str:
    text = f"{', '.join(ways[:-1])}, or {ways[-1]}"
    return text[0].upper() + text[1:]
