"""What the commands that write stores have in common: options, and what they print at the end."""

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdstore.console import print_json, stdout
from kdstore.errors import UsageError

if TYPE_CHECKING:
    from kdstore.encode.build import Built
    from kdstore.encode.worklist import Share


def _share(ctx: click.Context, option: click.Parameter, text: str | None) -> "Share | None":
    from kdstore.encode.worklist import Share

    return None if text is None else Share.parse(text)


_SIGNAL = ("codec", "target_angle", "target_bytes", "fit_positions", "fidelity_positions")

_OUT = (
    click.option("--out", required=True, type=click.Path(path_type=Path), help="The store to build."),
    click.option("--val-out", type=click.Path(path_type=Path), help="Build a validation store here too."),
    click.option(
        "--val-rows", multiple=True, type=click.Path(path_type=Path), help="Rows of the validation store."
    ),
    click.option(
        "--val-fraction", default=0.1, show_default=True, type=click.FloatRange(0, 1, min_open=True, max_open=True),
        help="Without --val-rows: part of ROWS to hold out, by whole test files.",
    ),
)  # fmt: skip
_TASK = (click.option("--task", default="java_assertion", show_default=True, help="What is predicted."),)
_TEACHER = (
    click.option("--tokenizer", help="Directory or hub name; the teacher's own by default."),
    click.option(
        "--no-teacher-prediction", is_flag=True, help="Do not generate and keep the teacher's own prediction."
    ),
    click.option("--max-input-len", default=512, show_default=True, type=click.IntRange(2), help="In tokens."),
    click.option("--max-output-len", default=128, show_default=True, type=click.IntRange(2), help="In tokens."),
    click.option(
        "--batch-size", default=64, show_default=True, type=click.IntRange(1), help="Rows per teacher batch."
    ),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps."),
    click.option(
        "--dtype", default="fp32", show_default=True, type=click.Choice(["fp32", "bf16", "fp16"]),
        help="Number format of the teacher; fp16 needs a GPU.",
    ),
)  # fmt: skip
_CODEC = (
    click.option("--codec", default="lowrank", show_default=True, help="How the teacher's output is kept."),
    click.option("--codec-set", multiple=True, metavar="KEY=VALUE", help="A setting of the codec, such as k=64."),
    click.option(
        "--target-angle", type=click.FloatRange(0, 90, min_open=True), metavar="DEGREES",
        help="Choose the codec's settings: the fewest bytes whose gradient is at most so far from the full "
        "teacher's.",
    ),
    click.option(
        "--target-bytes", type=click.FloatRange(0, min_open=True), metavar="BYTES",
        help="Choose the codec's settings: the truest within so many bytes per label token.",
    ),
    click.option(
        "--fit-positions", default=16_384, show_default=True, type=click.IntRange(1),
        help="Label tokens to fit the codec on, from the first rows in the store's order.",
    ),
    click.option(
        "--fidelity-positions", default=2_048, show_default=True, type=click.IntRange(1),
        help="Label tokens to measure fidelity on, from the next rows.",
    ),
)  # fmt: skip
_EMBED = (
    click.option(
        "--embed", multiple=True, metavar="[COLUMN=]MODEL",
        help="Embed the gold text: 'codebert', or a sentence-transformers name or directory. May be repeated.",
    ),
)  # fmt: skip
_READING = (
    click.option(
        "--overlong", default="truncate", show_default=True, type=click.Choice(["truncate", "skip"]),
        help="Rows over a limit: keep the end of the input and the start of the output, or leave the row out.",
    ),
    click.option("--part-rows", default=1024, show_default=True, type=click.IntRange(1), help="Most rows per part."),
    click.option(
        "--block-rows", default=128, show_default=True, type=click.IntRange(1, 4096), help="Rows per block."
    ),
    click.option(
        "--seed", default=42, show_default=True, type=click.IntRange(0), help="Of the split and of the order."
    ),
    click.option("--limit", type=click.IntRange(1), help="Use only so many rows of each source."),
    click.option("--strict", is_flag=True, help="Stop at the first bad row instead of putting it in quarantine."),
    click.option(
        "--max-bad", default=0.1, show_default=True, type=click.FloatRange(0, 1),
        help="Stop when more than this share of the rows is bad.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
)  # fmt: skip

_PROCESS = (
    click.option(
        "--container", default="zarr", show_default=True, type=click.Choice(["zarr", "webdataset"]),
        help="What parts are made of: Zarr arrays, or tar files that the webdataset library reads.",
    ),
    click.option(
        "--share", metavar="I/N", callback=_share,
        help="Be process I of N, from 0: write every N-th part. Process 0 settles all else first. `kdstore launch` "
        "runs all N.",
    ),
    click.option(
        "--wait-minutes", default=60.0, show_default=True, type=click.FloatRange(0),
        help="With --share: how long processes other than 0 wait for it to settle the build.",
    ),
)  # fmt: skip


def out_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where the stores go, and what is predicted."""
    return _applied((*_OUT, *_TASK), command)


def codec_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """How the teacher's output is kept."""
    return _applied(_CODEC, command)


def layout_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What else is kept of which rows, and in what pieces."""
    return _applied((*_EMBED, *_READING, *_PROCESS), command)


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What is predicted, and which rows are read, in what pieces."""
    return _applied((*_TASK, *_READING), command)


def teacher_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """How the teacher is run."""
    return _applied(_TEACHER, command)


def _applied(options: tuple[Callable[..., Any], ...], command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(options):
        command = option(command)
    return command


def take_teacher(options: dict[str, Any]) -> dict[str, Any]:
    """Take what `teacher_options` gave under another name out of a command's options, as `BuildOptions` calls it."""
    return {
        "predict": not options.pop("no_teacher_prediction"),
        "max_input_tokens": options.pop("max_input_len"),
        "max_output_tokens": options.pop("max_output_len"),
    }


def take_signal(options: dict[str, Any]) -> dict[str, Any]:
    """Take what `codec_options` gave out of a command's options, as arguments of `SignalOptions`.

    Raises
    ------
    UsageError
        A setting of the codec is not KEY=VALUE.
    """
    return {"settings": _settings(options.pop("codec_set"))} | {field: options.pop(field) for field in _SIGNAL}


def _settings(pairs: tuple[str, ...]) -> dict[str, Any]:
    """KEY=VALUE pairs with values in TOML notation; a bare word is a string."""
    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"Expected --codec-set KEY=VALUE. Got {pair!r}.")
        try:
            settings[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            settings[key] = value
    return settings


def print_built(built: "list[Built]", as_json: bool) -> None:
    """Say what was written, for people or for scripts."""
    if as_json:
        print_json([
            {
                "store": str(b.path),
                "rows": b.manifest.rows,
                "label_tokens": b.manifest.label_tokens,
                "signal_bytes_per_token": round(b.manifest.signal_bytes_per_token, 2),
                "bytes": sum(part.bytes for part in b.manifest.parts),
                "scan": b.manifest.head.segments[-1].scan,
                "seconds": round(b.seconds, 1),
                "peak_rss_bytes": b.peak_rss_bytes,
            }
            for b in built
        ])  # fmt: skip
        return
    if not built:
        stdout.print("This share is written; others are not. `kdstore status` tells which.")
        return
    for b in built:
        stdout.print(
            f"{b.path}: {b.manifest.rows:,} rows, {b.manifest.label_tokens:,} label tokens, "
            f"{b.manifest.signal_bytes_per_token:.1f} signal bytes per token."
        )
    stdout.print(f"{built[0].seconds:.0f} s, peak memory {built[0].peak_rss_bytes / 2**20:,.0f} MiB.")


def settings_text(settings: Mapping[str, Any]) -> str:
    """A codec's settings in one line, for people."""
    return ", ".join(f"{key}={value}" for key, value in settings.items())
