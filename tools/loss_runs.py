"""Whole training runs that differ in their loss alone, evaluated on the same rows, with intervals."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from kdeval.files import read_statistics
from kdeval.interval import bootstrap, interval
from kdeval.metrics import METRICS, Floats, Values
from kdeval.results import PREDICTIONS, SUMMARY, read_predictions, read_results
from kdeval.tally import values_of
from kdstore.console import note, print_json

RUNS = {
    "ce": ["--loss-components", "ce"],
    "traditional": ["--loss-function", "traditional"],
    "multi_component": ["--loss-function", "multi_component"],
    "all + dynamic weights": [
        "--loss-components", "focal", "jsd", "semantic", "contrastive", "pans", "ast", "--enable-dynamic-weighting",
    ],
}  # fmt: skip
_BASE = "ce"
_DRAWS, _GAP = 10_000, "gap."
_METRICS = ("f1", "exact_match", "ast_validity", "token_accuracy", "loss")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("store", type=click.Path(path_type=Path, exists=True))
@click.option("--val", type=click.Path(path_type=Path, exists=True), required=True, help="Store of held-out rows.")
@click.option("--into", type=click.Path(path_type=Path), required=True, help="Where runs go; those there are kept.")
@click.option("--seeds", default=1, show_default=True, help="Runs of each loss.")
@click.option("--only", default="", help="Names of losses, with commas between; by default all.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write the record to this file.")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def main(
    store: Path, val: Path, into: Path, seeds: int, only: str, out: Path | None, options: tuple[str, ...]
) -> None:
    """Train on STORE with each loss and the OPTIONS of `kdtrain student`, and compare what the students write.

    Everything is done by `kdtrain student` and the `kdeval run` that its recipe names. A run that was interrupted
    goes on. Values are means over rows and seeds, with bootstrap intervals over rows; differences are paired.

    \b
    Example:
        python tools/loss_runs.py train.kd --val val.kd --into runs --from-scratch tiny --epochs 5
    """
    names = only.split(",") if only else list(RUNS)
    runs = {
        name: [
            _train(store, val, into / f"{name.replace(' ', '_')}-{seed}", seed, RUNS[name], options)
            for seed in range(seeds)
        ]
        for name in names
    }
    base = _statistics(runs[_BASE])
    records: list[dict[str, Any]] = [
        {
            "name": name,
            "seeds": seeds,
            "options": list(options),
            "rows": len(base["loss"]),
            "steps": _steps(directories[0]),
            "metrics": _compared(_statistics(directories), None if name == _BASE else base),
        }
        for name, directories in runs.items()
    ]
    for record, directories in zip(records, runs.values(), strict=True):
        each = [_values(_statistics([run]), np.ones((1, record["rows"]))) for run in directories]
        for name, found in record["metrics"].items():
            found["by_seed"] = [float(one[name][0]) for one in each]
    if out:
        out.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    print_json(records)


def _train(store: Path, val: Path, run: Path, seed: int, loss: Sequence[str], options: Sequence[str]) -> Path:
    """The directory of a run, finished."""
    if not (run / SUMMARY).exists():
        note(f"training {run}")
        command = ["kdtrain", "student", store, "--val", val, "--output-dir", run, "--resume", "auto", "--seed", seed]
        path = Path(sys.executable).with_name("kdtrain")
        subprocess.run([str(path), *map(str, command[1:]), *loss, *options], check=True)
    return run


def _statistics(runs: Sequence[Path]) -> dict[str, Floats]:
    """What each metric counted by row, averaged over seeds, [N, K]."""
    seeds = [_by_row(run) for run in runs]
    return {name: np.mean([one[name] for one in seeds], axis=0) for name in _METRICS}


def _by_row(run: Path) -> dict[str, Floats]:
    """The same of one run, in the order of the rows' ids."""
    ids = [sample.id for sample in read_predictions(run / PREDICTIONS)]
    order = sorted(range(len(ids)), key=ids.__getitem__)
    student, _ = read_statistics(run, read_results(run))
    return {name: student[name][order].astype(np.float64) for name in _METRICS}


def _values(statistics: Mapping[str, Floats], weights_BN: Floats) -> Values:
    """Values of sets of rows; parts are left out."""
    found = values_of([METRICS.get(name)() for name in _METRICS], statistics, weights_BN)
    return {name: found[name] for name in _METRICS}


def _compared(statistics: Mapping[str, Floats], base: Mapping[str, Floats] | None) -> dict[str, dict[str, Any]]:
    """Each metric with its interval, and its difference from the base with that of the difference."""

    def both(weights_BN: Floats) -> Values:
        found = _values(statistics, weights_BN)
        other = found if base is None else _values(base, weights_BN)
        return found | {_GAP + name: found[name] - other[name] for name in found}

    rows = len(statistics["loss"])
    point, drawn = both(np.ones((1, rows))), bootstrap(both, rows, _DRAWS)
    compared = {}
    for name in _METRICS:
        compared[name] = {"value": float(point[name][0]), "interval": _rounded(drawn[name])}
        if base is not None:
            compared[name]["difference"] = float(point[_GAP + name][0])
            compared[name]["difference_interval"] = _rounded(drawn[_GAP + name])
    return compared


def _rounded(drawn_B: Floats) -> list[float]:
    return [round(end, 6) for end in interval(drawn_B) or ()]


def _steps(run: Path) -> int:
    return int(json.loads((run / "training_report.json").read_text(encoding="utf-8"))["run"]["steps"])


if __name__ == "__main__":
    main()
