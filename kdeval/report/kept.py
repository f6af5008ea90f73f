"""How true a store's signal is to its teacher, from what its manifest says: all settings that were tried."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from kdeval.report.wording import cut
from kdstore.store.manifest import CodecRecord, Fidelity

_LOSS = "kl"
_SIZES = (1e-3, 1e9)  # bytes of a label token that a chart can show; a manifest may say anything
_LONGEST = 160
_MOST = 60  # settings, and temperatures


@dataclass(frozen=True)
class KeptRow:
    """One setting: what it is, bytes per label token, and per temperature the angle and the mean KL."""

    setting: str
    size: str
    angles: list[str]
    kls: list[str]
    stored: bool


@dataclass(frozen=True)
class Point:
    """Bytes per label token and degrees of one setting; ``stored`` marks that of the store."""

    bytes: float
    degrees: float
    label: str
    stored: bool


@dataclass(frozen=True)
class Tradeoff:
    """Angles against bytes at one temperature: points by codec in the order of names, each from few bytes to many."""

    temperature: float
    series: dict[str, list[Point]]


@dataclass(frozen=True)
class Kept:
    """What the manifest says of fidelity; ``charts`` only where more than one setting was tried."""

    temperatures: list[str]
    rows: list[KeptRow]
    basis: str
    charts: list[Tradeoff]


def kept(codec: CodecRecord | None) -> Kept | None:
    """What a report shows of a codec's fidelity under KL; None where nothing was measured."""
    records = [record for record in codec.fidelity if record.divergence == _LOSS] if codec else []
    if not codec or not records:
        return None
    temperatures = sorted({record.temperature for record in records})[:_MOST]
    settings = [list(group) for _, group in groupby(records, key=_identity)][:_MOST]
    return Kept(
        temperatures=[f"{T:g}" for T in temperatures],
        rows=[_row(group, temperatures, _identity(group[0]) == (codec.name, codec.config)) for group in settings],
        basis=_basis(records[0]),
        charts=list(_charts(records, temperatures, codec)) if len(settings) > 1 else [],
    )


def _basis(record: Fidelity) -> str:
    """What was measured, and on what."""
    frequencies = record.reference == "label frequencies"
    student = (
        "knows only how frequent each label token is" if frequencies else f"is {cut(record.reference, _LONGEST)}"
    )
    return (
        f"Measured once, before the store was written, on {record.positions:,} label tokens that the codec was not "
        f"fitted on, in batches of at least {record.batch_positions:,}: the gradient of the loss was computed with "
        "the teacher's full output and with what the store keeps of it. It is the gradient of a student that "
        f"{student}, {record.reference_kl:.3g} nats from the teacher."
    )


def settings_label(codec: str, settings: dict[str, Any]) -> str:
    """A codec with its settings."""
    told = ", ".join(f"{key} = {value}" for key, value in settings.items())
    return cut(f"{codec} ({told})" if told else codec, _LONGEST)


def _identity(record: Fidelity) -> tuple[str, dict[str, Any]]:
    return record.codec, record.settings


def _row(records: Sequence[Fidelity], temperatures: Sequence[float], stored: bool) -> KeptRow:
    by_temperature = {record.temperature: record for record in records}
    found = [by_temperature.get(T) for T in temperatures]
    return KeptRow(
        setting=settings_label(records[0].codec, records[0].settings),
        size=f"{records[0].bytes_per_token:,.4g}",
        angles=["" if record is None else f"{record.angle_deg:.3g}" for record in found],
        kls=["" if record is None or record.kl_mean is None else f"{record.kl_mean:.2g}" for record in found],
        stored=stored,
    )


def _charts(records: Sequence[Fidelity], temperatures: Sequence[float], codec: CodecRecord) -> Iterator[Tradeoff]:
    for temperature in temperatures:
        series: dict[str, list[Point]] = {}
        for record in sorted(records, key=lambda record: (record.codec, record.bytes_per_token))[: _MOST**2]:
            possible = _SIZES[0] <= record.bytes_per_token <= _SIZES[1] and 0 <= record.angle_deg <= 180
            if record.temperature == temperature and possible:
                stored = _identity(record) == (codec.name, codec.config)
                label = settings_label(record.codec, record.settings)
                point = Point(record.bytes_per_token, record.angle_deg, label, stored)
                series.setdefault(cut(record.codec, _LONGEST), []).append(point)
        if series:
            yield Tradeoff(temperature, series)
