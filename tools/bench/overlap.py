"""What streaming adds to a training step: a student trained from a store, and on the same batches held in memory."""

import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median

import click
import torch
from torch.nn.utils import clip_grad_norm_

from kdstore.console import print_json
from kdstore.encode.device import resolve_device
from kdstore.store.reader import Store
from kdtrain.config import resolve
from kdtrain.loaders import Needs, training_loader
from kdtrain.models import seq2seq
from kdtrain.optimizer import adamw
from kdtrain.stream.batch import Batch
from kdtrain.stream.loader import Loader
from kdtrain.student import Step, Student
from kdtrain.weights import Weights, temperature_at


@click.command()
@click.argument("store", type=click.Path(path_type=Path, exists=True))
@click.option("--preset", default="tiny", show_default=True, help="Size of the student.")
@click.option("--batch-size", default=16, show_default=True, help="Rows per step.")
@click.option("--steps", default=40, show_default=True, help="Steps of a round.")
@click.option("--rounds", default=5, show_default=True, help="Rounds; each is streamed, then repeated from memory.")
@click.option("--ram-limit", default="300MiB", show_default=True, help="What streaming may take.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write the figures here.")
def main(
    store: Path, preset: str, batch_size: int, steps: int, rounds: int, ram_limit: str, device: str, out: Path | None
) -> None:
    """Time steps of a student on a STORE, streamed through a window and from memory, in turn.

    A round takes the next steps from the stream, with reading threads at work beside it, then the same batches again
    from a list. The medians over all steps are compared.

    \b
    Example:
        python tools/bench/overlap.py quickstart/train.kd --json overlap.json
    """
    options = {
        "batch_size": batch_size,
        "ram_limit": ram_limit,
        "residency": "window",
        "device": device,
        "loss_function": "traditional",
        "temperature": 2.0,
        "temperature_decay": False,
    }
    config = resolve({}, options)
    found, target = Store(store), resolve_device(device)
    torch.manual_seed(0)
    model = seq2seq.create(preset, found.head.vocab_size, found.head.tokenizer)
    weights = Weights(config.loss, steps)
    student = Student(model, weights.names, {}).to(target).train()
    limit = config.data.ram_limit
    assert limit is not None
    loader = training_loader(found, config, target, limit, Needs(signal=True))
    trial = Trial(student, weights.at(0), temperature_at(config.loss, 0, steps), loader, adamw(student, config))
    stream = trial.endless()
    trial.run(stream, 5)  # everything has been used once
    streamed: list[tuple[float, float]] = []
    held: list[tuple[float, float]] = []
    for _ in range(rounds):
        kept: list[Batch] = []
        streamed += trial.run(stream, steps, kept)
        held += trial.run(kept, steps)
    step_s, memory_s = (median(wait + step for wait, step in times) for times in (streamed, held))
    record = {
        "store": store.name, "rows": found.rows, "preset": preset, "batch_size": batch_size, "device": str(target),
        "steps": len(streamed), "planned_mb": round(loader.plan.expected_peak / 2**20),
        "step_ms": round(1000 * step_s, 2), "step_from_memory_ms": round(1000 * memory_s, 2),
        "ratio": round(step_s / memory_s, 4),
        "data_wait_share": round(sum(wait for wait, _ in streamed) / sum(map(sum, streamed)), 5),
        "torch_threads": torch.get_num_threads(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1),
    }  # fmt: skip
    print_json(record)
    if out:
        out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


class Trial:
    """Training steps as `kdtrain.trainer` takes them, timed."""

    def __init__(
        self,
        student: Student,
        weights: Mapping[str, float],
        temperature: float,
        loader: Loader,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self.student, self.weights, self.temperature = student, weights, temperature
        self.loader, self.optimizer = loader, optimizer

    def endless(self) -> Iterable[Batch]:
        """Epoch after epoch."""
        while True:
            yield from self.loader

    def run(self, batches: Iterable[Batch], steps: int, kept: list[Batch] | None = None) -> list[tuple[float, float]]:
        """Seconds of waiting and of computing of each step; the batches are added to ``kept``."""
        times, source = [], iter(batches)
        for _ in range(steps):
            start = time.perf_counter()
            batch = next(source)
            waited = time.perf_counter()
            self._step(batch)
            times.append((waited - start, time.perf_counter() - waited))
            if kept is not None:
                kept.append(batch)
        return times

    def _step(self, batch: Batch) -> None:
        coefficients = {name: weight / batch.label_tokens for name, weight in self.weights.items()}
        out = self.student(batch, Step(coefficients, self.temperature, self.loader.codec_of(batch)))
        out.total.backward()
        clip_grad_norm_(self.student.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.loader.device.type == "cuda":
            torch.cuda.synchronize()


if __name__ == "__main__":
    main()
