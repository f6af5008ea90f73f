"""`kdstore stats` counts what is there; `kdstore inspect` shows where a store comes from."""

import json
from pathlib import Path

import numpy as np
import pytest

from kdstore.store.reader import Store

from .conftest import Run, make_rows, write_rows


def test_figures_are_those_of_the_rows(built: Path, kdstore: Run) -> None:
    rows = [block.row(index) for block in Store(built).scan() for index in range(block.rows)]
    found = json.loads(kdstore("stats", built, "--json").stdout)
    lengths = [len(row["labels"]) for row in rows]
    labels = np.concatenate([row["labels"] for row in rows])
    assert found["rows"] == len(rows)
    assert found["lengths"]["labels"]["max"] == max(lengths)
    assert found["lengths"]["labels"]["median"] == np.median(lengths)
    assert found["lengths"]["labels"]["at_limit"] == 0
    assert found["lengths"]["text/assertion"]["mean"] == np.mean([len(row["text/assertion"]) for row in rows])
    likely = -np.concatenate([row["label_logprob"] for row in rows]).mean()
    assert found["teacher_nats"] == pytest.approx(likely, rel=1e-5)
    token, count = found["labels"][0]
    assert count == (labels == token).sum() == np.bincount(labels).max()
    assert found["label_ids"] == len(np.unique(labels))
    assert found["texts"]["text/repo"] == {"distinct": 1, "frequent": [["acme/box", len(rows)]]}
    assert found["texts"]["text/path"]["distinct"] == 12


def test_rows_at_their_limit_are_counted(tmp_path: Path, rows: Path, teacher: Path, kdstore: Run) -> None:
    out = tmp_path / "short.kd"
    args = ("--tokenizer", teacher, "--out", out, "--max-input-len", 20, "--max-output-len", 5)
    assert kdstore("build", rows, *args).exit_code == 0
    lengths = json.loads(kdstore("stats", out, "--json").stdout)["lengths"]
    assert lengths["input_ids"]["at_limit"] == lengths["labels"]["at_limit"] == 1
    assert "100.0%" in kdstore("stats", out).stdout


def test_people_see_tokens_as_text(built: Path, kdstore: Run) -> None:
    shown = kdstore("stats", built).stdout
    assert "ids occur as labels" in shown
    assert "'</s>'" in shown
    assert "acme/box (120)" in shown


def test_the_chain_of_a_store_is_shown(built: Path, tmp_path: Path, kdstore: Run) -> None:
    first = Store(built).manifest.fingerprint
    assert kdstore("append", built, write_rows(tmp_path / "more.jsonl", make_rows(150))).exit_code == 0
    second = Store(built).manifest.fingerprint
    assert kdstore("convert", built, tmp_path / "b.kd", "--block-rows", 4).exit_code == 0
    shown = kdstore("inspect", tmp_path / "b.kd").stdout
    assert first != second
    for words in ("built: 120 rows", "appended: 30 rows", f"converted from {second}: block_rows 4"):
        assert words in shown
