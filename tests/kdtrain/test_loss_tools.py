"""The scripts that measure losses run, and their records say what they promise."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(script, *arguments):
    command = [sys.executable, str(ROOT / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.long
def test_the_head_is_measured_beside_dense_losses(tmp_path):
    out = tmp_path / "loss.json"
    run(
        "tools/bench/loss.py", "--tokens", 48, "--dim", 8, "--vocab", 2000, "--rounds", 1, "--threads", 1,
        "--codecs", "lowrank,sampled", "--json", out,
    )  # fmt: skip
    records = json.loads(out.read_text())
    assert [(record["name"], record["codec"]) for record in records] == [
        ("ce", None), ("dense_ce_kl", None), ("predecessor_jsd", None),
        ("ours_ce_kl", "lowrank"), ("ours_focal_jsd", "lowrank"), ("ours_ce_kl", "sampled"),
    ]  # fmt: skip
    for record in records:
        assert (record["tokens"], record["dim"]) == (48, 8)
        assert record["seconds"] > 0
        assert record["peak_mb"] > 0
    for record in records[3:5]:
        assert record["loss_error"] < 1e-4
        assert record["gradient_error"] < 1e-4
    # Dense logits of teacher and student, and what autograd keeps of them.
    assert records[1]["peak_mb"] > 3 * 48 * 2000 * 4 / 1e6


@pytest.mark.long
def test_students_of_two_signals_see_the_same_batches(make_store, model_dir, tmp_path):
    dense = make_store(tmp_path / "dense.kd", 24, codec="dense", codec_config={"dtype": "f32"})
    other = make_store(tmp_path / "lowrank.kd", 24, codec="lowrank")
    out = tmp_path / "students.json"
    run(
        "tools/bench/students.py", dense.root, other.root, "--val", dense.root, "--teacher", model_dir, "--steps", 3,
        "--temperatures", "2", "--seeds", "0,1", "--preset", "micro", "--json", out,
    )  # fmt: skip
    records = json.loads(out.read_text())
    assert [(r["codec"], r["seed"]) for r in records] == [("dense", 0), ("lowrank", 0), ("dense", 1)]
    first, second, another = (record["ce"] for record in records)
    # The same weights and batches, with nearly the same signal; another seed is another student.
    assert second == pytest.approx(first, rel=1e-2)
    assert abs(another - first) > 1e-6
