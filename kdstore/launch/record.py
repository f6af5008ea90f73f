"""``.build/launch.json``: how a build was launched, so that what is missing can be launched again.

It lies in every store of the build until that store is finished.
"""

import shlex
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from kdstore.errors import CorruptStoreError
from kdstore.launch.ranges import compress
from kdstore.store import atomic, layout
from kdstore.store.files import read_bounded
from kdstore.store.writer import is_finished
from kdstore.validation import parse

_LONGEST = 16 << 20  # bytes of launch.json: a command line is at most a few megabytes


class Launch(BaseModel, ABC):
    """A build as ``tasks`` processes.

    ``argv`` are the arguments of ``kdstore build`` as they were given in the directory ``cwd``; ``outs`` the stores
    that it builds, absolute.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    launcher: str
    tasks: Annotated[int, Field(ge=1, le=1 << 20)]
    argv: tuple[str, ...]
    outs: Annotated[tuple[Path, ...], Field(min_length=1, max_length=2)]
    cwd: Path

    @abstractmethod
    def again(self, tasks: Sequence[int]) -> str:
        """The shell command that runs ``tasks`` of this launch again."""


class LocalLaunch(Launch):
    """Processes on one machine; ``threads`` as asked for."""

    launcher: Literal["local"] = "local"
    threads: Annotated[int, Field(ge=1)] | None = None

    def again(self, tasks: Sequence[int]) -> str:
        """The same command, for all: what is done is not done again."""
        threads = ["--threads", str(self.threads)] if self.threads else []
        command = ["kdstore", "launch", "local", "--workers", str(self.tasks), *threads, "--", *self.argv]
        there = "" if self.cwd == Path.cwd() else f"cd {shlex.quote(str(self.cwd))} && "
        return there + shlex.join(command)


class SlurmLaunch(Launch):
    """A job array.

    ``directory`` holds the script that was submitted and its ``env.sh``, and gets the logs. ``sbatch`` are options
    that the user gave. ``job_ids`` is what the launch submitted; tasks that were submitted again by hand have the
    same ``job_name``.
    """

    launcher: Literal["slurm"] = "slurm"
    directory: Path
    array_limit: Annotated[int, Field(ge=1)] | None = None
    sbatch: tuple[str, ...] = ()
    job_name: str
    job_ids: tuple[str, ...] = ()

    @property
    def script(self) -> Path:
        """The job script."""
        return self.directory / "build_shards_array.sh"

    @property
    def env(self) -> Path:
        """What the script sources first."""
        return self.directory / "env.sh"

    def command(self, tasks: Sequence[int]) -> list[str]:
        """The command that submits these tasks; of options that are given twice, sbatch takes the last."""
        limit = f"%{self.array_limit}" if self.array_limit else ""
        options = [
            f"--output={self.directory}/%A_%a.log",
            *self.sbatch,
            f"--job-name={self.job_name}",
            f"--chdir={self.cwd}",
            f"--array={compress(tasks)}{limit}",
        ]
        return ["sbatch", *options, str(self.script), str(self.env), str(self.tasks), *self.argv]

    def again(self, tasks: Sequence[int]) -> str:
        """``sbatch`` with these tasks alone."""
        return shlex.join(self.command(tasks))


class _Record(RootModel[Annotated[LocalLaunch | SlurmLaunch, Field(discriminator="launcher")]]):
    pass


def write_launch(launch: Launch) -> None:
    """Keep how a build was launched in those of its stores that are not finished."""
    for out in launch.outs:
        if not is_finished(out):
            path = layout.launch_path(out)
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_text(path, launch.model_dump_json(indent=1) + "\n")


def read_launch(root: Path) -> LocalLaunch | SlurmLaunch | None:
    """How the build at ``root`` was launched; None where nobody launched it, or where it was moved since.

    Raises
    ------
    CorruptStoreError
        The record is not one of ours.
    """
    path = layout.launch_path(root)
    try:
        launch = parse(_Record, read_bounded(path, _LONGEST), f"record in {path}", CorruptStoreError).root
    except FileNotFoundError:
        return None
    return launch if root.resolve() in launch.outs else None
