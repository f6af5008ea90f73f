"""A run that is stopped by any signal, at any step, continues to the bit."""

import json
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[2] / "tools" / "crash_training.py"


def test_a_run_that_is_stopped_again_and_again_has_the_curve_of_a_whole_one(dense_stores, tmp_path):
    train, val = dense_stores
    out = tmp_path / "record.json"
    # 36 steps with checkpoints inside epochs, batches that add up, weights that learn, and texts by the student.
    options = [
        "--from-scratch", "micro", "--batch-size", "4", "--gradient-accumulation-steps", "2", "--epochs", "3",
        "--lr", "1e-3", "--dropout-rate", "0.1", "--checkpoint-steps", "5", "--loss-components", "focal", "jsd",
        "semantic", "ast", "--enable-dynamic-weighting", "--normalize-components", "--gradient-steps", "7",
    ]  # fmt: skip
    command = [sys.executable, TOOL, train.root, "--val", val.root, "--kills", "4", "--json", out]
    command += ["--signals", "KILL,INT,TERM,USR1", *options]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    assert record["steps"] == 36
    assert len(record["stops"]) >= 2
    assert record["differences"] == []
