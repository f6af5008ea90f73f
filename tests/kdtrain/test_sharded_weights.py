"""Weights sharded over processes (FSDP2) give the loss and gradients of one process, with tied and untied heads."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from . import fsdp_worker

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_sharded_weights_are_gathered_where_the_head_reads_them(make_store, tmp_path, kind):
    store = make_store(tmp_path / "a.kd", 24, codec="lowrank")
    alone, sharded = tmp_path / "alone.pt", tmp_path / "sharded.pt"
    fsdp_worker.main(store.root, alone, tied=kind == "tied", sharded=False)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m",
        "tests.kdtrain.fsdp_worker", str(store.root), str(sharded), kind,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    expected, found = torch.load(alone, weights_only=True), torch.load(sharded, weights_only=True)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        if values is None:
            assert found[name] is None
        else:
            torch.testing.assert_close(found[name], values, rtol=1e-4, atol=1e-6, msg=name)
