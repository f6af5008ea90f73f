"""Files that are missing, cut, empty, longer, of another place, or of another store."""

import json
import os
import shutil
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest

from ..small_store import write_store
from .damage import READINGS, ROWS, VERIFY, assert_refused, chunks_of, join_shard, refusal, seal


def missing(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    os.truncate(path, 0)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def halved(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def longer(path: Path) -> None:
    os.truncate(path, path.stat().st_size + 1)


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


DAMAGES = [missing, empty, cut, halved, longer, zeroed]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_to_any_file_is_noticed(store: Path, damage: Callable[[Path], None]) -> None:
    """By `verify --quick`, which looks at every file; by readings of rows where the file is a part's."""
    files = sorted(path for path in store.rglob("*") if path.is_file() and path.stat().st_size)
    assert len(files) > 60
    for path in files:
        name, content = path.relative_to(store).as_posix(), path.read_bytes()
        damage(path)
        assert refusal(store, "verify --quick"), name
        # Group metadata hold nothing that a reading needs.
        if name.startswith("parts/0000"):
            assert refusal(store, "rows"), name
        elif name.startswith(("shared/", "tokenizer/")):
            assert refusal(store, "beside"), name
        path.write_bytes(content)
    assert not refusal(store, "rows"), "all is as it was"


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["manifest.json", "parts/00000/part.json", "parts/00001/labels/values/c/0"])
def test_damage_to_a_file_is_noticed_by_every_reading(store: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(store / name)
    assert_refused(store, *VERIFY, *ROWS)


def swap(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def test_shards_of_the_same_shape_and_size_that_changed_places_are_noticed(tmp_path: Path) -> None:
    """Each of their chunks is as it was written and has a good checksum: only the record says whose it is."""
    root = write_store(tmp_path / "a.kd", "topk", count=12, k=4).root
    parts = [root / "parts" / name for name in ("00000", "00001")]
    swapped = 0
    for path in sorted(parts[0].rglob("c/*")):
        one = path / "0" if path.is_dir() else path
        other = parts[1] / one.relative_to(parts[0])
        if one.stat().st_size == other.stat().st_size and one.read_bytes() != other.read_bytes():
            swap(one, other)
            assert_refused(root, *VERIFY, *ROWS)
            swap(one, other)
            swapped += 1
    assert swapped > 2
    assert not refusal(root, "rows")


def test_shards_of_one_part_that_changed_places_are_noticed(store: Path) -> None:
    """Two fields of a part have shards of the same dtype, shape and size."""
    part, swapped = store / "parts/00000", 0
    files = [path for path in sorted(part.rglob("c/**/*")) if path.is_file()]
    for one, other in combinations(files, 2):
        if one.stat().st_size == other.stat().st_size and one.read_bytes() != other.read_bytes():
            swap(one, other)
            assert_refused(store, *VERIFY, *ROWS)
            swap(one, other)
            swapped += 1
    assert swapped


def test_a_shard_of_another_store_is_noticed(store: Path, tmp_path: Path) -> None:
    """Its last rows are these here, its first ones are others: the same settings, shapes and sizes."""
    other = write_store(tmp_path / "other.kd", "lowrank", count=17).root
    replaced = 0
    for path in sorted((store / "parts/00000").rglob("*")):
        twin = other / "parts/00001" / path.relative_to(store / "parts/00000")
        if path.is_file() and "c" in path.parts and twin.stat().st_size == path.stat().st_size:
            content = path.read_bytes()
            shutil.copyfile(twin, path)
            if twin.read_bytes() != content:
                assert_refused(store, *VERIFY, *ROWS)
                replaced += 1
            path.write_bytes(content)
    assert replaced > 2


def test_chunks_that_changed_places_are_noticed(store: Path) -> None:
    """Two chunks of one shard have the same length, so that no index needs to change."""
    record = json.loads((store / "parts/00000/part.json").read_text(encoding="utf-8"))
    swapped = 0
    for name in record["chunks"]:
        path, chunks = store / "parts/00000" / name, chunks_of(store, name)
        content = path.read_bytes()
        for one, other in combinations(range(len(chunks)), 2):
            if len(chunks[one]) == len(chunks[other]) and chunks[one] != chunks[other]:
                turned = list(chunks)
                turned[one], turned[other] = turned[other], turned[one]
                path.write_bytes(join_shard(turned))
                assert_refused(store, *VERIFY, *ROWS)
                path.write_bytes(content)
                swapped += 1
                break
    assert swapped > 2


def test_parts_that_changed_places_are_refused(tmp_path: Path) -> None:
    root = write_store(tmp_path / "a.kd", "lowrank", count=12).root
    swap(root / "parts/00000", root / "parts/00001")
    assert_refused(root, *VERIFY, *ROWS)


def test_parts_that_changed_places_under_good_checksums_are_refused(tmp_path: Path) -> None:
    """Even where the manifest takes the one for the other."""
    root = write_store(tmp_path / "a.kd", "lowrank", count=12).root
    swap(root / "parts/00000", root / "parts/00001")
    seal(root)
    assert_refused(root, *VERIFY, *ROWS)


def test_shared_arrays_that_changed_places_are_refused(store: Path) -> None:
    """Even under good checksums of files: the head pins the values of each."""
    swap(store / "shared/mean", store / "shared/scales")
    assert_refused(store, *VERIFY, "beside")
    seal(store)
    assert_refused(store, "verify", "beside")


def test_shared_arrays_of_another_store_are_refused(store: Path, tmp_path: Path) -> None:
    other = write_store(tmp_path / "other.kd", "lowrank", rank=4).root
    shutil.rmtree(store / "shared")
    shutil.copytree(other / "shared", store / "shared")
    assert_refused(store, *VERIFY, "beside")


@pytest.mark.parametrize("name", ["parts", "parts/00001", "parts/00001/labels", "shared", "ids"])
def test_a_missing_directory_is_noticed(store: Path, name: str) -> None:
    shutil.rmtree(store / name)
    assert_refused(store, *VERIFY)


def test_a_part_of_nobody_is_named(store: Path) -> None:
    shutil.copytree(store / "parts/00001", store / "parts/00002")
    assert_refused(store, *VERIFY)
    assert not [reading for reading in READINGS if reading not in VERIFY and refusal(store, reading)]
