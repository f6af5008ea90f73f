"""The run directory: where a run keeps its models, logs, configuration and checkpoints."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from kdstore.errors import MismatchError, TrainingError
from kdstore.store import atomic
from kdstore.store.files import read_bounded
from kdstore.validation import parse
from kdtrain.config import Config, section_of
from kdtrain.distributed import Processes
from kdtrain.logs.columns import GRADIENTS_FILE, METRICS_FILE, STEP_FILE
from kdtrain.provenance import command_entry

# May differ between a run and its continuation: they change neither weights nor losses.
_FREE = {
    "device", "checkpoint_steps", "keep_checkpoints", "after", "ram_limit", "residency", "read_threads",
    "parallel", "ddp_timeout", "gradient_steps",
}  # fmt: skip

LOCK: Final = ".lock"


@dataclass(frozen=True)
class RunDir:
    """Paths in a run directory; ``sources`` say where values of its configuration come from."""

    root: Path
    sources: Mapping[str, str] = field(default_factory=dict)

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
    def step_metrics(self) -> Path:
        """One row per optimizer step; `kdtrain.logs.columns` defines this table and the next two."""
        return self.root / STEP_FILE

    @property
    def metrics(self) -> Path:
        """One row per validation, and per end of an epoch without one."""
        return self.root / METRICS_FILE

    @property
    def component_gradients(self) -> Path:
        """One row per measurement of the components' gradients."""
        return self.root / GRADIENTS_FILE

    def epoch_summary(self, epoch: int) -> Path:
        """An epoch, counted from 1, in figures."""
        return self.root / f"epoch_{epoch}_summary.json"

    @property
    def training_report(self) -> Path:
        """The whole run in figures, with where it comes from."""
        return self.root / "training_report.json"

    @property
    def loss_summary(self) -> Path:
        """Each loss component over the whole run."""
        return self.root / "multi_component_loss_summary.json"

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
    def sources_file(self) -> Path:
        """Where each value that is no default came from, at the last start."""
        return self.root / "config_sources.json"

    @property
    def command(self) -> Path:
        """Command line, versions, commits and environment, one entry per start."""
        return self.root / "command.txt"

    def record(self, config: Config) -> None:
        """Create the directory where needed, and write down configuration, command line and what surrounds them.

        Raises
        ------
        MismatchError
            The run that is there was started with another configuration; the first difference is named.
        """
        if self.config.is_file():
            check_same(parse(Config, read_bounded(self.config), f"configuration {self.config}"), config)
        self.root.mkdir(parents=True, exist_ok=True)
        atomic.write_text(self.config, config.to_json())
        atomic.write_text(self.root / "config.sha256", f"{config.sha256()}  {self.config.name}\n")
        sources = {f"{section_of(key)}.{key}": source for key, source in self.sources.items()}
        atomic.write_text(self.sources_file, json.dumps(sources, indent=1, sort_keys=True) + "\n")
        with self.command.open("a", encoding="utf-8") as file:
            file.write(command_entry())


@contextmanager
def claimed(
    output_dir: Path | None,
    model: str,
    processes: Processes,
    *,
    resume: bool,
    sources: Mapping[str, str] | None = None,
) -> Iterator[RunDir]:
    """The run directory, see `claim`; no other run can begin there while the block runs.

    Of several processes the main one claims it.

    Raises
    ------
    TrainingError
        As for `claim`; or another run goes on there.
    """
    if not processes.main:
        yield RunDir(Path(processes.broadcast("")), sources or {})
        return
    run = claim(output_dir, model, resume=resume, sources=sources)
    with atomic.locked(run.root / LOCK, "training", TrainingError):
        processes.broadcast(str(run.root))
        yield run


def claim(output_dir: Path | None, model: str, *, resume: bool, sources: Mapping[str, str] | None = None) -> RunDir:
    """The run directory at ``output_dir``, or a new ``results/<timestamp>_<model>``; nothing is written yet.

    Raises
    ------
    TrainingError
        It holds something and nothing is to be resumed, or it cannot be written to.
    """
    if output_dir is None:
        name = re.sub(r"[^\w.-]+", "-", model.strip("/"))
        output_dir = Path("results") / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{name}"
    if (output_dir.exists() or output_dir.is_symlink()) and not output_dir.is_dir():
        raise TrainingError(f"Expected a directory as --output-dir. Got the file {output_dir}. Choose another.")
    if not resume and output_dir.is_dir() and any(path.name != LOCK for path in output_dir.iterdir()):
        raise TrainingError(
            f"Expected a new or empty --output-dir. Got {output_dir}, which is in use. "
            "Continue the run there with --resume auto, or choose another directory."
        )
    existing = next(path for path in (output_dir, *output_dir.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise TrainingError(f"Expected a directory as --output-dir. Got {output_dir}: {existing} is a file.")
    if not os.access(existing, os.W_OK):
        raise TrainingError(f"Expected a writable --output-dir. Got {output_dir}: {existing} is read-only for you.")
    return RunDir(output_dir, sources or {})


def check_same(before: Config, now: Config) -> None:
    """Check that a run is continued as it was started, but for what changes neither weights nor losses.

    Raises
    ------
    MismatchError
        It is not; the first difference is named.
    """
    mine_by_section = now.model_dump(mode="json")
    for section, values in before.model_dump(mode="json").items():
        for key, value in values.items():
            mine = mine_by_section[section][key]
            if key not in _FREE and value != mine:
                raise MismatchError(
                    f"Expected {key} = {value!r} as the run in this directory was started with. Got {mine!r}. "
                    "Resume with the same settings, or choose another --output-dir."
                )
