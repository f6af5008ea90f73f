"""Several processes under torchrun train as one does: the same losses, and the same rows after a change of number."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from kdstore.errors import UsageError
from kdtrain import rundir
from kdtrain.config import resolve
from kdtrain.distributed import started
from kdtrain.run import Stores, make_mix, train

from .test_trainer import interrupt_after

PATIENCE_S = 240
# The preset has no dropout. 97 rows: the last batch of an epoch has one row, which only one of two processes has.
OPTIONS = {
    "from_scratch": "micro", "device": "cpu", "batch_size": 8, "lr": 5e-3, "epochs": 2, "checkpoint_steps": 5,
}  # fmt: skip
ALL = {"loss_components": ["focal", "jsd", "semantic", "pans", "ast"], "normalize_components": True}


@pytest.fixture(scope="module")
def stores(make_store, tmp_path_factory):
    root = tmp_path_factory.mktemp("several")
    same = {"codec": "dense", "texts": True}
    return Stores((make_store(root / "a.kd", 97, **same),), make_store(root / "val.kd", 19, seed=1, **same))


def alone(stores, root: Path, **options) -> rundir.RunDir:
    run = rundir.claim(root, "model", resume=root.exists())
    train(stores, resolve({}, {**OPTIONS, **options}), run, resume=root.exists())
    return run


def together(stores, root: Path, launcher=("torch.distributed.run", "--standalone", "--nproc-per-node"), **options):
    """The command, in two processes."""
    words = [sys.executable, "-m", *launcher, "2", "-m", "kdtrain", "student", str(stores.train[0].root)]
    words += ["--val", str(stores.val.root), "--output-dir", str(root), "--no-after", "--validator", "none"]
    for name, value in {**OPTIONS, **options}.items():
        words.append(f"--{name}")
        if value is not True:
            words += [",".join(value) if isinstance(value, list) else str(value)]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=PATIENCE_S,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return rundir.RunDir(root), done


def read(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def assert_same_losses(run: rundir.RunDir, other: rundir.RunDir, tolerance: float = 1e-5) -> None:
    """Every column of losses and weights, of steps and of validations."""
    compared = 0
    for name in ("step_metrics", "metrics"):
        mine, theirs = read(getattr(run, name)), read(getattr(other, name))
        assert len(mine) == len(theirs)
        for one, two in zip(mine, theirs, strict=True):
            for column in one:
                if "loss" in column or column in {"step", "epoch", "label_tokens", "effective_batch_size"}:
                    assert (one[column] == "") == (two[column] == "")
                    assert float(one[column] or 0) == pytest.approx(
                        float(two[column] or 0),
                        rel=tolerance,
                        abs=1e-7,  # of a cosine near 1 no more is left
                    ), column
                    compared += 1
    assert compared > 100


def test_two_processes_of_ddp_have_the_losses_of_one(stores, tmp_path):
    one = alone(stores, tmp_path / "one", **ALL)
    two, done = together(stores, tmp_path / "two", **ALL)
    assert_same_losses(one, two)
    # Only one of them speaks.
    assert done.stderr.count("Training: ") + done.stdout.count("Training: ") == 1
    assert "2 processes" in two.log.read_text()


def test_fsdp_continues_a_run_of_one_process_and_hands_it_back(stores, tmp_path, monkeypatch):
    """Weights and optimizer state lie in shares; a checkpoint is whole, whoever writes it."""
    plain = {"loss_components": ["focal", "jsd", "semantic", "pans"], "epochs": 3}
    whole = alone(stores, tmp_path / "whole", **plain)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 17)
        with pytest.raises(KeyboardInterrupt):
            alone(stores, tmp_path / "parts", **plain)
    parts, done = together(stores, tmp_path / "parts", parallel="fsdp", resume="auto", keep_checkpoints=10, **plain)
    assert "continuing after step 15" in done.stderr
    assert "not bit-exact: this run had processes 1 so far, and goes on with 2" in done.stderr
    assert_same_losses(parts, whole)
    for path in parts.checkpoints.iterdir():
        if path.name > "step-00000025":
            shutil.rmtree(path)
    assert_same_losses(alone(stores, tmp_path / "parts", **plain), whole)
    ours, theirs = (load_file(run.final_model / "model.safetensors") for run in (parts, whole))
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        torch.testing.assert_close(ours[name], values, rtol=1e-3, atol=1e-5)


def test_contrastive_needs_two_rows_in_each_process():
    config = resolve({}, {"loss_components": ["contrastive", "ce"], "batch_size": 2})
    make_mix(config)
    with pytest.raises(UsageError, match=r"Got --batch-size 2 for 2 processes\."):
        make_mix(config, 2)


def test_accelerate_launches_it_too(stores, tmp_path):
    run, _ = together(
        stores, tmp_path / "run", ("accelerate.commands.launch", "--multi_gpu", "--num_processes"), max_steps=2
    )
    assert "2 processes" in run.log.read_text()


@pytest.mark.parametrize("given", [{"WORLD_SIZE": "2"}, {"WORLD_SIZE": "2", "RANK": "5", "LOCAL_RANK": "0"}])
def test_an_environment_that_contradicts_itself_is_refused(monkeypatch, given):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="Use torchrun"), started(10, "cpu"):
        pass
