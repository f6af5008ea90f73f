"""docs/format.md is enough to read a store: its example runs where none of our packages can be imported."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
import zarr

from kdstore.schema import AnyField, Dtype
from kdstore.store import files, manifest

from ..small_store import Written, write_store

FORMAT = (Path(__file__).parents[2] / "docs/format.md").read_text(encoding="utf-8")
OURS = ("kdstore", "kdtrain", "kdeval")

# Runs the script given as an argument in an interpreter that cannot import what is ours.
WITHOUT_OURS = f"""
import runpy, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {OURS}:
            raise ImportError("blocked: " + name)

sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    assert not {{name.partition(".")[0] for name in sys.modules}} & set({OURS})
"""


def run_without_ours(script: Path, *args: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_OURS, str(script), *map(str, args)]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(command, cwd=script.parent, env=environment, capture_output=True, text=True, check=False)


def example(directory: Path) -> Path:
    blocks = re.findall(r"^```python\n(.*?)^```$", FORMAT, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 1
    script = directory / "read_store.py"
    script.write_text(blocks[0], encoding="utf-8")
    return script


def check_printed(output: str, written: Written) -> None:
    first, *lines = output.splitlines()
    row, probabilities_LV = written.rows[0], torch.softmax(written.logits[0], -1)
    assert first == f"id {row['id']}"
    assert [int(line.split()[1]) for line in lines] == row["labels"].tolist()
    for line, value, expected_V in zip(lines, row["label_logprob"], probabilities_LV, strict=True):
        _, _, log_prob, *candidates = line.split()
        assert float(log_prob) == pytest.approx(float(value), abs=1e-4)
        expected = [(index, float(expected_V[index])) for index in expected_V.argsort(descending=True)[:3].tolist()]
        found = [(int(index), float(p)) for index, _, p in (c.partition(":") for c in candidates)]
        assert [index for index, _ in found] == [index for index, _ in expected]
        assert [p for _, p in found] == pytest.approx([p for _, p in expected], rel=0.005, abs=1e-4)


@pytest.mark.parametrize(("codec", "config"), [("topk", {"k": 8}), ("dense", {})])
def test_the_example_reads_a_store_without_our_packages(tmp_path: Path, codec: str, config: dict[str, Any]) -> None:
    written = write_store(tmp_path / "a.kd", codec, **config)
    result = run_without_ours(example(tmp_path), written.root)
    assert (result.returncode, result.stderr) == (0, "")
    check_printed(result.stdout, written)


def test_the_example_imports_only_what_it_says(tmp_path: Path) -> None:
    imports = re.findall(r"^(?:import|from) (\w+)", example(tmp_path).read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(imports) == ["hashlib", "json", "numpy", "pathlib", "sys", "zarr"]


@pytest.mark.parametrize("name", OURS)
def test_our_packages_are_really_blocked(tmp_path: Path, name: str) -> None:
    script = tmp_path / "imports.py"
    script.write_text(f"import {name}.cli", encoding="utf-8")
    result = run_without_ours(script)
    assert result.returncode == 1
    assert f"blocked: {name}" in result.stderr


def test_the_example_refuses_a_missing_shard(tmp_path: Path) -> None:
    written = write_store(tmp_path / "a.kd")
    shard = written.root / "parts/00000/labels/values/c/0"
    shard.unlink()
    assert not zarr.open_group(written.root, mode="r")["parts/00000/labels/values"][:].any(), "zarr answers zeros"
    result = run_without_ours(example(tmp_path), written.root)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"refused: {shard} is missing\n"


def test_the_example_refuses_a_changed_manifest(tmp_path: Path) -> None:
    path = write_store(tmp_path / "a.kd").root / "manifest.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"seed": 0', '"seed": 1'), encoding="utf-8")
    result = run_without_ours(example(tmp_path), path.parent)
    assert (result.returncode, result.stderr) == (1, "refused: manifest.json was changed\n")


@pytest.mark.parametrize("codec", ["lowrank", "topk", "dense"])
def test_zarr_alone_gives_every_array_back(tmp_path: Path, codec: str) -> None:
    written = write_store(tmp_path / "a.kd", codec)
    group = zarr.open_group(written.root, mode="r")
    parts = sorted(path.name for path in (written.root / "parts").iterdir() if path.is_dir())
    assert parts == ["00000", "00001"]
    for path, expected in written.block().arrays.items():
        found = np.concatenate([np.asarray(group[f"parts/{part}/{path}"][:]) for part in parts])
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected, path)


def test_the_page_lists_every_key_of_every_record() -> None:
    records: dict[str, type[Any]] = {
        "manifest.json": manifest.Manifest,
        "head": manifest.Head,
        "segment": manifest.Segment,
        "ancestor": manifest.Ancestor,
        "codec": manifest.CodecRecord,
        "shared array": manifest.SharedArray,
        "fidelity": manifest.Fidelity,
        "import": manifest.ImportRecord,
        "teacher": manifest.TeacherRecord,
        "tokenizer": manifest.TokenizerRecord,
        "limits": manifest.Limits,
        "part reference": manifest.PartRef,
        "part.json": manifest.PartRecord,
        "tar index": manifest.TarIndex,
        "file record": files.FileRecord,
    }
    for title, record in records.items():
        keys = [field.alias or name for name, field in record.__pydantic_fields__.items()]
        assert first_column(title) == keys, f"the table under '### {title}' in docs/format.md"


def test_the_page_lists_every_kind_and_dtype() -> None:
    kinds = [get_args(kind.model_fields["kind"].annotation)[0] for kind in get_args(get_args(AnyField)[0])]
    for kind in kinds:
        assert re.search(rf"^\| `{kind}` \|", FORMAT, re.MULTILINE), kind
    listed = re.search(r"A dtype is one of (.*?)\.", FORMAT, re.DOTALL)
    assert listed
    assert tuple(re.split(r",\s+", listed[1])) == get_args(Dtype)
    assert f"The store format, version {manifest.FORMAT_VERSION}\n" in FORMAT


def first_column(title: str) -> list[str]:
    section = FORMAT.split(f"\n### {title}\n", 1)[1].split("\n##", 1)[0]
    return re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)
