"""Shell scripts are what shellcheck accepts; `.shellcheckrc` says how it reads them."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("slurm", "kdstore/launch", "tools")
SCRIPTS = [ROOT / ".ci/run", *(path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.sh")))]


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_shellcheck_has_nothing_to_say(script: Path) -> None:
    done = subprocess.run(["shellcheck", str(script)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
