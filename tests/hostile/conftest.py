"""A small store of every kind of field, and a copy of it to damage for every test."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kdstore.cli import main

from ..small_store import write_store
from .damage import READINGS, refusal

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 11 rows in two parts with shared arrays, that nobody changes."""
    root = write_store(tmp_path_factory.mktemp("hostile") / "good.kd", "lowrank").root
    assert not [reading for reading in READINGS if refusal(root, reading)]
    return root


@pytest.fixture
def store(pristine: Path, tmp_path: Path) -> Path:
    """A copy of the store."""
    copy = tmp_path / "store.kd"
    shutil.copytree(pristine, copy)
    return copy


@pytest.fixture
def kdstore() -> Run:
    """Run a ``kdstore`` command in this process."""
    return lambda *args: CliRunner().invoke(main, [str(arg) for arg in args])
