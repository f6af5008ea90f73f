"""Checkpoints and models as directories that appear whole or not at all.

A checkpoint ``checkpoints/step-00000500/`` holds ``model.safetensors``, ``state.pt``, and in ``checksums.json`` the
size and SHA-256 of both. The state is optimizer, loss scaler, loss weights, loader and counters; what is random
follows from seed and step. It is written by ``torch.save`` and read back with ``weights_only=True``, which unpickles
nothing but tensors and plain containers.
"""

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from kdstore.errors import TrainingError, first_line
from kdstore.store import atomic
from kdstore.store.files import FileRecord, file_record, read_bounded
from kdstore.validation import parse

State = dict[str, Any]
STATE_KEYS = {"loader", "stepper", "progress", "val_fingerprint", "machine", "config"}
_WEIGHTS, _STATE, _CHECKSUMS = "model.safetensors", "state.pt", "checksums.json"
_CHECKPOINT = re.compile(r"step-\d{8,}")  # what has another name is another's
# What a killed run may leave: directories of `publish`, and files of `atomic.replacing`.
_DIRECTORIES = re.compile(r"\.(?P<name>final_model|best_model|tokenizer|step-\d+)(?P<end>-\w{8}|\.old)")
_FILES = re.compile(r"\.(config|step|training|component|epoch|multi_component)[\w.]*\.(json|csv|sha256)\.\w{8}")


class _Checksums(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: FileRecord
    state: FileRecord


def save(directory: Path, step: int, weights: Mapping[str, Tensor], state: State, keep: int) -> Path:
    """Write the checkpoint of ``step`` below ``directory``, then remove all but the ``keep`` newest ones.

    ``weights`` by name, see `kdtrain.distributed.weights_of`.

    Raises
    ------
    TrainingError
        It cannot be written; the checkpoints before it are still there.
    """

    def write(staged: Path) -> None:
        save_file({name: value.contiguous() for name, value in weights.items()}, staged / _WEIGHTS)
        torch.save(state, staged / _STATE)
        sums = _Checksums(weights=file_record(staged / _WEIGHTS), state=file_record(staged / _STATE))
        (staged / _CHECKSUMS).write_text(sums.model_dump_json(indent=1) + "\n", encoding="utf-8")

    target = directory / f"step-{step:08d}"
    publish(target, write)
    for old in all_of(directory)[:-keep]:
        shutil.rmtree(old)
    return target


def latest(directory: Path) -> Path | None:
    """The newest checkpoint below ``directory``, or None."""
    found = all_of(directory)
    return found[-1] if found else None


def load(path: Path) -> tuple[dict[str, Tensor], State]:
    """A checkpoint's weights by name, and the rest of its state, on the CPU.

    Raises
    ------
    TrainingError
        A file is missing or damaged.
    """
    try:
        _verify(path)
        weights = load_file(path / _WEIGHTS)
        state = torch.load(path / _STATE, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no pickle make the unpickler raise anything, EOFError included
        raise damaged(path, first_line(error)) from None
    if not isinstance(state, dict) or state.keys() != STATE_KEYS:
        raise damaged(path, f"a {_STATE} without the keys of a state")
    return weights, state


def damaged(path: Path, reason: str) -> TrainingError:
    """The error for a checkpoint that cannot be used."""
    return TrainingError(
        f"Expected a checkpoint of this model at {path}. Got: {reason.rstrip('.')}. Remove that directory to "
        "resume from the checkpoint before it."
    )


def publish(target: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a new directory, sync it, and put it in the place of ``target``.

    A directory cannot replace another in one step: an old ``target`` is set aside first, so that a crash in
    between leaves either one of them under its own name, or the old one as ``.<name>.old`` (see `sweep`).

    Raises
    ------
    TrainingError
        The disk is full, or the directory cannot be written for another reason; what was there is kept.
    """
    old = target.with_name(f".{target.name}.old")
    try:
        with atomic.staging(target.parent, f".{target.name}") as staged:
            write(staged)
            atomic.sync_tree(staged)
            if target.exists():
                shutil.rmtree(old, ignore_errors=True)
                target.rename(old)
            atomic.commit_directory(staged, target)
    except Exception as error:
        if not _is_refusal(error):
            raise
        raise TrainingError(
            f"Expected to write {target}. Got: {first_line(error).rstrip('.')}. Free space there or mend "
            "what it says, then continue with --resume auto."
        ) from None
    shutil.rmtree(old, ignore_errors=True)


def sweep(directory: Path) -> None:
    """Remove what a killed run left half-written in ``directory``; put back what it had set aside.

    No other process may be writing there.
    """
    atomic.remove_abandoned(directory)
    for path in sorted(directory.glob(".*")):
        found = _DIRECTORIES.fullmatch(path.name)
        if found and found["end"] == ".old" and not (target := path.with_name(found["name"])).exists():
            path.rename(target)
        elif found and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif _FILES.fullmatch(path.name) and path.is_file():
            path.unlink()


def _verify(path: Path) -> None:
    sums = parse(_Checksums, read_bounded(path / _CHECKSUMS), _CHECKSUMS, TrainingError)
    for name, record in ((_WEIGHTS, sums.weights), (_STATE, sums.state)):
        if file_record(path / name) != record:
            raise TrainingError(f"a {name} whose checksum is not the one in {_CHECKSUMS}")


def _is_refusal(error: Exception) -> bool:
    # safetensors and torch report a failed write in types of their own, tokenizers as a bare Exception.
    return isinstance(error, (OSError, SafetensorError, RuntimeError)) or type(error) is Exception


def all_of(directory: Path) -> list[Path]:
    """All checkpoints below ``directory``, the oldest first."""
    found = [path for path in directory.glob("step-*") if _CHECKPOINT.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))
