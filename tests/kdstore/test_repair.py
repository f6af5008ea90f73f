"""Damaged parts are put away, the rows lost with them are named, and exactly they can be made again."""

import json
import shutil
from pathlib import Path

import pytest

from kdstore.store.reader import Store

from .conftest import Run, make_rows, write_rows
from .test_append import files, ids


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def shard(root: Path, part: int, array: str) -> Path:
    return root / f"parts/{part:05d}/{array}/c/0"


def test_a_sound_store_is_let_alone(built: Path, kdstore: Run) -> None:
    before = files(built)
    result = kdstore("repair", built)
    assert result.exit_code == 0
    assert "nothing to mend" in result.stdout
    assert files(built) == before


@pytest.mark.parametrize("harm", ["flip", "ids", "record", "gone"])
def test_lost_rows_are_named_and_the_rest_is_read(built: Path, kdstore: Run, harm: str) -> None:
    whole = ids(built)
    if harm == "flip":
        damage(shard(built, 1, "labels/values"))
    elif harm == "ids":
        damage(shard(built, 1, "id/values"))
    elif harm == "record":
        (built / "parts/00001/part.json").write_text("{}")
    else:
        shutil.rmtree(built / "parts/00001")
    assert kdstore("verify", built).exit_code == 6
    untouched = files(built)
    dry = json.loads(kdstore("repair", built, "--dry-run", "--json").stdout)
    assert files(built) == untouched
    report = json.loads(kdstore("repair", built, "--json").stdout)
    assert report["lost"] == dry["lost"] == {"1": whole[32:64]}
    assert ids(built) == whole[:32] + whole[64:]
    verified = kdstore("verify", built)
    assert verified.exit_code == 0
    assert "32 rows are lost" in verified.stderr
    assert (built / ".quarantine" / "00001-0").exists() == (harm != "gone")
    # Nothing more is found, and the loss is not forgotten.
    assert json.loads(kdstore("repair", built, "--json").stdout)["lost"] == report["lost"]


def test_lost_parts_are_made_again_to_the_byte(built: Path, rows: Path, kdstore: Run) -> None:
    before = files(built)
    damage(shard(built, 1, "labels/values"))
    shutil.rmtree(built / "parts/00003")
    result = kdstore("repair", built, "--rows", rows)
    assert result.exit_code == 0, result.stderr
    assert "parts 1, 3" in result.stdout
    assert {path: data for path, data in files(built).items() if not path.startswith(".quarantine")} == before


def test_parts_that_were_put_away_earlier_are_made_again(built: Path, rows: Path, kdstore: Run) -> None:
    before = files(built)
    damage(shard(built, 2, "input_ids/values"))
    assert kdstore("repair", built).exit_code == 0
    assert kdstore("repair", built, "--rows", rows).exit_code == 0
    assert {path: data for path, data in files(built).items() if not path.startswith(".quarantine")} == before


def test_other_rows_make_nothing_again(built: Path, tmp_path: Path, kdstore: Run) -> None:
    damage(shard(built, 1, "labels/values"))
    before = files(built)
    result = kdstore("repair", built, "--rows", write_rows(tmp_path / "few.jsonl", make_rows(50)))
    assert result.exit_code == 4
    assert "lost rows" in result.stderr
    assert files(built) == before


@pytest.mark.parametrize("name", ["zarr.json", "parts/zarr.json", "ids/00000.jsonl.gz"])
def test_what_follows_from_the_parts_is_written_again(built: Path, kdstore: Run, name: str) -> None:
    before = files(built)
    damage(built / name)
    assert kdstore("verify", built).exit_code == 6
    assert kdstore("repair", built).exit_code == 0
    assert files(built) == before


def test_what_nothing_gives_again_is_an_error(built: Path, kdstore: Run) -> None:
    damage(built / "tokenizer/tokenizer.json")
    result = kdstore("repair", built)
    assert result.exit_code == 6
    assert "tokenizer.json" in result.stderr
    assert "copy" in result.stderr


def test_rows_whose_ids_are_damaged_too_cannot_be_named(built: Path, kdstore: Run) -> None:
    damage(built / "ids/00000.jsonl.gz")
    damage(shard(built, 1, "labels/values"))
    before = files(built)
    assert kdstore("repair", built).exit_code == 6
    assert files(built) == before


def test_a_sample_of_blocks_finds_damage_in_them(built: Path, kdstore: Run) -> None:
    assert kdstore("verify", "--sample", "10%", built).exit_code == 0
    for part in range(4):
        damage(shard(built, part, "labels/values"))
    results = [kdstore("verify", "--sample", share, built).exit_code for share in ("100%", "1.0")]
    assert results == [6, 6]
    assert kdstore("verify", "--sample", "0%", built).exit_code == 2
    assert kdstore("verify", "--sample", "1%", "--quick", built).exit_code == 2
    store = Store(built)
    assert store.rows == 120
