"""Checkpoints and models as directories that appear whole or not at all.

A checkpoint ``checkpoints/step-00000500/`` holds ``model.safetensors`` and ``state.pt``: optimizer, loss scaler,
loader, random generators and counters, written by ``torch.save`` and read back with ``weights_only=True``, which
unpickles nothing but tensors and plain containers.
"""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model

from kdstore.errors import TrainingError
from kdstore.store import atomic

State = dict[str, Any]
_WEIGHTS, _STATE = "model.safetensors", "state.pt"


def save(directory: Path, step: int, model: torch.nn.Module, state: State, keep: int) -> Path:
    """Write the checkpoint of ``step`` below ``directory``, then remove all but the ``keep`` newest ones."""

    def write(staged: Path) -> None:
        save_model(model, str(staged / _WEIGHTS))
        torch.save(state, staged / _STATE)

    target = directory / f"step-{step:08d}"
    publish(target, write)
    for old in _all(directory)[:-keep]:
        shutil.rmtree(old)
    return target


def latest(directory: Path) -> Path | None:
    """The newest checkpoint below ``directory``, or None."""
    found = _all(directory)
    return found[-1] if found else None


def load(path: Path, model: torch.nn.Module) -> State:
    """Load a checkpoint's weights into ``model`` and return the rest of its state, on the CPU.

    Raises
    ------
    TrainingError
        A file is missing or damaged, or the weights belong to another model.
    """
    try:
        load_model(model, path / _WEIGHTS)
        state: State = torch.load(path / _STATE, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise TrainingError(
            f"Expected a checkpoint of this model at {path}. Got: {reason} Remove that directory to resume from "
            "the checkpoint before it."
        ) from None
    return state


def publish(target: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a new directory, sync it, and put it in the place of ``target``.

    A directory cannot replace another in one step: an old ``target`` is set aside first, so that a crash in
    between leaves either one of them under its own name, or the old one as ``.<name>.old``.
    """
    old = target.with_name(f".{target.name}.old")
    with atomic.staging(target.parent, f".{target.name}") as staged:
        write(staged)
        atomic.sync_tree(staged)
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
            target.rename(old)
        atomic.commit_directory(staged, target)
    shutil.rmtree(old, ignore_errors=True)


def _all(directory: Path) -> list[Path]:
    return sorted(directory.glob("step-*"))
