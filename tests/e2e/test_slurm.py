"""Builds as jobs and job arrays on a real cluster."""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from kdstore.cli import main
from kdstore.store.reader import Store
from kdtrain.models.tokenizer import train

from ..random_t5 import save_random_t5
from .cluster import NEEDS_CLUSTER, PATIENCE_S, ROOT, kdstore, mine, until

SMALL = "--mem=1200M --cpus-per-task=1"

pytestmark = NEEDS_CLUSTER


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Rows mined from the example project."""
    return mine(tmp_path / "rows.jsonl")


@pytest.fixture
def teacher(tmp_path: Path, rows: Path) -> Path:
    """Directory of a small random T5 with a tokenizer for these rows."""
    directory = tmp_path / "teacher"
    tokenizer = train(rows.read_text().splitlines(), 600)
    tokenizer.save_pretrained(directory)
    return save_random_t5(directory, len(tokenizer), d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4)


def status(store: Path) -> dict:
    return json.loads(CliRunner().invoke(main, ["status", str(store), "--json"]).stdout)


def states(store: Path) -> list[str]:
    return [task["state"] for task in status(store)["tasks"]]


def process_of(share: str, cwd: Path) -> psutil.Process:
    """The process that builds this share; the one node of the cluster is this machine. (scancel asks first.)"""
    found = [
        process
        for process in psutil.process_iter(["cmdline", "cwd"])
        if (process.info["cmdline"] or [])[-2:] == ["--share", share] and process.info["cwd"] == str(cwd)
    ]
    assert len(found) == 1
    return found[0]


def content(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_a_build_runs_as_a_job(tmp_path: Path, rows: Path) -> None:
    train(rows.read_text().splitlines(), 600).save_pretrained(tmp_path / "tokenizer")
    options = ["--wait", *SMALL.split(), f"--export=ALL,KD_VENV={sys.prefix}"]
    build = [str(rows), "--tokenizer", str(tmp_path / "tokenizer"), "--out", str(tmp_path / "out.kd")]
    command = ["sbatch", *options, str(ROOT / "slurm" / "build_store.sh"), *build]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=PATIENCE_S)
    assert Store(tmp_path / "out.kd").rows > 1000


def test_a_killed_task_of_an_array_is_resubmitted_and_completes_the_store(
    tmp_path: Path, rows: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as env.sh gives each task, which has one core
    args = ["rows.jsonl", "--teacher", "teacher", "--part-rows", "16", "--block-rows", "16"]
    args += ["--no-teacher-prediction", "--limit", "400", "--fit-positions", "1000", "--fidelity-positions", "300"]
    out, val, logs = tmp_path / "out.kd", tmp_path / "val.kd", tmp_path / "out.kd.slurm"
    kdstore("launch", "slurm", "--tasks", 4, "--sbatch", SMALL, "--", *args, "--out", "out.kd", "--val-out", "val.kd")
    until((out / ".build/prepared").exists, logs)
    until(lambda: list((out / "parts").glob("00003")), logs)  # the first part of task 3
    process_of("3/4", tmp_path).kill()
    until(lambda: not {"running", "pending"} & set(states(val)), logs)
    found = status(val)
    assert [task["state"] for task in found["tasks"]] == ["done", "done", "done", "missing"]
    assert found["tasks"][3]["missing_parts"] > 0
    assert "--array=3" in found["again"]

    subprocess.run(["bash", "-c", found["again"]], cwd="/", check=True)
    until(lambda: status(out)["finished"], logs)
    kdstore("verify", out)
    kdstore("verify", val)
    kdstore("build", *args, "--out", "one.kd", "--val-out", "one-val.kd")
    assert content(out) == content(tmp_path / "one.kd")
    assert content(val) == content(tmp_path / "one-val.kd")
    assert len(list(logs.glob("*.log"))) == 5, "one of each task, two of the one that ran twice"
