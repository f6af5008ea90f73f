"""``kdstore convert``."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from kdstore.commands._store_options import codec_options, print_built, take_signal
from kdstore.console import print_json, stdout


@click.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--container", type=click.Choice(["zarr", "webdataset"]),
    help="What parts are made of: Zarr arrays, or tar files that the webdataset library reads.",
)  # fmt: skip
@click.option("--part-rows", type=click.IntRange(1), help="Most rows per part.")
@click.option("--block-rows", type=click.IntRange(1, 4096), help="Rows per block.")
@codec_options
@click.option("--dry-run", is_flag=True, help="Say how large the result would be, judged by its first part.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def convert(store: Path, out: Path, container: str | None, part_rows: int | None, block_rows: int | None,
            dry_run: bool, as_json: bool, **options: Any) -> None:  # fmt: skip
    """Write STORE again as OUT: in another container, in parts and blocks of another size, with another codec.

    Rows, their order and all columns stay. Containers and sizes change nothing in the values. With --codec the
    signal is decoded and encoded again, which needs a store that keeps full distributions (lowrank, hidden, dense);
    its angles are then given as an upper bound: those of the old signal and of the new one added.

    An interrupted conversion continues when the same command is run again. The new store names the old one's
    fingerprint.

    \b
    Example:
        kdstore convert train.kd train-tar.kd --container webdataset --dry-run
        kdstore convert train.kd large-parts.kd --part-rows 8192
        kdstore convert dense.kd small.kd --codec lowrank --target-angle 2
    """
    from kdstore.encode.convert import ConvertOptions, estimate
    from kdstore.encode.convert import convert as run_convert
    from kdstore.encode.fit import SignalOptions

    context = click.get_current_context()
    names = ("codec", "codec_set", "target_angle", "target_bytes")
    codec_given = any(context.get_parameter_source(name) is not ParameterSource.DEFAULT for name in names)
    signal = SignalOptions(**take_signal(options)) if codec_given else None
    wanted = ConvertOptions(store, out, container, part_rows, block_rows, signal)
    if not dry_run:
        print_built([run_convert(wanted)], as_json)
        return
    found = estimate(wanted)
    if as_json:
        print_json(asdict(found))
        return
    stdout.print(
        f"{out}: about {found.bytes_then:,} bytes, {found.signal_bytes_per_token_then:.1f} signal bytes per token. "
        f"{store} has {found.bytes_now:,}, {found.signal_bytes_per_token_now:.1f} per token.",
        soft_wrap=True,
    )
