"""Train with each loss component alone, and with each preset, and see what that moves on held-out rows.

Every run starts from one student, takes the same batches, and is measured before and after: by the component itself,
by teacher-forced accuracy at critical and at other tokens, and by what the student then generates.
"""

import csv
import json
import shutil
import statistics
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import click
import torch
from torch import Tensor

from kdeval.results import Settings
from kdeval.run import evaluate
from kdstore.console import note, print_json
from kdstore.encode.teacher import Teacher
from kdstore.store.reader import Store
from kdtrain import rundir
from kdtrain.config import resolve
from kdtrain.logs.columns import components_of
from kdtrain.losses import LOSSES
from kdtrain.run import Stores, train
from kdtrain.rundir import RunDir
from kdtrain.stream.batch import IGNORED
from kdtrain.tokens import CriticalTokens
from kdtrain.weights import PRESETS

_TEXT_METRICS: Final = ("exact_match", "f1", "bleu", "ast_validity", "token_accuracy", "loss")
_TRIDENT4: Final = ("focal", "jsd", "semantic", "contrastive")
_ROWS = 16


def runs() -> dict[str, dict[str, Any]]:
    """The settings of every run, by name."""
    alone: dict[str, dict[str, Any]] = {
        name: {"loss_components": (name,), "loss_weights": (1.0,), "alpha": 1.0 if LOSSES.get(name).hard else 0.0}
        for name in LOSSES.names()
    }
    presets = {name: {"loss_function": name} for name in PRESETS}
    more: dict[str, dict[str, Any]] = {
        "multi_component + contrastive": {"loss_components": _TRIDENT4},
        "multi_component + dynamic weights": {"loss_function": "multi_component", "enable_dynamic_weighting": True},
        **{
            f"ce + critical tokens x {weight:g}": {
                **alone["ce"], "enable_token_weighting": True, "critical_token_weight": weight,
            }
            for weight in (2.0, 4.0)
        },
    }  # fmt: skip
    return {**alone, **presets, **more}


@click.command()
@click.argument("store", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--val", type=click.Path(path_type=Path, exists=True), required=True, help="Store of the held-out rows."
)
@click.option(
    "--start", type=click.Path(path_type=Path, exists=True), required=True, help="The student to start from."
)
@click.option("--steps", default=200, show_default=True)
@click.option("--batch-size", default=8, show_default=True)
@click.option("--lr", default=3e-4, show_default=True)
@click.option("--limit", default=150, show_default=True, help="Held-out rows for which students generate.")
@click.option("--only", default="", help="Names of runs, with commas between; by default all.")
@click.option(
    "--json", "out", type=click.Path(path_type=Path), help="Add the records to this file; what it has is kept."
)
def main(
    store: Path,
    val: Path,
    start: Path,
    steps: int,
    batch_size: int,
    lr: float,
    limit: int,
    only: str,
    out: Path | None,
) -> None:
    """Train from START on STORE with each component and preset, and write down what moved.

    \b
    Example:
        python tools/ablation.py train.kd --val val.kd --start student/final_model --json ablation.json
    """
    records: list[dict[str, Any]] = json.loads(out.read_text()) if out and out.exists() else []
    done = {record["name"] for record in records}
    before = generated(start, val, limit)
    for name, settings in runs().items():
        if name in done or (only and name not in only.split(",")):
            continue
        options = {
            "model_name": str(start), "max_steps": steps, "epochs": 10**6, "batch_size": batch_size, "lr": lr,
            "device": "cpu", "accept_infidelity": True, "checkpoint_steps": 10**6, "ast_samples": batch_size,
        }  # fmt: skip
        directory = Path(tempfile.mkdtemp(prefix="kdtrain-ablation-"))
        try:
            run = rundir.claim(directory / "run", "student", resume=False)
            train(Stores((Store(store),), Store(val)), resolve({}, {**options, **settings}), run, resume=False)
            own = moved(run)
            after = generated(run.final_model, val, limit)
        finally:
            shutil.rmtree(directory)
        records.append(
            {"name": name, "steps": steps, "lr": lr, "rows": limit, **own, "before": before, "after": after}
        )
        note(f"{name}: {own}")
        if out:
            out.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    print_json(records)


def moved(run: RunDir) -> dict[str, Any]:
    """The components' means on all held-out rows before and after, and milliseconds per step."""
    trained, measured = _read(run.step_metrics), _read(run.metrics)
    steps = [later - earlier for earlier, later in pairwise(float(row["elapsed_time_seconds"]) for row in trained)]
    first, last = measured[0], measured[-1]
    names = components_of(list(first))
    components = {name: [float(row[f"val_{name}_loss"]) for row in (first, last)] for name in names}
    return {"components": components, "step_ms": round(1000 * statistics.median(steps), 1)}


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def generated(model: Path, val: Path, limit: int) -> dict[str, float]:
    """Metrics of what a student generates, and its accuracy at critical tokens and at others."""
    settings = Settings(device="cpu", limit=limit, batch_size=_ROWS)
    with tempfile.TemporaryDirectory(prefix="kdtrain-ablation-") as directory:
        results = evaluate(model, val, Path(directory), settings, _TEXT_METRICS)
    values = {name: result.value for name, result in results.metrics.items()}
    return {name: round(value, 5) for name, value in {**values, **accuracy(model, Store(val))}.items()}


@torch.inference_mode()
def accuracy(model: Path, store: Store) -> dict[str, float]:
    """Share of label tokens that are the likeliest, teacher-forced, among critical ones and among all others."""
    student, critical = Teacher(str(model), "cpu", "fp32", _ROWS), CriticalTokens.of(store)
    right, count = torch.zeros(2), torch.zeros(2)
    parts = [store.part(ref.index) for ref in store.manifest.parts]
    blocks = [part.read(0, part.blocks, ["input_ids", "labels"]) for part in parts]
    rows = [block.row(index) for block in blocks for index in range(block.rows)]
    for start in range(0, len(rows), _ROWS):
        batch = rows[start : start + _ROWS]
        inputs, labels = ([list(map(int, row[name])) for row in batch] for name in ("input_ids", "labels"))
        logits_LV = student.score(student.encode(inputs), labels).logits_LV
        labels_BT = _padded(labels)
        real_BT = labels_BT != IGNORED
        kind_L = critical.mask(labels_BT)[real_BT].long()
        right.index_add_(0, kind_L, (logits_LV.argmax(-1) == labels_BT[real_BT]).float())
        count.index_add_(0, kind_L, torch.ones(len(kind_L)))
    others, critically = (right / count.clamp(min=1)).tolist()
    return {"critical_accuracy": critically, "other_accuracy": others}


def _padded(rows: list[list[int]]) -> Tensor:
    tensors = [torch.tensor(row) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=IGNORED)


if __name__ == "__main__":
    main()
