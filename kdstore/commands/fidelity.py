"""``kdstore fidelity``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from rich.table import Table
from rich.text import Text

from kdstore.commands._plot_option import plot_option
from kdstore.commands._store_options import settings_text
from kdstore.console import note, print_json, stdout
from kdstore.errors import CapabilityError, UsageError
from kdstore.store import layout

if TYPE_CHECKING:
    from kdstore.store.manifest import CodecRecord, Fidelity
    from kdstore.store.reader import Store

AMORTISED: Final = 1_000_000
"""Label tokens over which arrays that are kept once are spread."""


@click.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--teacher", help="Measure anew with this model, which must be the one that made the store.")
@click.option("--student", help="With --teacher: compare gradients at this trained student's; a model directory.")
@click.option(
    "--positions", default=2048, show_default=True, type=click.IntRange(1),
    help="With --teacher: label tokens to measure on.",
)  # fmt: skip
@click.option("--device", default="auto", show_default=True, help="Of the teacher: auto, cpu, cuda, cuda:N or mps.")
@plot_option
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def fidelity(store: Path, teacher: str | None, student: str | None, positions: int, device: str, plot: Path | None,
             as_json: bool) -> None:  # fmt: skip
    """Show how true the signal in STORE is to its teacher, and what it costs.

    Prints what was measured when the store was built, for the codec and for other settings that were tried: per
    temperature and loss, the angle in degrees between the gradients under the stored and under the full teacher
    (mean and worst batch), the ratio of their norms, KL(full || stored) per label token in nats (mean and 99th
    percentile), total variation, how often the likeliest id is the same, and the error of the mass outside the
    teacher's 100 likeliest ids. An angle depends on the batch and on whose gradients are taken: both are said.

    With --teacher the model runs over rows of the store that the codec's fit has not seen, and its output is
    compared with what is really stored.

    \b
    Example:
        kdstore fidelity train.kd --plot fidelity.png
        kdstore fidelity train.kd --teacher teacher/final_model --student results/run/final_model --json
    """
    from kdstore.store.reader import Store

    if student and not teacher:
        raise UsageError("Expected --teacher with --student. Got none. Name the model that made the store.")
    opened = Store(store)
    codec = opened.head.codec
    if codec is None:
        raise CapabilityError(
            f"Expected a store with a teacher's signal. Got {store}, which keeps tokens only. "
            "Build one with `kdstore build --teacher`."
        )
    if teacher:
        from kdstore.encode.remeasure import remeasure

        records: Sequence[Fidelity] = remeasure(opened, teacher, student, device, positions)
    else:
        records = codec.fidelity
    if not records:
        raise CapabilityError(
            f"Expected fidelity in the manifest of {store}. Got none: too few rows were left to measure on. "
            "Measure it with --teacher."
        )
    found = _costs(opened) | {"drift": _worst_drift(opened, codec)}
    if as_json:
        print_json(found | {"measured": "now" if teacher else "build", "fidelity": [_plain(r) for r in records]})
    else:
        _print_costs(found, codec)
        _print_records(records, "now, on what is stored" if teacher else "when the store was built")
    if plot:
        from kdstore.fidelity.plot import draw

        draw(records, plot, (codec.name, codec.config), "stored")
        note(f"plot in {plot}")


def _costs(store: "Store") -> dict[str, Any]:
    codec = store.head.codec
    assert codec is not None
    files = store.manifest.shared_files
    shared = sum(record.bytes for path, record in files.items() if path.startswith(f"{layout.SHARED}/"))
    signal = store.manifest.signal_bytes_per_token
    return {
        "store": str(store.root),
        "fingerprint": store.manifest.fingerprint,
        "codec": codec.name,
        "settings": codec.config,
        "label_tokens": store.manifest.label_tokens,
        "signal_bytes_per_token": round(signal, 3),
        "shared_bytes": shared,
        "shared_bytes_per_token": round(shared / AMORTISED, 3),
        "total_bytes_per_token": round(signal + shared / AMORTISED, 3),
    }


def _worst_drift(store: "Store", codec: "CodecRecord") -> dict[str, Any] | None:
    """The part that the codec fits worst, and how many times worse than the sample; None where none is known."""
    from kdstore.fidelity import drift

    found = []
    for ref in store.manifest.parts:
        times = drift.ratio(store.part(ref.index).record.signal_kl, codec)
        if times is not None:
            found.append((times, ref.index))
    if not found:
        return None
    times, part = max(found)
    return {"ratio": round(times, 3), "part": part, "parts": len(found), "limit": drift.LIMIT}


def _plain(record: "Fidelity") -> dict[str, Any]:
    return record.model_dump(mode="json")


def _print_costs(found: dict[str, Any], codec: "CodecRecord") -> None:
    lines = [
        f"{found['store']}: {codec.name} ({settings_text(codec.config)})",
        f"{found['signal_bytes_per_token']:.1f} signal bytes per label token, and {found['shared_bytes']:,} bytes "
        f"once, which over {AMORTISED:,} tokens are {found['shared_bytes_per_token']:.1f}: "
        f"{found['total_bytes_per_token']:.1f} together.",
    ]
    if drift := found["drift"]:
        lines.append(
            f"KL of later parts is at most {drift['ratio']:.2f} times the sample's (part {drift['part']} of "
            f"{drift['parts']}); above {drift['limit']:g} the codec should be fitted on more rows."
        )
    for line in lines:
        stdout.print(line, markup=False, soft_wrap=True)


def _print_records(records: "Sequence[Fidelity]", when: str) -> None:
    first = records[0]
    stdout.print(f"Measured {when}: {first.basis}.", markup=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    table.add_column("codec")
    table.add_column("bytes/token", justify="right")
    table.add_column("loss")
    for heading in ("T", "angle", "worst", "norm", "KL mean", "KL p99", "TV", "top-1", "tail"):
        table.add_column(heading, justify="right")
    last = None
    for record in records:
        identity = (record.codec, record.settings)
        if last not in (None, identity):
            table.add_section()
        table.add_row(*_identity(record, identity == last), record.divergence, *_numbers(record))
        last = identity
    stdout.print(table)


def _identity(record: "Fidelity", repeated: bool) -> tuple[Text, str]:
    if repeated:
        return Text(""), ""
    return Text(f"{record.codec} {settings_text(record.settings)}"), f"{record.bytes_per_token:,.1f}"


def _numbers(record: "Fidelity") -> tuple[str, ...]:
    return (
        f"{record.temperature:g}",
        f"{record.angle_deg:.2f}",
        f"{record.angle_worst_deg:.2f}",
        f"{record.norm_ratio:.3f}",
        *(
            "-" if value is None else format(value, spec)
            for value, spec in (
                (record.kl_mean, ".2g"), (record.kl_p99, ".2g"), (record.total_variation, ".4f"),
                (record.top1_agreement, ".1%"), (record.tail_mass_error, ".4f"),
            )
        ),
    )  # fmt: skip
