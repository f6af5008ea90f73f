"""Export and import: what comes back is what was stored."""

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import lz4.frame
import numpy as np
import pytest

from kdstore.store.reader import Store

from .conftest import Run
from .test_import_predecessor import error_line


def by_text(root: Path) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (row["text/assertion"], row["text/path"]): row
        for block in Store(root).scan() for row in map(block.row, range(block.rows))
    }  # fmt: skip


@pytest.mark.parametrize("dtype", ["f16", "f32"])
def test_a_dense_store_survives_export_and_import(
    tmp_path: Path, dtype: str, rows: Path, teacher: Path, kdstore: Run
) -> None:
    dense = ("--codec", "dense", "--codec-set", f"dtype={dtype}")
    first, second, file = tmp_path / "a.kd", tmp_path / "b.kd", tmp_path / "rows.jsonl.gz"
    assert kdstore("build", rows, "--teacher", teacher, "--out", first, *dense).exit_code == 0
    result = kdstore("export", first, "--format", "predecessor-jsonl", "--out", file)
    assert result.exit_code == 0, result.output
    back = kdstore("import", file, "--format", "predecessor", "--tokenizer", teacher, "--out", second, *dense)
    assert back.exit_code == 0, back.output
    before, after = by_text(first), by_text(second)
    assert set(before) == set(after)
    for key, row in before.items():
        again = after[key]
        for name in ("id", "text/teacher_prediction", "text/repo"):
            assert again[name] == row[name]
        assert again["labels"].tolist() == row["labels"].tolist()
        assert again["input_ids"].tolist() == row["input_ids"].tolist()
        # Centring once more moves what 16 or 32 bits hold by a rounding of the mean at most.
        tolerance = {"f16": 2e-2, "f32": 1e-5}[dtype]
        np.testing.assert_allclose(
            again["teacher"]["logits"].astype(float), row["teacher"]["logits"].astype(float), atol=tolerance
        )


@pytest.mark.parametrize("dtype", ["f16", "f32"])
def test_the_file_holds_the_stored_numbers_bit_by_bit(
    tmp_path: Path, dtype: str, rows: Path, teacher: Path, kdstore: Run
) -> None:
    store, file = tmp_path / "a.kd", tmp_path / "rows.jsonl"
    args = ("--codec", "dense", "--codec-set", f"dtype={dtype}", "--no-teacher-prediction", "--limit", 20)
    assert kdstore("build", rows, "--teacher", teacher, "--out", store, *args).exit_code == 0
    assert kdstore("export", store, "--format", "predecessor-jsonl", "--out", file).exit_code == 0
    expected = by_text(store)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(lines) == 20
    for line in lines:
        row = expected[line["assertion"], line["path"]]
        data = lz4.frame.decompress(base64.b64decode(line["teacher_logits_compressed"]))
        assert data == row["teacher"]["logits"].tobytes()
        assert line["teacher_logits_shape"] == list(row["teacher"]["logits"].shape)
        assert line["focal_method"].startswith("public int")
        assert line["test_method"].startswith("@Test")


def test_what_cannot_be_exported_is_refused_in_one_line(
    tmp_path: Path, rows: Path, teacher: Path, kdstore: Run
) -> None:
    tokens, sparse = tmp_path / "tokens.kd", tmp_path / "sparse.kd"
    few = ("--limit", 9, "--no-teacher-prediction", "--codec", "topk")
    assert kdstore("build", rows, "--teacher", teacher, "--out", sparse, *few).exit_code == 0
    assert kdstore("build", rows, "--tokenizer", teacher, "--out", tokens).exit_code == 0
    out = tmp_path / "out.jsonl"
    cases = [
        (sparse, 7, "Expected a signal of full logits"),
        (tokens, 7, "tokens only"),
        (tmp_path / "nothing.kd", 5, "Got nothing there"),
    ]
    for store, code, message in cases:
        result = kdstore("export", store, "--format", "predecessor-jsonl", "--out", out)
        assert result.exit_code == code
        assert message in error_line(result)
        assert not out.exists()


def test_an_export_is_the_same_each_time(tmp_path: Path, rows: Path, teacher: Path, kdstore: Run) -> None:
    store = tmp_path / "a.kd"
    assert (
        kdstore("build", rows, "--teacher", teacher, "--out", store, "--codec", "dense", "--limit", 9).exit_code == 0
    )
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        assert kdstore("export", store, "--format", "predecessor-jsonl", "--out", tmp_path / name).exit_code == 0
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    assert len(gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()).splitlines()) == 9
