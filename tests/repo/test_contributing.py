"""The examples of CONTRIBUTING.md work: each is one new file in a folder, and nothing else."""

import doctest
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ..small_store import write_store
from .test_import_direction import violations

ROOT = Path(__file__).parents[2]
EXAMPLES = dict(
    re.findall(
        r"^`([\w/]+\.py)`:\n\n```python\n(.*?)^```$",
        (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"),
        re.DOTALL | re.MULTILINE,
    )
)

# As if the examples lay in the folder: its package also looks for modules where they are.
CONTRIBUTED = """
import importlib
from pathlib import Path

def add(*folders):
    for folder in folders:
        package = importlib.import_module(folder.replace("/", "."))
        package.__path__.append(str(Path(__file__).parent / folder))
"""
PLUGIN = """
import contributed

contributed.add("kdstore/codecs", "kdtrain/losses", "kdeval/metrics")
"""


@pytest.fixture(scope="module")
def contributed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the examples in their folders, and a module that adds these folders to the packages."""
    directory = tmp_path_factory.mktemp("contributed")
    for path, text in EXAMPLES.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(text, encoding="utf-8")
    (directory / "contributed.py").write_text(CONTRIBUTED, encoding="utf-8")
    (directory / "contributed_plugin.py").write_text(PLUGIN, encoding="utf-8")
    return directory


def python(contributed: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the repository and the examples on its path."""
    environment = {**os.environ, "PYTHONPATH": f"{contributed}{os.pathsep}{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    return subprocess.run(
        [sys.executable, *args], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def run(contributed: Path, folder: str, code: str, *args: str) -> str:
    """What some code prints that uses the example of a folder."""
    start = f"import contributed, sys\ncontributed.add({folder!r})\n"
    result = python(contributed, "-W", "error", "-c", start + code, *args)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def test_there_is_an_example_for_every_kind_of_component() -> None:
    assert [path.rpartition("/")[0] for path in EXAMPLES] == [
        "kdstore/codecs", "kdtrain/losses", "kdeval/metrics", "kdstore/tasks", "kdstore/sources", "kdstore/commands",
    ]  # fmt: skip


@pytest.mark.parametrize("path", EXAMPLES)
def test_an_example_is_new_and_keeps_the_import_direction(path: str) -> None:
    assert not (ROOT / path).exists()
    assert violations(EXAMPLES[path], path.removesuffix(".py").replace("/", ".")) == []


def test_examples_are_clean_and_formatted(contributed: Path) -> None:
    files = [str(contributed / path) for path in EXAMPLES]
    for command in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
        result = python(contributed, "-m", "ruff", *command, "--config", str(ROOT / "pyproject.toml"), *files)
        assert result.returncode == 0, result.stdout + result.stderr


def test_codec_loss_and_metric_pass_the_conformance_tests(contributed: Path) -> None:
    names = [Path(path).stem for path in EXAMPLES if path.split("/")[1] in ("codecs", "losses", "metrics")]
    result = python(
        contributed, "-m", "pytest", "-p", "contributed_plugin", "-p", "no:cacheprovider", "-v",
        "-k", " or ".join(names), "tests/conformance",
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    for name in names:
        assert len(re.findall(rf"\[{name}\b.*PASSED|\[.*-{name}\].*PASSED", result.stdout)) >= 5, result.stdout


def test_the_metric_example_says_what_it_gives(contributed: Path) -> None:
    path = next(path for path in EXAMPLES if path.startswith("kdeval/metrics/"))
    assert ">>>" in EXAMPLES[path]
    code = (
        "import doctest, importlib, json; m = importlib.import_module(sys.argv[1]); print(doctest.testmod(m).failed)"
    )
    assert run(contributed, "kdeval/metrics", code, path.removesuffix(".py").replace("/", ".")) == "0\n"
    assert doctest.DocTestParser().get_examples(EXAMPLES[path])


def test_the_task_makes_examples_and_refuses_bad_rows(contributed: Path) -> None:
    code = """
from kdstore.errors import RowError
from kdstore.tasks import TASKS
task = TASKS.get("summary")
made = task.example({"code": "def f(): {x}", "summary": "Does f."})
assert set(made.texts) == set(task.text_columns)
assert task.example({"code": "def f(): {x}", "summary": "Other."}).group == made.group
for bad in ({}, {"code": "f"}, {"code": 1, "summary": "s"}, {"code": " ", "summary": "s"}):
    try:
        task.example(bad)
    except RowError:
        continue
    raise SystemExit("a bad row was taken")
print(TASKS.names(), made.prompt, made.target, sep="|")
"""
    assert run(contributed, "kdstore/tasks", code) == "['java_assertion', 'summary']|def f(): {x}|Does f.\n"


def test_the_source_reads_rows_and_rejects_bad_ones(contributed: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_text("code\tsummary\na\tb\nbroken\nc\td\n", encoding="utf-8")
    code = """
from pathlib import Path
from kdstore.sources import SOURCES
for item in SOURCES.get("tsv")(Path(sys.argv[1])):
    print(item.origin, getattr(item, "record", None) or item.reason)
"""
    assert run(contributed, "kdstore/sources", code, str(tmp_path / "rows.tsv")).splitlines() == [
        "rows.tsv:2 {'code': 'a', 'summary': 'b'}",
        "rows.tsv:3 expected 2 columns, got 1",
        "rows.tsv:4 {'code': 'c', 'summary': 'd'}",
    ]


def test_the_command_runs_and_is_listed(contributed: Path, tmp_path: Path) -> None:
    written = write_store(tmp_path / "a.kd")
    code = "from kdstore.cli import main; main()"
    tokens = sum(len(row["labels"]) for row in written.rows)
    found = json.loads(run(contributed, "kdstore/commands", code, "count", str(written.root), "--json"))
    assert found == {"rows": len(written.rows), "label_tokens": tokens}
    assert re.search(r"^  count +Count the rows", run(contributed, "kdstore/commands", code, "--help"), re.MULTILINE)
    assert "Example:" in run(contributed, "kdstore/commands", code, "count", "--help")
