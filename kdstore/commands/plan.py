"""``kdstore plan``."""

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource
from pydantic import ByteSize, TypeAdapter, ValidationError
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from kdstore.commands._plot_option import plot_option
from kdstore.commands._store_options import reading_options, settings_text, take_teacher, teacher_options
from kdstore.commands.build import build
from kdstore.console import note, print_json, stdout
from kdstore.errors import CapabilityError, UsageError

if TYPE_CHECKING:
    from kdstore.encode.survey import Survey
    from kdstore.fidelity.trial import Trial

DEFAULT_ANGLE: Final = 10.0
"""Degrees: what `kdtrain` accepts by default."""

_OUT = "train.kd"
_SETTLED_HERE = {"target_angle", "target_bytes", "as_json"}  # options of a build that its printed command leaves out


class _Size(click.ParamType[int]):
    """Bytes, as a number with a unit: 50GB, 512MiB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """See `click.ParamType`."""
        try:
            size = TypeAdapter(ByteSize).validate_python(value)
        except ValidationError:
            size = ByteSize(0)
        # What follows the unit is not looked at there.
        if size <= 0 or not re.fullmatch(r"[\d.]+ ?[A-Za-z]*", str(value)):
            self.fail(f"Expected a size such as 50GB or 512MiB. Got {value!r}.", param, ctx)
        return size


@click.command()
@click.argument("rows", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--teacher", required=True, help="Directory or hub name of a Hugging Face seq2seq model.")
@click.option(
    "--target-angle", type=click.FloatRange(0, 90, min_open=True), metavar="DEGREES",
    help="Recommend the fewest bytes within this angle at T = 1, 2 and 4. Without any target: "
    f"{DEFAULT_ANGLE:g}.",
)  # fmt: skip
@click.option(
    "--target-bytes", type=click.FloatRange(0, min_open=True), metavar="BYTES",
    help="Recommend the truest within so many bytes per label token.",
)  # fmt: skip
@click.option(
    "--disk", type=_Size(), metavar="SIZE", help="Recommend the truest whose whole signal fits, such as 50GB."
)
@click.option("--codecs", metavar="NAME,...", help="What to try; by default all codecs but dense.")
@click.option("--student", "fidelity_student", help="Compare gradients at this trained student's; a model directory.")
@click.option(
    "--sample-positions", default=6144, show_default=True, type=click.IntRange(8),
    help="Label tokens to try codecs on: two thirds to fit, one third to measure.",
)  # fmt: skip
@teacher_options
@reading_options
@plot_option
def plan(rows: tuple[Path, ...], target_angle: float | None, target_bytes: float | None, disk: int | None,
         codecs: str | None, fidelity_student: str | None, sample_positions: int, plot: Path | None, as_json: bool,
         **options: Any) -> None:  # fmt: skip
    """Say what keeping a teacher's signal for ROWS would cost, and how true it would be; recommend a codec.

    Reads all ROWS to count them, and runs the teacher over a few in the order that a build would write them. Every
    codec's settings are fitted on one part of these and measured on the other. Printed are bytes per label token,
    bytes kept once, the size of the whole signal, the angle in degrees between the gradients of KL under the stored
    and under the full teacher at T = 1, 2 and 4, and the minutes that a build would take on this machine.

    The recommended setting comes with the command that builds it. Nothing is left behind. A build fits its codec
    on more positions, which gives smaller angles. Without --student gradients are those of a student that knows
    label frequencies only, who sees less of what a sparse signal loses than a trained one.

    \b
    Example:
        kdstore plan rows.jsonl --teacher teacher/final_model --target-angle 5 --plot plan.png
        kdstore plan rows.jsonl.gz --teacher T --disk 50GB --codecs lowrank,hidden
    """
    if sum(target is not None for target in (target_angle, target_bytes, disk)) > 1:
        raise UsageError("Expected one of --target-angle, --target-bytes and --disk. Got several. Leave one.")
    from kdstore.encode.build import BuildOptions
    from kdstore.encode.fit import SignalOptions
    from kdstore.encode.survey import survey

    if target_bytes is None and disk is None:
        target_angle = target_angle or DEFAULT_ANGLE
    signal = SignalOptions(
        fit_positions=sample_positions - sample_positions // 3,
        fidelity_positions=sample_positions // 3,
        student=fidelity_student,
    )
    found = survey(
        BuildOptions(rows=rows, out=Path(_OUT), signal=signal, **take_teacher(options), **options),
        None if codecs is None else codecs.split(","),
    )
    try:
        best, refusal = _best(found, target_angle, target_bytes, disk), None
    except CapabilityError as error:
        best, refusal = None, error
    command = None if best is None else _command(click.get_current_context(), rows, best)
    if as_json:
        print_json(_plain(found, best, command))
    else:
        _print(found, best, command)
    if plot:
        from kdstore.fidelity.plot import draw

        records = [record for trial in found.trials for record in trial.fidelity]
        draw(records, plot, None if best is None else _identity(best), "recommended", target_angle)
        note(f"plot in {plot}")
    if refusal:
        raise refusal


def _best(found: "Survey", angle: float | None, size: float | None, disk: int | None) -> "Trial":
    from kdstore.fidelity.plan import recommend, truest_on_disk

    if disk is not None:
        return truest_on_disk(found.trials, disk, found.label_tokens)
    return recommend(found.trials, angle, size)


def _identity(trial: "Trial") -> tuple[str, dict[str, Any]]:
    return trial.codec.name, trial.codec.config.model_dump(mode="json")


def _command(context: click.Context, rows: tuple[Path, ...], best: "Trial") -> str:
    """The build with the recommended settings, and all options that were given here and mean the same there."""
    words = ["kdstore", "build", *map(str, rows)]
    for option in build.params:
        name = str(option.name)
        if not isinstance(option, click.Option) or name in _SETTLED_HERE or name not in context.params:
            continue
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            words += [option.opts[0], *([] if option.is_flag else [str(context.params[name])])]
    words += ["--codec", best.codec.name]
    for key, value in best.codec.config.model_dump(mode="json", exclude_defaults=True).items():
        words += ["--codec-set", f"{key}={value}"]
    return shlex.join([*words, "--out", _OUT])


def _plain(found: "Survey", best: "Trial | None", command: str | None) -> dict[str, Any]:
    return {
        "rows": found.rows,
        "label_tokens": found.label_tokens,
        "teacher_tokens_per_s": round(1 / found.teacher_s, 1),
        "prediction_minutes": round(found.rows * found.prediction_s / 60, 3),
        "trials": [
            {
                "codec": trial.codec.name,
                "settings": trial.codec.config.model_dump(mode="json"),
                "bytes_per_token": round(trial.bytes_per_token, 3),
                "shared_bytes": trial.codec.shared_bytes,
                "total_bytes": round(trial.total_bytes(found.label_tokens)),
                "minutes": round(found.minutes(trial), 3),
                "recommended": trial is best,
                "fidelity": [record.model_dump(mode="json") for record in trial.fidelity],
            }
            for trial in found.trials
        ],
        "command": command,
    }


def _print(found: "Survey", best: "Trial | None", command: str | None) -> None:
    record = next(record for trial in found.trials for record in trial.fidelity)
    stdout.print(
        f"{found.rows:,} rows, {found.label_tokens:,} label tokens. Measured on {record.basis}.",
        markup=False,
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("codec")
    for heading in ("bytes/token", "once", "in all", "T=1", "T=2", "T=4", "minutes"):
        table.add_column(heading, justify="right", no_wrap=True)
    last = found.trials[0]
    for trial in found.trials:
        if trial.codec.name != last.codec.name:
            table.add_row()
        table.add_row(*_line(found, trial, trial is best), style="bold" if trial is best else None)
        last = trial
    stdout.print(table)
    if found.prediction_s:
        stdout.print(
            f"Of the minutes, {found.rows * found.prediction_s / 60:,.1f} are for the teacher's own predictions, "
            "which --no-teacher-prediction leaves out."
        )
    if command:
        stdout.print(f"Recommended, marked *:\n  {command}", markup=False, soft_wrap=True)


def _line(found: "Survey", trial: "Trial", best: bool) -> list[Text]:
    codec, settings = _identity(trial)
    angles = {record.temperature: record.angle_deg for record in trial.fidelity}
    varied = {key for rung in trial.codec.ladder for key in rung}  # the others are the same in every line
    return [
        Text(text)
        for text in (
            "*" if best else "",
            f"{codec} {settings_text({key: value for key, value in settings.items() if key in varied})}",
            f"{trial.bytes_per_token:,.1f}",
            decimal(trial.codec.shared_bytes),
            decimal(round(trial.total_bytes(found.label_tokens))),
            *(f"{angles[T]:.1f}" if T in angles else "-" for T in (1.0, 2.0, 4.0)),
            f"{found.minutes(trial):,.1f}",
        )
    ]
