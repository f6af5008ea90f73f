"""``kdtrain doctor``."""

from pathlib import Path
from typing import Any

import click

from kdtrain.options import field_options


@click.command("doctor")
@click.argument("store", type=click.Path(path_type=Path))
@field_options(
    "batch_size", "ram_limit", "residency", "group_blocks", "streams", "length_grouped", "read_threads", "device"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def doctor(store: Path, as_json: bool, **options: Any) -> None:
    """Measure how fast a STORE can be streamed here, and how well its rows are mixed.

    Every stage is measured by itself: reading files, decoding blocks in threads, gathering and padding batches, and
    copying to the device. The slowest bounds the rest; what would help is said. During training these stages run
    beside the model: whether they keep up is the column data_wait of step_metrics.csv.

    The design effect tells how well rows are mixed: how many times larger the variance of a batch's mean is than
    under a perfect shuffle of the store, for a feature in which only blocks of rows differ, the worst case.

    \b
    Example:
        kdtrain doctor train.kd
        kdtrain doctor train.kd --batch-size 256 --ram-limit 512MiB --read-threads 4
        kdtrain doctor train.kd --json
    """
    from dataclasses import asdict

    from rich.table import Table

    from kdstore.console import print_json, stdout
    from kdstore.encode.device import resolve_device
    from kdstore.store.reader import Store
    from kdtrain.config import resolve
    from kdtrain.loaders import Needs, training_loader
    from kdtrain.stream.doctor import diagnose
    from kdtrain.stream.plan import default_limit

    config = resolve({}, {name: value for name, value in options.items() if value is not None})
    opened = Store(store)
    device = resolve_device(config.run.device)
    limit = config.data.ram_limit or default_limit()
    loader = training_loader(opened, config, device, limit, Needs(opened.head.codec is not None))
    found = diagnose(loader)
    if as_json:
        settled = {"batch_size": config.data.batch_size, **asdict(loader.config.order)}
        where = {"store": str(store), "device": str(device)}
        print_json({**where, **settled, "plan": asdict(loader.plan), **asdict(found), "bound": found.bound.name})
        return
    table = Table("stage", "rows/s", title=f"Streaming {store}")
    for stage in found.stages:
        cached = "" if found.cold or stage.name != "read" else " (from the file cache)"
        table.add_row(stage.name + cached, f"{stage.rows_per_s:,.0f}")
    table.add_row("all together", f"{found.together:,.0f}")
    stdout.print(table)
    stdout.print(f"plan: {loader.describe()}", soft_wrap=True)
    stdout.print(f"bound by: {found.bound.name}. What would help: {found.bound.advice}.", soft_wrap=True)
    stdout.print(
        f"enough where a training step on {config.data.batch_size} rows takes more than "
        f"{1e3 * config.data.batch_size / found.together:,.1f} ms",
        soft_wrap=True,
    )
    stdout.print(f"first batch after {found.first_batch_s:.2f} s", soft_wrap=True)
    stdout.print(
        f"design effect of batches of {config.data.batch_size}: {found.effect_mean:.2f} on average, "
        f"{found.effect_worst:.2f} at worst (1 is perfect)",
        soft_wrap=True,
    )
