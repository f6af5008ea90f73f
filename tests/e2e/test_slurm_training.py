"""Training as jobs on a real cluster: preempted and requeued, failing, and without a GPU."""

import csv
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from kdtrain.models.tokenizer import train as train_tokenizer

from ..random_t5 import save_random_t5
from .cluster import NEEDS_CLUSTER, ROOT, kdstore, mine, until

pytestmark = NEEDS_CLUSTER

# Columns that depend on the clock or the machine.
UNSTEADY = {
    "timestamp", "elapsed_time_seconds", "memory_usage_mb", "data_wait", "tokens_per_second", "sampling_seconds",
}  # fmt: skip
TRAIN = ["--from-scratch", "micro", "--epochs", "2", "--batch-size", "4", "--lr", "1e-3", "--no-after"]
STUDENT = [*TRAIN, "--loss-components", "ce", "kl", "--accept-infidelity", "--validator", "none"]
STUDENT.append("--no-temperature-decay")  # the store serves whole temperatures
STEPS_PER_EPOCH = 60


class Job:
    """A job that was submitted from ``cwd``."""

    def __init__(self, number: str, cwd: Path) -> None:
        self.number, self.cwd = number, cwd

    def field(self, name: str) -> str:
        """What SLURM says of the job now."""
        told = subprocess.run(["scontrol", "show", "job", self.number], capture_output=True, text=True, check=True)
        found = re.search(rf"\b{name}=(\S+)", told.stdout)
        assert found, told.stdout
        return found[1]

    @property
    def log(self) -> str:
        return (self.cwd / "logs" / f"slurm-{self.number}.out").read_text()

    def ended(self) -> str:
        """Its state at the end, when that has come."""
        over = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}
        until(lambda: self.field("JobState") in over, self.cwd / "logs")
        return self.field("JobState")


def submit(cwd: Path, script: str | Path, *args: object, cpus: int = 1, device: str = "cpu") -> Job:
    """Submit a script of ``slurm/``, or another one, to run without GPUs."""
    (cwd / "logs").mkdir(exist_ok=True)
    command = ["sbatch", "--parsable", "--gres=none", "--mem=2500M", f"--cpus-per-task={cpus}"]
    command += [str(ROOT / "slurm" / script), *map(str, args)]
    env = {**os.environ, "KD_DEVICE": device, "KD_VENV": sys.prefix, "KD_SLURM": str(ROOT / "slurm")}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Job(done.stdout.strip(), cwd)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows mined from the example project."""
    return mine(tmp_path_factory.mktemp("rows") / "rows.jsonl")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, rows: Path) -> Path:
    """A training store of an untrained teacher's signal, with ``val.kd`` beside it."""
    root = tmp_path_factory.mktemp("store")
    tokenizer = train_tokenizer(rows.read_text().splitlines(), 600)
    tokenizer.save_pretrained(root / "teacher")
    save_random_t5(root / "teacher", len(tokenizer))
    options = [
        "--limit",
        300,
        "--val-fraction",
        0.2,
        "--codec",
        "topk",
        "--max-input-len",
        64,
        "--max-output-len",
        24,
    ]
    options += ["--no-teacher-prediction", "--fit-positions", 500, "--fidelity-positions", 300]
    stores = ["--out", root / "train.kd", "--val-out", root / "val.kd"]
    kdstore("build", rows, "--teacher", root / "teacher", *options, *stores)
    return root / "train.kd"


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Callable[[str, int], Path]:
    """A function that gives the run directory of a script's job that nothing disturbed."""

    @cache
    def run(script: str, cpus: int) -> Path:
        cwd = tmp_path_factory.mktemp("whole")
        job = submit(cwd, script, *student(store), cpus=cpus)
        assert job.ended() == "COMPLETED", job.log
        return cwd / "run"

    return run


def student(store: Path) -> list[object]:
    return [store, "--val", store.with_name("val.kd"), *STUDENT, "--output-dir", "run"]


def steps(run: Path) -> list[dict[str, str]]:
    """The table of steps without what the clock says."""
    with (run / "step_metrics.csv").open() as file:
        return [{name: cell for name, cell in row.items() if name not in UNSTEADY} for row in csv.DictReader(file)]


def lines(path: Path) -> int:
    return path.read_text().count("\n") if path.is_file() else 0


def signal(job: Job) -> None:
    """What SLURM does some time before a job's limit."""
    subprocess.run(["scancel", "--signal=USR1", job.number], check=True)


def displace(job: Job) -> None:
    """Submit a job that is more urgent and wants all cores."""
    seen = subprocess.run(["sinfo", "-h", "-p", "urgent", "-o", "%c"], capture_output=True, text=True, check=True)
    if not seen.stdout.strip():
        pytest.skip("no partition `urgent` here, as tools/slurm_up.sh makes one")
    command = ["sbatch", "--partition=urgent", f"--cpus-per-task={seen.stdout.strip()}", "--mem=100M"]
    subprocess.run([*command, "--output=/dev/null", "--wrap=true"], check=True)


@pytest.mark.parametrize(
    ("script", "cpus", "make_room"),
    [
        ("student_training_gpu.sh", 1, signal),
        ("student_training_gpu.sh", 1, displace),
        ("multi_gpu_training.sh", 2, signal),
        ("multi_gpu_training.sh", 2, displace),
    ],
)
def test_a_run_that_makes_room_is_requeued_and_ends_as_an_uninterrupted_one(
    tmp_path: Path,
    store: Path,
    uninterrupted: Callable[[str, int], Path],
    script: str,
    cpus: int,
    make_room: Callable[[Job], None],
) -> None:
    whole, run = uninterrupted(script, cpus), tmp_path / "run"
    job = submit(tmp_path, script, *student(store), cpus=cpus)
    until(lambda: lines(run / "step_metrics.csv") > 3, tmp_path / "logs")
    make_room(job)
    assert job.ended() == "COMPLETED", job.log
    assert job.field("Restarts") == "1"
    kept = re.search(r"made room and goes back into the queue; run has step-(\d+)", job.log)
    assert kept, job.log
    assert 3 <= int(kept[1]) < STEPS_PER_EPOCH, "in the middle of the first epoch"
    assert len(steps(whole)) >= 2 * STEPS_PER_EPOCH
    assert steps(run) == steps(whole)
    model = "final_model/model.safetensors"
    assert (run / model).read_bytes() == (whole / model).read_bytes()
    assert not list((tmp_path / "logs").glob(".*")), "nothing but logs is left"


@pytest.mark.parametrize(("script", "cpus"), [("student_training_gpu.sh", 1), ("multi_gpu_training.sh", 2)])
def test_a_failing_job_is_not_requeued_and_keeps_its_code(tmp_path: Path, script: str, cpus: int) -> None:
    job = submit(tmp_path, script, "nowhere.kd", "--output-dir", "run", cpus=cpus)
    assert job.ended() == "FAILED"
    assert (job.field("ExitCode"), job.field("Restarts")) == ("5:0", "0")
    assert "kdtrain: error: " in job.log


def test_a_job_that_gets_nowhere_is_not_requeued_again(tmp_path: Path) -> None:
    script = tmp_path / "standstill.sh"
    body = 'set -euo pipefail\nsource "$KD_SLURM/train.sh"\ntrain bash -c "exit 75" --output-dir run\n'
    script.write_text(f"#!/usr/bin/env bash\n#SBATCH --requeue\n#SBATCH --output=logs/slurm-%j.out\n{body}")
    (tmp_path / "run/checkpoints/step-00000003").mkdir(parents=True)
    job = submit(tmp_path, script)
    assert job.ended() == "FAILED"
    assert (job.field("ExitCode"), job.field("Restarts")) == ("75:0", "0")
    assert "is not requeued: it kept no new checkpoint in run" in job.log


def test_a_run_without_a_directory_gets_one_of_its_job(tmp_path: Path, rows: Path) -> None:
    job = submit(tmp_path, "teacher_training_gpu.sh", rows, *TRAIN, "--max-steps", "2")
    assert job.ended() == "COMPLETED", job.log
    assert (tmp_path / f"results/slurm-{job.number}/final_model/model.safetensors").is_file()


def test_the_node_is_looked_at(tmp_path: Path) -> None:
    job = submit(tmp_path, "test_cuda.sh")
    assert job.ended() == "COMPLETED", job.log
    assert "no GPU was asked for: the CPU does the rest" in job.log
    assert "one training step" in job.log


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_told_by_the_exit_code(tmp_path: Path) -> None:
    job = submit(tmp_path, "test_cuda.sh", device="cuda")
    assert job.ended() == "FAILED"
    assert job.field("ExitCode") == "7:0"
    assert "Expected a GPU. Got none" in job.log
