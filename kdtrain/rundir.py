"""The run directory: where a run keeps its models, logs, configuration and checkpoints."""

import os
import platform
import re
import shlex
import sys
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from kdstore.errors import MismatchError, TrainingError
from kdstore.store import atomic
from kdstore.store.files import read_bounded
from kdstore.validation import parse
from kdtrain.config import Config

# May differ between a run and its continuation: they change neither weights nor losses.
_FREE = {"device", "checkpoint_steps", "keep_checkpoints", "after", "ram_limit", "residency", "read_threads"}
_VERSIONED = ("kdstore", "torch", "transformers", "tokenizers", "zarr", "numpy")


@dataclass(frozen=True)
class RunDir:
    """Paths in a run directory."""

    root: Path

    @property
    def final_model(self) -> Path:
        """The model at the end of training."""
        return self.root / "final_model"

    @property
    def best_model(self) -> Path:
        """The model with the lowest validation loss."""
        return self.root / "best_model"

    @property
    def checkpoints(self) -> Path:
        """Directory of checkpoints."""
        return self.root / "checkpoints"

    @property
    def metrics(self) -> Path:
        """One row per optimizer step and per validation."""
        return self.root / "training_metrics.csv"

    @property
    def log(self) -> Path:
        """What happened, in words."""
        return self.root / "distillation_log.txt"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's event files."""
        return self.root / "tensorboard"

    @property
    def config(self) -> Path:
        """The resolved configuration; its checksum lies beside it in ``config.sha256``."""
        return self.root / "config.json"

    @property
    def command(self) -> Path:
        """Command lines and library versions, one entry per start."""
        return self.root / "command.txt"

    def record(self, config: Config) -> None:
        """Create the directory where needed, and write down configuration, command line and versions.

        Raises
        ------
        MismatchError
            The run that is there was started with another configuration; the first difference is named.
        """
        if self.config.is_file():
            _check_same(parse(Config, read_bounded(self.config), f"configuration {self.config}"), config)
        self.root.mkdir(parents=True, exist_ok=True)
        atomic.write_text(self.config, config.to_json())
        atomic.write_text(self.root / "config.sha256", f"{config.sha256()}  {self.config.name}\n")
        with self.command.open("a", encoding="utf-8") as file:
            file.write(_command_entry())


def claim(output_dir: Path | None, model: str, *, resume: bool) -> RunDir:
    """The run directory at ``output_dir``, or a new ``results/<timestamp>_<model>``; nothing is written yet.

    Raises
    ------
    TrainingError
        It holds something and nothing is to be resumed, or it cannot be written to.
    """
    if output_dir is None:
        name = re.sub(r"[^\w.-]+", "-", model.strip("/"))
        output_dir = Path("results") / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{name}"
    if output_dir.exists() and not output_dir.is_dir():
        raise TrainingError(f"Expected a directory as --output-dir. Got the file {output_dir}. Choose another.")
    if not resume and output_dir.is_dir() and any(output_dir.iterdir()):
        raise TrainingError(
            f"Expected a new or empty --output-dir. Got {output_dir}, which is in use. "
            "Continue the run there with --resume auto, or choose another directory."
        )
    existing = next(path for path in (output_dir, *output_dir.absolute().parents) if path.exists())
    if not os.access(existing, os.W_OK):
        raise TrainingError(f"Expected a writable --output-dir. Got {output_dir}: {existing} is read-only for you.")
    return RunDir(output_dir)


def _check_same(before: Config, now: Config) -> None:
    mine_by_section = now.model_dump(mode="json")
    for section, values in before.model_dump(mode="json").items():
        for key, value in values.items():
            mine = mine_by_section[section][key]
            if key not in _FREE and value != mine:
                raise MismatchError(
                    f"Expected {key} = {value!r} as the run in this directory was started with. Got {mine!r}. "
                    "Resume with the same settings, or choose another --output-dir."
                )


def _command_entry() -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in _VERSIONED)
    return (
        f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S %z}\n"
        f"  command:  {shlex.join(sys.argv)}\n"
        f"  versions: python {platform.python_version()}, {versions}\n"
        f"  machine:  {platform.platform()}, {os.cpu_count()} cores\n"
    )
