import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kdstore.cli import main
from kdstore.sources import Located, open_source
from kdstore.tasks import TASKS

MAIN = "package a; public class Box { public int size() { return 1; } }"
TEST = (
    "package a; class BoxTest { @Test void t() { Box b = new Box(); assertEquals(1, b.size()); assertTrue(true); } }"
)


def kdstore(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    root = tmp_path / "box"
    for name, source in (("main/java/a/Box", MAIN), ("test/java/a/BoxTest", TEST)):
        file = root / "src" / f"{name}.java"
        file.parent.mkdir(parents=True)
        file.write_text(source)
    return root


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_rows_become_examples(tmp_path: Path, repo: Path, name: str) -> None:
    out = tmp_path / name
    result = kdstore("mine", repo, "--out", out, "--repo", "acme/box")
    assert result.exit_code == 0, result.output
    items = list(open_source(out))
    assert [type(item) for item in items] == [Located]
    example = TASKS.get("java_assertion").example(items[0].record)  # type: ignore[union-attr]
    assert example.target == "assertEquals(1, b.size());"
    assert example.group == "acme/box:src/test/java/a/BoxTest.java"


def test_the_table_shows_what_was_found_and_skipped(tmp_path: Path, repo: Path) -> None:
    shown = kdstore("mine", repo, "--out", tmp_path / "rows.jsonl").stdout
    lines = {" ".join(line.split()) for line in shown.splitlines()}
    assert {"assertions 2", "rows 1", "match A:receiver 1", "assertion assertEquals 1"} <= lines
    assert "skipped no focal method found 1" in lines


def test_json(tmp_path: Path, repo: Path) -> None:
    report = json.loads(kdstore("mine", repo, "--out", tmp_path / "rows.jsonl", "--json").stdout)
    assert report == {
        "files": 2,
        "test_methods": 1,
        "assertions": 2,
        "rows": 1,
        "matches": {"A:receiver": 1},
        "kinds": {"assertEquals": 1},
        "skipped": {"no focal method found": 1},
        "out": str(tmp_path / "rows.jsonl"),
    }


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, repo: Path) -> None:
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        assert kdstore("mine", repo, "--out", tmp_path / name).exit_code == 0
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()).endswith(b"}\n")


@pytest.mark.parametrize(
    ("path", "out", "code", "message"),
    [
        ("none", "rows.jsonl", 3, "Expected a directory of Java sources"),
        ("box/src/main/java/a/Box.java", "rows.jsonl", 3, "Expected a directory of Java sources"),
        ("empty", "rows.jsonl", 3, "Got none in no Java file"),
        ("box/src/main", "rows.jsonl", 3, "Got none in 1 Java files with 0 tests"),
        ("box", "rows.csv", 2, "Expected --out to end in .jsonl"),
        ("box", "none/rows.jsonl", 1, "No such file or directory"),
        ("box", "folder.jsonl", 1, "Is a directory"),
    ],
)
def test_expected_failures_are_one_line_and_leave_nothing(
    tmp_path: Path, repo: Path, path: str, out: str, code: int, message: str
) -> None:
    for folder in ("empty", "folder.jsonl"):
        (tmp_path / folder).mkdir()
    before = sorted(tmp_path.rglob("*"))
    result = kdstore("mine", tmp_path / path, "--out", tmp_path / out)
    errors = [line for line in result.stderr.splitlines() if "error:" in line]
    assert result.exit_code == code
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in result.output
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_keeps_the_former_file(
    tmp_path: Path, repo: Path, stop: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    from kdstore.sources import java_repo

    out = tmp_path / "rows.jsonl"
    out.write_text("former\n")
    complete = java_repo.mine

    def interrupted(*args: object) -> object:
        yield from complete(*args)  # type: ignore[arg-type]
        raise stop

    monkeypatch.setattr(java_repo, "mine", interrupted)
    result = kdstore("mine", repo, "--out", out)
    assert result.exit_code == (130 if stop is KeyboardInterrupt else 1)
    assert out.read_text() == "former\n"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["box", "rows.jsonl"]


def test_help_does_not_load_the_parser() -> None:
    code = "import sys; from kdstore.cli import main\ntry: main(['mine', '--help'])\nexcept SystemExit: pass\n"
    code += "print([m for m in sys.modules if m.startswith(('tree_sitter', 'torch'))])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "Example:" in shown
    assert shown.endswith("[]\n")
