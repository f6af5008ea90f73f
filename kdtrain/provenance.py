"""What surrounds the start of a run: command line, versions, commits, and what matters of the environment."""

import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

_VERSIONED: Final = ("kdstore", "torch", "transformers", "tokenizers", "zarr", "numpy")
# What decides which device, how many threads and processes, and which files a run gets.
_NAMES: Final = {
    "CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "RANK", "WORLD_SIZE",
    "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "HF_HOME", "HF_HUB_OFFLINE", "HF_ENDPOINT",
    "TRANSFORMERS_OFFLINE", "TOKENIZERS_PARALLELISM",
}  # fmt: skip
_PREFIXES: Final = (
    "PYTORCH_", "KD_", "NCCL_", "SLURM_JOB_", "SLURM_ARRAY_", "SLURM_GPUS", "SLURM_CPUS_PER_TASK", "SLURM_NNODES",
    "SLURM_NTASKS", "SLURM_NODEID", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_MEM_PER_", "SLURM_RESTART_COUNT",
)  # fmt: skip
_WORDS: Final = r"(^|[-_])(TOKEN|KEY|SECRET|PASS(WORD|WD)?|CREDENTIALS?|AUTH)"
_SECRET: Final = re.compile(rf"{_WORDS}([-_]|$)", re.IGNORECASE)
# On a command line parameters are called critical_token_weight and the like.
_SECRET_OPTION: Final = re.compile(rf"{_WORDS}$", re.IGNORECASE)
_IN_ADDRESS: Final = re.compile(r"(?<=://)[^/@\s]+@")
_GIT_SECONDS: Final = 10


def command_entry() -> str:
    """An entry of ``command.txt``, for this process."""
    lines = {
        "command": shlex.join(map(_bare, sys.argv)),
        "versions": ", ".join(
            [f"python {platform.python_version()}", *(f"{name} {version(name)}" for name in _VERSIONED)]
        ),
        "machine": f"{platform.platform()}, {os.cpu_count()} cores",
        **_commits(Path(__file__).parents[1], Path.cwd()),
    }
    told = [f"  {name + ':':<12}{value}" for name, value in lines.items()]
    told += [f"  environment: {name}={value}" for name, value in environment(os.environ).items()]
    return "\n".join([f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S %z}", *told]) + "\n"


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Those variables that matter to a run, sorted; nothing whose name says that it is a secret."""
    return {
        name: _bare(value)
        for name, value in sorted(variables.items())
        if (name in _NAMES or name.startswith(_PREFIXES)) and not _SECRET.search(name)
    }


def _commits(code: Path, here: Path) -> dict[str, str]:
    """The commit of the code, where it runs from a checkout, and of the current directory, where it is another."""
    found = {}
    roots = {"code": code if (code / ".git").exists() else None, "directory": _root(here)}
    if roots["code"] and roots["directory"] == code:
        del roots["directory"]
    for what, root in roots.items():
        if root and (commit := _git(root, ["rev-parse", "HEAD"])):
            changed = _git(root, ["status", "--porcelain", "--untracked-files=no"])
            state = {None: "not known whether changed", "": "unchanged"}.get(changed, "with changes")
            found[what] = f"{root} at commit {commit}, {state}"
    return found


def _root(directory: Path) -> Path | None:
    found = _git(directory, ["rev-parse", "--show-toplevel"])
    return Path(found) if found else None


def _git(directory: Path, words: Sequence[str]) -> str | None:
    """What git says; None where there is no git, no repository, or no answer in time."""
    command = ["git", "--no-optional-locks", "-C", str(directory), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _bare(text: str) -> str:
    """A word without what it tells of secrets: names and passwords in addresses, and values that are called so."""
    name, equals, _ = text.partition("=")
    if equals and _SECRET_OPTION.search(name):
        return f"{name}=***"
    return _IN_ADDRESS.sub("***@", text)
