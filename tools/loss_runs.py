"""Whole training runs that differ in their loss alone, evaluated on the same rows, with intervals."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from kdeval.results import PREDICTIONS, SUMMARY
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
_DRAWS, _LEVEL = 10_000, 95
Values = dict[str, NDArray[np.float64]]


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
    dice = np.random.default_rng(0)
    base = _values(runs[_BASE])
    draws = dice.integers(0, len(base["tokens"]), (_DRAWS, len(base["tokens"])))
    records: list[dict[str, Any]] = [
        {
            "name": name,
            "seeds": seeds,
            "options": list(options),
            "rows": len(base["tokens"]),
            "steps": _steps(directories[0]),
            "metrics": _compared(_values(directories), None if name == _BASE else base, draws),
        }
        for name, directories in runs.items()
    ]
    for record, directories in zip(records, runs.values(), strict=True):
        each = [_means(_values([run]), np.arange(draws.shape[1])) for run in directories]
        for name, found in record["metrics"].items():
            found["by_seed"] = [float(one[name]) for one in each]
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


def _values(runs: Sequence[Path]) -> Values:
    """What a metric takes its mean of, by row, averaged over seeds; cross-entropy and accuracy are per token."""
    seeds = [_rows(run) for run in runs]
    return {name: np.mean([one[name] for one in seeds], axis=0) for name in seeds[0]}


def _rows(run: Path) -> Values:
    lines = [json.loads(line) for line in (run / PREDICTIONS).read_text(encoding="utf-8").splitlines()]
    lines.sort(key=lambda line: str(line["id"]))
    found = {
        name: np.array([line["scores"][name] for line in lines], float)
        for name in ("exact_match", "f1", "ast_validity")
    }
    for name, key in (("tokens", "token_count"), ("token_accuracy", "token_correct"), ("loss", "nll_sum")):
        found[name] = np.array([line[key] for line in lines], float)
    return found


def _means(values: Values, rows: NDArray[np.int64]) -> dict[str, Any]:
    """Means over some rows, [...] for rows [..., N]."""
    tokens = values["tokens"][rows].sum(-1)
    per_token = {name: values[name][rows].sum(-1) / tokens for name in ("loss", "token_accuracy")}
    return {name: values[name][rows].mean(-1) for name in ("f1", "exact_match", "ast_validity")} | per_token


def _compared(values: Values, base: Values | None, draws: NDArray[np.int64]) -> dict[str, dict[str, Any]]:
    """Each metric with its interval, and its difference from the base with that of the difference."""
    everything = np.arange(draws.shape[1])
    value, spread = _means(values, everything), _means(values, draws)
    found = {name: {"value": float(value[name]), "interval": _interval(spread[name])} for name in value}
    if base is not None:
        other, others = _means(base, everything), _means(base, draws)
        for name, record in found.items():
            record["difference"] = float(value[name] - other[name])
            record["difference_interval"] = _interval(spread[name] - others[name])
    return found


def _interval(draws: NDArray[np.float64]) -> list[float]:
    return [round(float(one), 6) for one in np.percentile(draws, [(100 - _LEVEL) / 2, (100 + _LEVEL) / 2])]


def _steps(run: Path) -> int:
    return int(json.loads((run / "training_report.json").read_text(encoding="utf-8"))["run"]["steps"])


if __name__ == "__main__":
    main()
