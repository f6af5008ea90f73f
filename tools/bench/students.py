"""Train the same student from different stored signals of one teacher, and hold each against the running teacher.

All stores hold the same rows in the same places. Every run of a seed starts from the same weights and sees the same
batches, so that what differs is the signal. Dense float32 logits are the yardstick; how far their own seeds lie apart
says how much of a difference is chance.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor
from torch.nn import functional

from kdstore.console import note, print_json
from kdstore.encode.teacher import Teacher
from kdstore.store.reader import Store
from kdtrain import rundir
from kdtrain.config import Config, resolve
from kdtrain.run import Stores, train

YARDSTICK = "dense"
_ROWS = 16  # scored at a time


@click.command()
@click.argument("stores", type=click.Path(path_type=Path, exists=True), nargs=-1, required=True)
@click.option(
    "--val", type=click.Path(path_type=Path, exists=True), required=True, help="Store of the held-out rows."
)
@click.option("--teacher", required=True, help="The teacher's directory.")
@click.option("--temperatures", default="1,2,4", show_default=True)
@click.option("--seeds", default="0,1,2", show_default=True, help="The first for all, the rest for dense.")
@click.option("--steps", default=1000, show_default=True)
@click.option("--batch-size", default=8, show_default=True)
@click.option("--preset", default="tiny", show_default=True)
@click.option("--lr", default=1e-3, show_default=True)
@click.option(
    "--json", "out", type=click.Path(path_type=Path), help="Add the records to this file; what it has is kept."
)
def main(
    stores: tuple[Path, ...],
    val: Path,
    teacher: str,
    temperatures: str,
    seeds: str,
    steps: int,
    batch_size: int,
    preset: str,
    lr: float,
    out: Path | None,
) -> None:
    """Train students from STORES of the same rows, and measure them on held-out rows against the running teacher.

    \b
    Example:
        python tools/bench/students.py low.kd dense.kd topk.kd --val low_val.kd --teacher teacher/ --json
        students.json
    """
    opened = [Store(path) for path in stores]
    for store in opened[1:]:  # the order of rows follows from the fingerprint
        store.manifest = store.manifest.model_copy(update={"fingerprint": opened[0].manifest.fingerprint})
    held_out = HeldOut(Store(val), Teacher(teacher, "cpu", "fp32", _ROWS))
    records: list[dict[str, Any]] = json.loads(out.read_text()) if out and out.exists() else []
    done = {(one["codec"], one["temperature"], one["seed"]) for one in records}
    first, *others = map(int, seeds.split(","))
    for T, seed in product(map(float, temperatures.split(",")), (first, *others)):
        for store in opened:
            codec = store.head.codec.name if store.head.codec else ""
            if (codec, T, seed) in done or (seed != first and codec != YARDSTICK):
                continue
            settings = {
                "loss_function": "traditional", "temperature": T, "temperature_decay": False, "seed": seed, "lr": lr,
                "batch_size": batch_size, "from_scratch": preset, "epochs": 10**6, "max_steps": steps,
                "device": "cpu", "accept_infidelity": True, "checkpoint_steps": 10**6, "residency": "window",
            }  # fmt: skip
            found = held_out.measure(trained(store, resolve({}, settings)), T)
            records.append(
                {"codec": codec, "temperature": T, "seed": seed, "steps": steps, "preset": preset, **found}
            )
            note(f"{codec} T={T:g} seed {seed}: CE {found['ce']:.4f}, KL {found['kl']:.4f}")
            if out:
                out.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    print_json(records)


def trained(store: Store, config: Config) -> Teacher:
    """The student after the last step, as something that scores labels."""
    directory = Path(tempfile.mkdtemp(prefix="kdtrain-students-"))
    try:
        run = rundir.claim(directory / "run", "student", resume=False)
        train(Stores((store,), None), config, run, resume=False)
        return Teacher(str(run.final_model), "cpu", "fp32", _ROWS)
    finally:
        shutil.rmtree(directory)


class HeldOut:
    """Rows that no student has seen, and the teacher that reads them with every student."""

    def __init__(self, store: Store, teacher: Teacher) -> None:
        self.teacher = teacher
        parts = [store.part(ref.index) for ref in store.manifest.parts]
        blocks = [part.read(0, part.blocks, ["input_ids", "labels"]) for part in parts]
        self.rows = [block.row(index) for block in blocks for index in range(block.rows)]

    @torch.inference_mode()
    def measure(self, student: Teacher, temperature: float) -> dict[str, float]:
        """Mean cross-entropy and T^2 KL(teacher || student) per label token, in nats."""
        ce = kl = tokens = 0.0
        for labels_L, teacher_LV, student_LV in self._logits(student):
            ce += float(functional.cross_entropy(student_LV, labels_L, reduction="sum"))
            p_LV, q_LV = (functional.log_softmax(z_LV / temperature, -1) for z_LV in (teacher_LV, student_LV))
            kl += temperature**2 * float(functional.kl_div(q_LV, p_LV, log_target=True, reduction="sum"))
            tokens += len(labels_L)
        return {"ce": ce / tokens, "kl": kl / tokens, "val_tokens": tokens}

    def _logits(self, student: Teacher) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for start in range(0, len(self.rows), _ROWS):
            rows = self.rows[start : start + _ROWS]
            inputs, labels = ([list(map(int, row[name])) for row in rows] for name in ("input_ids", "labels"))
            teacher_LV, student_LV = (
                model.score(model.encode(inputs), labels).logits_LV for model in (self.teacher, student)
            )
            yield torch.tensor([token for row in labels for token in row]), teacher_LV, student_LV


if __name__ == "__main__":
    main()
