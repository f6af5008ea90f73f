"""The job scripts of slurm/ on a real cluster."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from kdstore.cli import main
from kdstore.store.reader import Store
from kdtrain.models.tokenizer import train

ROOT = Path(__file__).parents[2]


def idle_nodes() -> bool:
    if shutil.which("sinfo") is None:
        return False
    seen = subprocess.run(["sinfo", "-h", "-t", "idle", "-o", "%n"], capture_output=True, text=True, check=False)
    return bool(seen.stdout.strip())


@pytest.mark.service
@pytest.mark.skipif(not idle_nodes(), reason="no SLURM here: `sinfo` shows no idle node")
def test_a_build_runs_as_a_job(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    mined = CliRunner().invoke(main, ["mine", str(ROOT / "examples/java"), "--out", str(rows)])
    assert mined.exit_code == 0, mined.output
    train(rows.read_text().splitlines(), 600).save_pretrained(tmp_path / "tokenizer")
    options = ["--wait", "--mem", "1500M", "--cpus-per-task", "1", f"--export=ALL,KD_VENV={sys.prefix}"]
    build = [str(rows), "--tokenizer", str(tmp_path / "tokenizer"), "--out", str(tmp_path / "out.kd")]
    command = ["sbatch", *options, str(ROOT / "slurm" / "build_store.sh"), *build]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=300)
    assert Store(tmp_path / "out.kd").rows > 1000
