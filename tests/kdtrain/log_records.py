"""Runs as a trainer would tell of them: the same records for the same step, whoever asks."""

import math
from collections.abc import Iterator

import pytest

from kdtrain.logs.run_log import RunLog
from kdtrain.records import GradientRecord, StepRecord, ValidationRecord
from kdtrain.rundir import RunDir

COMPONENTS = ("focal", "jsd", "semantic")
METRICS = ("exact_match", "f1")
BETA = {"semantic": 5.0}
STEPS_PER_EPOCH, EPOCHS = 4, 3


def step_record(step: int, **changes: object) -> StepRecord:
    """A healthy step; JSD is introduced in the third."""
    raw = {"focal": 2 * math.exp(-step / 9), "jsd": 5 * math.exp(-step / 7), "semantic": 0.9 - step / 100}
    weights = {"focal": 0.5, "jsd": 0.5 if step > 2 else 0.0, "semantic": 0.05}
    if step <= 2:
        del raw["jsd"]
    values = {
        "step": step, "epoch": 1 + (step - 1) // STEPS_PER_EPOCH, "raw": raw, "weights": weights,
        "mini_batch": 2 * ((step - 1) % STEPS_PER_EPOCH) + 1,
        "weighted": {name: value * weights[name] * BETA.get(name, 1) for name, value in raw.items()},
        "norms": {"total": 1.5 + 1 / step, "encoder": 1.0, "decoder": 1.2}, "learning_rate": 1e-3 / step,
        "temperature": 4 - step / 10, "alpha": 0.5, "rows": 8, "label_tokens": 90 + step, "seconds": 0.5,
        "data_wait_s": 0.01, "sampling_s": 0.0, "elapsed_s": 0.5 * step,
    }  # fmt: skip
    return StepRecord(**{**values, **changes})


def validation_record(step: int, **changes: object) -> ValidationRecord:
    """A validation after some step, better than all before."""
    raw = {"focal": 2 * math.exp(-step / 9), "jsd": 5 * math.exp(-step / 7), "semantic": 0.9 - step / 100}
    values = {
        "step": step, "epoch": -(-step // STEPS_PER_EPOCH), "loss": sum(raw.values()), "raw": raw, "best": True,
        "label_tokens": 300, "seconds": 2.0, "elapsed_s": 0.5 * step,
        "metrics": {"exact_match": step / 100, "f1": step / 50}, "metrics_s": 1.5,
    }  # fmt: skip
    return ValidationRecord(**{**values, **changes})


def gradient_record(step: int) -> GradientRecord:
    """Semantic looks at the encoder alone."""
    return GradientRecord(
        step=step,
        epoch=1 + (step - 1) // STEPS_PER_EPOCH,
        decoder={"focal": 3.0, "jsd": 1.0, "semantic": None},
        encoder={"focal": 1.0, "jsd": 0.5, "semantic": 0.5 / step},
    )


def told(after: int = 0) -> Iterator[tuple[str, int]]:
    """What a trainer tells from a checkpoint of step ``after`` on: kind and step. Epoch 2 has no validation."""
    if after == 0:
        yield "validation", 0
    for step in range(after + 1, EPOCHS * STEPS_PER_EPOCH + 1):
        yield "step", step
        if step % 5 == 1:
            yield "gradients", step
        if step % STEPS_PER_EPOCH == 0:
            if step != 2 * STEPS_PER_EPOCH:
                yield "validation", step
            yield "epoch", step


def write(run: RunDir, after: int = 0, stop: tuple[str, int] | None = None) -> None:
    """Write a run's logs, from a checkpoint of step ``after`` to the end or until ``stop`` was told."""
    run.root.mkdir(exist_ok=True)
    with RunLog(run, COMPONENTS, METRICS, after) as log:
        for kind, step in told(after):
            if kind == "step":
                log.step(step_record(step))
            elif kind == "validation":
                log.validation(validation_record(step))
            elif kind == "gradients":
                log.gradients(gradient_record(step))
            else:
                log.epoch(step // STEPS_PER_EPOCH, step, f"{step * 8} rows, coverage {step / 12:.0%}")
            if (kind, step) == stop:
                return
        log.finish({"steps": 12, "best_loss": math.nan, "stores": ["train.kd"], "config_sha256": "ab"})


@pytest.fixture
def written(tmp_path) -> RunDir:
    """A run of three epochs of four steps."""
    run = RunDir(tmp_path / "run")
    write(run)
    return run
