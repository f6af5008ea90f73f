"""How fast loaders turn files into padded batches, and what memory they take: ours, and those of other libraries."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from kdstore.console import stdout

_HERE = Path(__file__).parent
_OURS = ("ours-zarr", "ours-webdataset", "ours-zarr-window", "ours-webdataset-window")
_PEERS = ("webdataset", "datasets-map", "datasets-streaming", "litdata", "mosaicml-streaming")
_NAMES = (*_OURS, *_PEERS, "order")
_SAME_FILES = {
    "ours-zarr-window": "ours-zarr",
    "ours-webdataset-window": "ours-webdataset",
    "datasets-streaming": "datasets-map",
}
_ORDER_ROWS = 10_000_000
_DEFAULT_PYTHON = Path(".bench/bin/python")
_COLUMNS = {
    "batch_size": "rows of a batch",
    "rows_per_s": "rows/s",
    "rows_per_cpu_s": "rows/CPU s",
    "rows_per_s_cold": "cold",
    "peak_rss_mb": "peak MB",
    "import_rss_mb": "imported MB",
    "planned_mb": "planned MB",
    "bytes_on_disk": "bytes on disk",
    "design_effect": "design effect",
    "design_effect_permuted": "of a permutation",
    "first_batch_s": "first batch s",
    "resume_first_batch_s": "resumed s",
}


@click.command()
@click.option("--only", help=f"Names separated by commas, of {', '.join(_NAMES)}.  [default: all]")
@click.option("--rows", default=20_000, show_default=True, help="How many records.")
@click.option("--batch-sizes", default="32,256", show_default=True, help="Rows of a batch, separated by commas.")
@click.option("--epochs", default=3, show_default=True, help="So many epochs are timed; the best counts.")
@click.option("--seconds", default=6.0, show_default=True, help="After these no further epoch is begun.")
@click.option("--cold", is_flag=True, help="Time an epoch also after the system has forgotten the files.")
@click.option("--peers-python", type=click.Path(path_type=Path), help="Of the environment that peers.txt describes.")
@click.option("--dir", "home", type=click.Path(path_type=Path, file_okay=False), help="Where to work.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write the figures here.")
def main(
    only: str | None,
    rows: int,
    batch_sizes: str,
    epochs: int,
    seconds: float,
    cold: bool,
    peers_python: Path | None,
    home: Path | None,
    out: Path | None,
) -> None:
    """Compare loaders on the same random records: tokens, 32 candidates for every label token, an embedding.

    Each loader makes the same padded tensors, in a process of its own without workers, with the files in the system's
    cache; an epoch is compared with the records first. Ours runs as it does unless told otherwise, and so keeps a
    store in memory where that fits; "-window" lets groups come and go, as for a store that does not. Times depend on
    the machine and on what else runs there, the ratios of one run less so.

    \b
    Example:
        python tools/bench/loader.py --only ours-zarr,webdataset --json loader.json
    """
    names = only.split(",") if only else list(_NAMES)
    if unknown := set(names) - set(_NAMES):
        raise click.UsageError(f"Expected names of {', '.join(_NAMES)}. Got {', '.join(sorted(unknown))}.")
    default = _DEFAULT_PYTHON if _DEFAULT_PYTHON.exists() else Path(sys.executable)
    options = {"rows": rows, "epochs": epochs, "seconds": seconds}
    with tempfile.TemporaryDirectory(prefix="kdtrain-bench-", dir=home) as directory:
        bench = Bench(Path(directory), peers_python or default, options)
        records = []
        for name in names:
            click.echo(f"{name} ...", err=True)
            records += bench.order() if name == "order" else bench.loader(name, _numbers(batch_sizes), cold)
            if out:  # after every loader: all of them together take minutes
                out.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    stdout.print(_table(records))


class Bench:
    """Runs each step in a process of its own, whose peak memory is thus the step's.

    Parameters
    ----------
    base
        An empty directory to work in.
    peers_python
        Runs the libraries compared.
    options
        ``rows``, ``epochs`` and ``seconds``, as on the command line.
    """

    def __init__(self, base: Path, peers_python: Path, options: dict[str, Any]) -> None:
        self._base, self._peers_python = base, peers_python
        self._request = {**options, "records": str(base / "records")}

    def order(self) -> list[dict[str, Any]]:
        """What it costs to plan an epoch of many rows."""
        return [{"loader": "order", **self._check("order", rows=_ORDER_ROWS)}]

    def loader(self, name: str, batch_sizes: list[int], cold: bool) -> list[dict[str, Any]]:
        """A record for every batch size, or one that says why there is none."""
        if not (self._base / "records").is_dir():
            self._check("make")
        files = str(self._base / _SAME_FILES.get(name, name))
        written = self._step(name, step="write", directory=files)
        if "absent" in written:
            return [{"loader": name, **written}]
        return [self._measure(name, batch_rows, files, written, cold) for batch_rows in batch_sizes]

    def _measure(self, name: str, batch_rows: int, files: str, written: dict[str, Any], cold: bool) -> dict[str, Any]:
        request = {
            "directory": files, "batch_rows": batch_rows, "kept": str(self._base / f"kept-{name}-{batch_rows}"),
            "last_batch": -(-self._request["rows"] // batch_rows) - 1, **written,
        }  # fmt: skip
        warm = self._step(name, step="warm", **request)
        effects = self._check("check", **request)
        rest = self._step(name, step="cold", **request) if cold else {}
        known = {key: written[key] for key in ("version", "bytes_on_disk")}
        return {"loader": name, "batch_size": batch_rows, **warm, **rest, **known, **effects}

    def _step(self, loader: str, **request: Any) -> Any:
        ours = loader in _OURS
        script = "_loader_ours.py" if ours else "_loader_peers.py"
        return self._run(Path(sys.executable) if ours else self._peers_python, script, loader=loader, **request)

    def _check(self, step: str, **request: Any) -> Any:
        return self._run(Path(sys.executable), "_loader_checks.py", step=step, **request)

    def _run(self, python: Path, script: str, **request: Any) -> Any:
        """What a script prints on its last line, as JSON."""
        # Libraries keep caches in places that they share with others, and empty them; these are nobody else's.
        names = (
            "TMPDIR",
            "HF_HOME",
            "LITDATA_CACHE_DIR",
            "DATA_OPTIMIZER_CACHE_FOLDER",
            "DATA_OPTIMIZER_DATA_CACHE_FOLDER",
        )
        private = {name: str(self._base / "private" / name) for name in names}
        for directory in private.values():
            Path(directory).mkdir(parents=True, exist_ok=True)
        command = [str(python), str(_HERE / script), json.dumps(self._request | request)]
        env = os.environ | private | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise click.ClickException(f"Expected {script} to end well. Got exit code {done.returncode}, see above.")
        return json.loads(done.stdout.splitlines()[-1])


def _numbers(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError as error:
        raise click.UsageError(f"Expected numbers separated by commas. Got {text!r}.") from error


def _table(records: list[dict[str, Any]]) -> Table:
    table = Table("loader", *_COLUMNS.values())
    for record in records:
        if "batch_size" in record:
            cells = [record.get(name) for name in _COLUMNS]
            table.add_row(record["loader"], *("" if cell is None else f"{cell:,}" for cell in cells))
        else:
            table.add_row(", ".join(f"{name}: {value}" for name, value in record.items() if name != "loader"))
    return table


if __name__ == "__main__":
    main()
