"""Jobs on a real SLURM cluster; `tools/slurm_up.sh` starts one of one node, which is this machine."""

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from kdstore.cli import main

ROOT = Path(__file__).parents[2]
PATIENCE_S = 600


def living_nodes() -> bool:
    if shutil.which("sinfo") is None:
        return False
    seen = subprocess.run(
        ["sinfo", "-h", "-t", "idle,mixed,allocated", "-o", "%n"], capture_output=True, text=True, check=False
    )
    return bool(seen.stdout.strip())


NEEDS_CLUSTER = [
    pytest.mark.service,
    pytest.mark.skipif(not living_nodes(), reason="no SLURM here: `sinfo` shows no node that runs jobs"),
]


def kdstore(*args: object) -> str:
    """What a command prints."""
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == 0, result.output
    return result.stdout


def mine(rows: Path) -> Path:
    """Rows of the example project, written to a file."""
    kdstore("mine", ROOT / "examples/java", "--out", rows)
    return rows


def until(condition: Callable[[], object], logs: Path) -> None:
    """Wait for what another machine does; there is nothing here to be told by."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "\n".join(log.read_text() for log in logs.glob("*.*"))
        time.sleep(0.05)
