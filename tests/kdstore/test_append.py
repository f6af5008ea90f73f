"""Rows are appended with the store's own settings, once each; an interrupted append is invisible and continues."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kdstore.store.ids import ids_of_parts
from kdstore.store.reader import Store

from .conftest import Run, make_rows, write_rows

BUILD = ("--part-rows", 32, "--block-rows", 8)


@pytest.fixture
def more(tmp_path: Path) -> Path:
    """200 rows, the first 120 of which are those of `rows`."""
    return write_rows(tmp_path / "more.jsonl", make_rows(200))


def files(root: Path) -> dict[str, bytes]:
    """Every file of a store."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def ids(root: Path) -> list[str]:
    return [block.row(index)["id"] for block in Store(root).scan(["id"]) for index in range(block.rows)]


def test_only_new_rows_are_appended(built: Path, more: Path, teacher: Path, kdstore: Run) -> None:
    before = ids(built)
    result = kdstore("append", built, more, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)[0]["scan"]["duplicates"] == 120
    after = ids(built)
    assert after[: len(before)] == before
    assert len(after) == len(set(after)) == 200
    store = Store(built)
    assert [segment.rows for segment in store.head.segments] == [120, 80]
    # The short last part of the build stays; the new rows begin a part of their own.
    assert [part.rows for part in store.manifest.parts] == [32, 32, 32, 24, 32, 32, 16]
    named = ids_of_parts(built, store.head, range(7))
    assert [row_id for part in range(7) for row_id in named[part]] == after
    assert kdstore("verify", "--deep", built).exit_code == 0


def test_an_appended_row_is_what_a_build_makes_of_it(built: Path, more: Path, teacher: Path, kdstore: Run) -> None:
    assert kdstore("append", built, more).exit_code == 0
    whole = built.parent / "whole.kd"
    assert kdstore("build", more, "--teacher", teacher, "--out", whole, *BUILD).exit_code == 0
    texts = {}
    for root in (built, whole):
        rows = (block.row(index) for block in Store(root).scan() for index in range(block.rows))
        texts[root] = {row["id"]: (row["labels"].tolist(), row["text/teacher_prediction"]) for row in rows}
    assert texts[built] == texts[whole]


def test_nothing_new_is_said_and_changes_nothing(built: Path, rows: Path, kdstore: Run) -> None:
    before = files(built)
    result = kdstore("append", built, rows)
    assert result.exit_code == 0, result.stderr
    assert "nothing new" in result.stderr
    assert files(built) == before


def test_rows_that_are_held_out_stay_out(tmp_path: Path, more: Path, rows: Path, teacher: Path, kdstore: Run) -> None:
    train, val = tmp_path / "train.kd", tmp_path / "val.kd"
    assert kdstore("build", rows, "--tokenizer", teacher, "--out", train, "--val-out", val).exit_code == 0
    assert kdstore("append", train, more, "--held-out", val).exit_code == 0
    assert set(ids(train)).isdisjoint(ids(val))
    assert len(ids(train)) + len(ids(val)) == 200
    told = kdstore("append", train, more)
    assert "one side of a split" in told.stderr
    assert set(ids(val)) < set(ids(train))


def test_a_killed_append_leaves_the_store_as_it_was_and_continues(
    built: Path, more: Path, tmp_path: Path, kdstore: Run
) -> None:
    straight = shutil.copytree(built, tmp_path / "straight.kd")
    before = ids(built)
    code = "from kdstore.cli import main; main()"
    process = subprocess.Popen([sys.executable, "-c", code, "append", str(built), str(more)])
    while not (built / "parts" / "00005").exists():
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert ids(built) == before
    assert kdstore("verify", built).exit_code == 0
    assert kdstore("append", built, more).exit_code == 0
    assert kdstore("append", straight, more).exit_code == 0
    assert files(built) == files(straight)


def test_another_append_cannot_continue_it(built: Path, more: Path, tmp_path: Path, kdstore: Run) -> None:
    head = Store(built).head
    segment = head.segments[0].model_copy(update={"rows": 7, "source_sha256": "1" * 64})
    (built / ".build").mkdir()
    begun = head.model_copy(update={"segments": (*head.segments, segment)})
    (built / ".build" / "head.json").write_text(begun.to_json())
    result = kdstore("append", built, more)
    assert result.exit_code == 4
    assert "not finished" in result.stderr
    # Given up: without its pinned settings another append begins.
    shutil.rmtree(built / ".build")
    assert kdstore("append", built, more).exit_code == 0


def test_another_teacher_is_refused(built: Path, more: Path, teacher: Path, tmp_path: Path, kdstore: Run) -> None:
    import torch
    from transformers import T5ForConditionalGeneration

    other = shutil.copytree(teacher, tmp_path / "other")
    model = T5ForConditionalGeneration.from_pretrained(other)
    with torch.no_grad():
        model.shared.weight.add_(0.1)
    model.save_pretrained(other)
    before = files(built)
    result = kdstore("append", built, more, "--teacher", other)
    assert result.exit_code == 4
    assert "weights" in result.stderr
    assert files(built) == before


def test_embeddings_must_be_given_again(tmp_path: Path, built: Path, more: Path, kdstore: Run) -> None:
    result = kdstore("append", built, more, "--embed", "mini=/nowhere")
    assert result.exit_code == 8
