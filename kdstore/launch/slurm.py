"""A build as a SLURM job array: what is submitted, and what the queue says of it."""

import hashlib
import re
import shlex
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

from kdstore.console import note
from kdstore.errors import CapabilityError, UsageError
from kdstore.launch.record import SlurmLaunch, write_launch
from kdstore.store import atomic

_PENDING = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}


def script_text() -> str:
    """The job script, as it lies in ``slurm/``."""
    return (files("kdstore.launch") / "build_shards_array.sh").read_text(encoding="utf-8")


def env_text() -> str:
    """``env.sh`` as it lies in ``slurm/``, with the environment that runs this program."""
    text = (files("kdstore.launch") / "env.sh").read_text(encoding="utf-8")
    return f"KD_VENV=${{KD_VENV:-{shlex.quote(sys.prefix)}}}\n{text}"


def job_name(out: Path) -> str:
    """A name that no other build's jobs have, so that the queue can be asked for it."""
    return f"kdstore-{hashlib.sha256(str(out).encode()).hexdigest()[:8]}"


def directory_for(out: Path) -> Path:
    """Where script, ``env.sh`` and logs of a store's jobs lie: beside it."""
    return out.with_name(f"{out.name}.slurm")


def submit(launch: SlurmLaunch) -> SlurmLaunch:
    """Write script and ``env.sh``, submit all tasks, and record the launch; an ``env.sh`` that is there is kept.

    Raises
    ------
    CapabilityError
        There is no SLURM here, or it refuses the job; its own words are in the message.
    UsageError
        More tasks than the cluster lets an array have.
    """
    if shutil.which("sbatch") is None:
        raise CapabilityError(
            "Expected the program sbatch. Got none on PATH. Submit from a login node of the cluster, or use "
            "`kdstore launch local`."
        )
    check_array_size(launch.tasks)
    launch.directory.mkdir(parents=True, exist_ok=True)
    atomic.write_text(launch.script, script_text())
    if not launch.env.is_file():
        atomic.write_text(launch.env, env_text())
    # Before the first task can ask for it, and again once the number is known.
    write_launch(launch)
    command = launch.command(range(launch.tasks))
    answer = _run([command[0], "--parsable", *command[1:]])
    submitted = launch.model_copy(update={"job_ids": (answer.strip().partition(";")[0],)})
    write_launch(submitted)
    return submitted


def check_array_size(tasks: int) -> None:
    """Raise `UsageError` where ``tasks`` are more than the cluster's MaxArraySize; unknown without ``scontrol``."""
    if shutil.which("scontrol") is None:
        note("The cluster's MaxArraySize was not checked: there is no scontrol here.")
        return
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _run(["scontrol", "show", "config"]), re.MULTILINE)
    if found and tasks > int(found[1]):
        raise UsageError(
            f"Expected at most {found[1]} tasks, this cluster's MaxArraySize. Got --tasks {tasks}. Take fewer: each "
            "then writes more parts."
        )


def queued(launch: SlurmLaunch) -> dict[int, str]:
    """The tasks that the queue knows: ``pending`` or ``running``."""
    if shutil.which("squeue") is None:
        return {}
    try:
        lines = _run(["squeue", "-h", "-r", f"--name={launch.job_name}", "-o", "%K %T"]).splitlines()
    except CapabilityError as error:
        note(f"What is running is not known. {error}")
        return {}
    pairs = (line.split() for line in lines)
    return {int(task): "pending" if state in _PENDING else "running" for task, state in pairs if task.isdecimal()}


def _run(command: list[str]) -> str:
    """What a program of SLURM prints; raises `CapabilityError` with its own words where it fails."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        words = " ".join(result.stderr.split()) or "nothing"
        raise CapabilityError(f"Expected {command[0]} to succeed. Got exit code {result.returncode}: {words}")
    return result.stdout
