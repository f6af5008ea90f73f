"""Memory of streaming: stores of different sizes through one budget, in processes whose address space is limited."""

import json
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from kdstore.console import print_json

_MIB = 1 << 20
_PARTS = 20  # of records that are made; larger stores hold them many times
_ROW_BYTES = 4400  # on disk, about


@click.command()
@click.argument("stores", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--gigabytes", default="0.4,4", show_default=True, help="Without STORES: sizes of those that are written."
)
@click.option("--ram-limit", default=300, show_default=True, help="MiB that streaming may take.")
@click.option("--address-space", default=450, show_default=True, help="MiB that a process may map after its imports.")
@click.option("--epochs", default=2, show_default=True, help="Epochs that are streamed.")
@click.option("--dir", "home", type=click.Path(path_type=Path, file_okay=False), help="Where to work.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write the figures here.")
def main(
    stores: tuple[Path, ...],
    gigabytes: str,
    ram_limit: int,
    address_space: int,
    epochs: int,
    home: Path | None,
    out: Path | None,
) -> None:
    """Stream STORES, or some of random records, see `loader.py`, through a window; 4 GB take half an hour to write.

    A process that would map more memory than allowed ends with an error.

    \b
    Example:
        python tools/bench/window.py --gigabytes 0.4,4 --json window.json
    """
    limits = (ram_limit * _MIB, address_space * _MIB, epochs)
    records = [_in_a_process(_stream, store, *limits) for store in stores]
    with tempfile.TemporaryDirectory(prefix="kdtrain-bench-", dir=home) as directory:
        for size in [] if stores else gigabytes.split(","):
            made = _in_a_process(_write, Path(directory) / size, int(float(size) * 1e9 / _ROW_BYTES))
            records.append(_in_a_process(_stream, made, *limits))
    print_json(records)
    if out:
        out.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


def _in_a_process(action: Any, *arguments: Any) -> Any:
    """What a function gives in a fresh process, whose memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(action, arguments)


def _write(directory: Path, rows: int) -> Path:
    from _loader_checks import make
    from _loader_common import load_records
    from _loader_ours import PART_ROWS, STORE, write

    directory.mkdir()
    records = directory / "records"
    make({"records": str(records), "rows": _PARTS * PART_ROWS})
    write("zarr", load_records(records), directory, times=max(1, rows // (_PARTS * PART_ROWS)))
    return directory / STORE


def _stream(root: Path, ram_limit: int, address_space: int, epochs: int) -> dict[str, Any]:
    import psutil
    import torch

    from kdstore.store.reader import Store
    from kdtrain.stream.config import LoaderConfig
    from kdtrain.stream.loader import Loader
    from kdtrain.stream.order import OrderConfig

    torch.set_num_threads(1)
    imported = psutil.Process().memory_info()
    most = imported.vms + address_space
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    store = Store(root)
    embeddings = tuple(store.head.encoders)
    config = LoaderConfig(32, OrderConfig(0), embeddings=embeddings, ram_limit=ram_limit, residency="window")
    loader = Loader(store, config)
    seconds = []
    for _ in range(epochs):
        began = time.perf_counter()
        assert sum(batch.rows for batch in loader) == loader.rows
        seconds.append(round(time.perf_counter() - began, 1))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "store_bytes": sum(path.stat().st_size for path in root.rglob("*") if path.is_file()),
        "rows": loader.rows, "ram_limit_mb": ram_limit / 1e6, "address_space_mb": address_space / 1e6,
        "planned_mb": round(loader.plan.expected_peak / 1e6, 1), "import_rss_mb": round(imported.rss / 1e6, 1),
        "peak_rss_mb": round(peak / 1e6, 1), "epoch_s": seconds,
    }  # fmt: skip


if __name__ == "__main__":
    main()
