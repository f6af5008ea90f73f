"""A real, tiny teacher with a real tokenizer, and rows for it."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kdstore.cli import main

from ..random_t5 import save_random_t5
from ..small_store import write_store

Run = Callable[..., Result]


def make_rows(count: int, files: int = 12) -> list[dict[str, Any]]:
    """Rows with the keys of `kdstore mine`, spread over test files."""
    rng = random.Random(7)
    kinds = ["assertEquals({a}, box.{m}());", "assertTrue(box.{m}() > {a});", "assertNull(box.{m}({a}));"]
    rows = []
    for index in range(count):
        method, value = f"get{rng.choice('ABCDEFGH')}{index % 9}", rng.randrange(100)
        rows.append(
            {
                "focal_method": f"public int {method}() {{ return values[{index % 31}]; }}",
                "test_method": f"@Test void test{index}() {{ Box box = new Box({value}); " * rng.randint(1, 3),
                "assertion": rng.choice(kinds).format(a=value, m=method),
                "repo": "acme/box",
                "path": f"src/test/java/Box{index % files}Test.java",
                "line": index,
            }
        )
    return rows


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a random T5 of 30 thousand weights, with a byte-level BPE tokenizer."""
    from kdtrain.models.tokenizer import train

    directory = tmp_path_factory.mktemp("teacher")
    texts = [f"{row['focal_method']}\n{row['test_method']}\n{row['assertion']}" for row in make_rows(200)]
    tokenizer = train(texts, vocab_size=400)
    tokenizer.save_pretrained(directory)
    return save_random_t5(directory, len(tokenizer), d_model=32, d_ff=64, num_heads=4)


@pytest.fixture(scope="session")
def kdstore() -> Run:
    """Run a ``kdstore`` command in this process."""
    return lambda *args: CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A file of 120 rows from 12 test files."""
    return write_rows(tmp_path / "rows.jsonl", make_rows(120))


@pytest.fixture
def built(tmp_path: Path, rows: Path, teacher: Path, kdstore: Run) -> Path:
    """A store of 120 rows in 4 parts, with the teacher's signal."""
    out = tmp_path / "good.kd"
    result = kdstore("build", rows, "--teacher", teacher, "--out", out, "--part-rows", 32, "--block-rows", 8)
    assert result.exit_code == 0, result.stderr
    return out


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A webdataset store with a ragged signal, in parts of 6 rows and blocks of 3, that nobody changes."""
    return write_store(tmp_path_factory.mktemp("tar") / "s.kd", "topp", container="webdataset").root


@pytest.fixture
def root(pristine: Path, tmp_path: Path) -> Path:
    """A copy of it to be damaged."""
    return shutil.copytree(pristine, tmp_path / "s.kd")
