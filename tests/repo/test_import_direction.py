"""A module imports only from its own step or from steps to its left; only some steps know torch."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ..small_store import write_store

ROOT = Path(__file__).parents[2]
PACKAGES = ("kdstore", "kdtrain", "kdeval")  # a package imports only itself and those to its left

# Steps of each package, left to right. "*" holds every module that no other step names; where there is none, a
# new module must be given a step here.
STEPS: dict[str, tuple[set[str], ...]] = {
    "kdstore": (
        {"errors"},
        {"registry", "schema", "validation", "console", "java", "parsing"},
        {"sources"},
        {"tasks", "codecs"},
        {"store"},
        {"fidelity"},
        {"encode"},
        {"launch", "importers"},
        {"commands"},
        {"cli"},
    ),
    "kdtrain": ({"stream", "losses", "models"}, {"*"}, {"commands"}, {"cli"}, {"__main__"}),
    "kdeval": ({"samples", "text"}, {"metrics"}, {"*"}, {"report"}, {"commands"}, {"cli"}),
}
HEAVY = {"torch", "transformers", "sentence_transformers"}
MAY_BE_HEAVY = ("kdstore.codecs", "kdstore.fidelity", "kdstore.encode", "kdstore.importers")
LAZILY_HEAVY = "kdstore.commands"  # inside functions only


@dataclass(frozen=True)
class Import:
    """One imported name: what, in which line, and whether importing the module runs it."""

    name: str
    line: int
    at_import: bool


def imports(source: str, module: str, is_package: bool = False) -> Iterator[Import]:
    """Every name that ``module`` imports, absolute, and modules of ours that it names in strings."""
    tree = ast.parse(source)
    lazy = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _for_types_only(node)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{_base(node, module, is_package)}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            head, dot, rest = node.value.partition(".")
            names = [node.value] if head in PACKAGES and dot and rest.replace(".", "").isidentifier() else []
        for name in names:
            yield Import(name, getattr(node, "lineno", 0), id(node) not in lazy)


def _for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def _base(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    if not node.level:
        return str(node.module)
    parts = module.split(".")
    base = parts[: len(parts) - node.level + is_package]
    return ".".join([*base, node.module] if node.module else base)


def position(name: str) -> tuple[int, int] | None:
    """Package and step of a module or of a name in it; None for what is not ours."""
    package, _, rest = name.partition(".")
    if package not in PACKAGES:
        return None
    first = rest.partition(".")[0]
    steps = STEPS[package]
    found = next((step for step, names in enumerate(steps) if first in names), None)
    if found is None and not _is_module(package, first):
        found = 0  # the package's own __init__, or a name in it
    if found is None:
        found = next((step for step, names in enumerate(steps) if "*" in names), None)
    assert found is not None, f"{package}.{first} has no step: add it to STEPS in {Path(__file__).name}"
    return PACKAGES.index(package), found


def _is_module(package: str, name: str) -> bool:
    return bool(name) and ((ROOT / package / name).is_dir() or (ROOT / package / f"{name}.py").is_file())


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    """What ``module`` imports against the direction, or of torch and its kin where it must not."""
    here = position(module)
    assert here is not None
    found = []
    for item in imports(source, module, is_package):
        there = position(item.name)
        if there is not None and (there[0] > here[0] or (there[0] == here[0] and there[1] > here[1])):
            found.append(f"{module}:{item.line} imports {item.name}, which lies to its right")
        if item.name.partition(".")[0] in HEAVY and not _may_be_heavy(module, item):
            found.append(f"{module}:{item.line} imports {item.name}; only {' and '.join(MAY_BE_HEAVY)} may")
    return found


def _may_be_heavy(module: str, item: Import) -> bool:
    if not module.startswith("kdstore") or f"{module}.".startswith(tuple(f"{name}." for name in MAY_BE_HEAVY)):
        return True
    return module.startswith(f"{LAZILY_HEAVY}.") and not item.at_import


def modules() -> list[tuple[str, Path]]:
    """Every module of the packages: its name and file."""
    files = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return [
        (".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path) for path in files
    ]


def test_every_module_imports_to_the_left_only() -> None:
    found = [
        problem
        for name, path in modules()
        for problem in violations(path.read_text(encoding="utf-8"), name, path.name == "__init__.py")
    ]
    assert not found, "\n".join(found)


def test_all_three_packages_are_looked_at() -> None:
    names = {name for name, _ in modules()}
    assert {"kdstore.store.reader", "kdstore.codecs", "kdtrain.cli", "kdeval.cli"} <= names


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("kdstore.store.reader", "from kdstore.encode.build import build"),
        ("kdstore.store.reader", "import kdstore.encode"),
        ("kdstore.store.reader", "from kdstore import encode"),
        ("kdstore.store.reader", "from ..encode import build"),
        ("kdstore.store.reader", "def f():\n    from kdstore.encode import build"),
        ("kdstore.store.reader", "if TYPE_CHECKING:\n    from kdstore.encode.teacher import Teacher"),
        ("kdstore.store.reader", "importlib.import_module('kdstore.encode.build')"),
        ("kdstore.errors", "from kdstore.registry import Registry"),
        ("kdstore.sources.jsonl", "from kdstore.tasks import TASKS"),
        ("kdstore.codecs.topk", "from kdstore.store.reader import Store"),
        ("kdstore.encode.build", "from kdstore.commands.build import build"),
        ("kdstore.commands.build", "from kdstore.cli import main"),
        ("kdstore.commands.build", "from kdtrain.losses import LOSSES"),
        ("kdstore.cli", "import kdeval"),
        ("kdtrain.trainer", "from kdeval.metrics import METRICS"),
        ("kdtrain.trainer", "importlib.import_module('kdeval.run')"),
        ("kdtrain.losses.kl", "from kdtrain.trainer import Trainer"),
        ("kdeval.metrics.bleu", "from kdeval.run import evaluate"),
        ("kdstore.store.reader", "import torch"),
        ("kdstore.schema", "from torch import Tensor"),
        ("kdstore.store.reader", "def f():\n    import torch"),
        ("kdstore.commands.preview", "import torch.nn"),
        ("kdstore.tasks.java_assertion", "from transformers import AutoTokenizer"),
        ("kdstore.sources.jsonl", "from sentence_transformers import SentenceTransformer"),
    ],
)
def test_a_forbidden_import_is_found(module: str, line: str) -> None:
    assert len(violations(f"import json\n{line}\n", module)) == 1


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("kdstore.store.reader", "from kdstore.store import layout"),
        ("kdstore.store.reader", "from kdstore.schema import Schema"),
        ("kdstore.store.reader", "from . import layout"),
        ("kdstore.encode.build", "import torch"),
        ("kdstore.codecs.topk", "from torch import Tensor"),
        ("kdstore.commands.preview", "def f():\n    import torch"),
        ("kdtrain.trainer", "from kdstore.store.reader import Store"),
        ("kdtrain.trainer", "import torch"),
        ("kdeval.run", "from kdtrain.stream import order"),
        ("kdstore.store.reader", "'kdeval is a word. So is kdtrain.'"),
    ],
)
def test_an_allowed_import_is_left_alone(module: str, line: str) -> None:
    assert violations(line, module) == []


def test_a_relative_import_of_a_package_is_resolved() -> None:
    assert [item.name for item in imports("from . import topk", "kdstore.codecs", is_package=True)] == [
        "kdstore.codecs.topk"
    ]


def loaded(*args: str) -> set[str]:
    """Which of the heavy packages a program has loaded when it exits with code 0."""
    program, *rest = args
    code = f"import sys; sys.argv[0] = {program!r}; from {program}.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code, *rest],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    names = {
        line.rpartition("|")[2].strip() for line in result.stderr.splitlines() if line.startswith("import time:")
    }
    assert "click" in names, "the list of imports is there"
    return names & HEAVY


@pytest.mark.parametrize("command", ["--help", "inspect", "verify --quick"])
def test_light_commands_load_no_torch(tmp_path: Path, command: str) -> None:
    store = [] if command == "--help" else [str(write_store(tmp_path / "a.kd").root)]
    assert loaded("kdstore", *command.split(), *store) == set()


def test_a_heavy_command_would_be_noticed(tmp_path: Path) -> None:
    code = "import sys; import kdstore.codecs; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torch" in result.stdout.split()
