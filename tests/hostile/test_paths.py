"""A store holds what lies inside it: no file elsewhere is named, and no link is followed."""

import os
import shutil
from pathlib import Path

import pytest

from .conftest import Run
from .damage import READINGS, ROWS, VERIFY, assert_refused, refusal, seal

OUTSIDE = [
    "/etc/passwd", "../outside", "a/../../outside", "..", "./zarr.json", "parts//zarr.json", ".hidden", "a/.hidden",
    "a\\..\\b", "C:/x", "a\0b", "~/x", "", "a/", "zarr.json\n",
]  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_manifest_that_names_a_file_outside_is_refused(store: Path, name: str) -> None:
    seal(store, manifest=lambda m: m["shared_files"].update({name: {"bytes": 1, "sha256": "0" * 64}}))
    assert_refused(store, *READINGS)


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_part_record_that_names_a_file_outside_is_refused(store: Path, name: str) -> None:
    seal(store, part=lambda r: r["files"].update({name: {"bytes": 1, "sha256": "0" * 64}}))
    assert_refused(store, *VERIFY, *ROWS)


@pytest.mark.parametrize("name", [name for name in OUTSIDE if name != "~/x"])
@pytest.mark.parametrize("what", ["field", "shared array"])
def test_a_name_that_becomes_a_path_cannot_leave_the_store(store: Path, name: str, what: str) -> None:
    def rename(manifest: dict) -> None:
        if what == "field":
            manifest["head"]["schema"]["fields"][1]["name"] = name
        else:
            shared = manifest["head"]["codec"]["shared"]
            shared[name] = shared.pop("mean")

    seal(store, manifest=rename)
    assert_refused(store, *VERIFY)


def link(path: Path, elsewhere: Path) -> None:
    """Move what is at ``path`` away, and leave a link to it: its content stays right."""
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize(
    ("name", "readings"),
    [
        ("manifest.json", tuple(READINGS)),
        ("parts", (*VERIFY, *ROWS)),
        ("parts/zarr.json", VERIFY),
        ("parts/00000", (*VERIFY, *ROWS)),
        ("parts/00000/part.json", (*VERIFY, *ROWS)),
        ("parts/00000/labels", (*VERIFY, *ROWS)),
        ("parts/00000/labels/values", (*VERIFY, *ROWS)),
        ("parts/00000/labels/values/c", (*VERIFY, *ROWS)),
        ("parts/00000/labels/values/c/0", (*VERIFY, *ROWS)),
        ("parts/00000/labels/values/zarr.json", (*VERIFY, *ROWS)),
        ("shared", (*VERIFY, "beside")),
        ("shared/mean/c/0", (*VERIFY, "beside")),
        ("ids", VERIFY),
        ("ids/00000.jsonl.gz", VERIFY),
    ],
)
def test_a_link_inside_a_store_is_refused(store: Path, name: str, readings: tuple[str, ...]) -> None:
    link(store / name, store.with_name("elsewhere"))
    assert_refused(store, *readings)


def test_a_link_that_leads_nowhere_or_to_itself_is_refused(store: Path) -> None:
    shard = store / "parts/00000/labels/values/c/0"
    for target in (store / "nothing", shard, Path("/dev/zero"), store):
        shard.unlink()
        shard.symlink_to(target)
        assert_refused(store, *VERIFY, *ROWS)


def test_a_store_may_itself_be_reached_by_a_link(store: Path) -> None:
    path = store.with_name("link.kd")
    path.symlink_to(store)
    assert not [reading for reading in READINGS if refusal(path, reading)]


@pytest.mark.parametrize("name", ["manifest.json", "parts/00000/part.json", "parts/00000/labels/values/c/0"])
def test_a_directory_in_place_of_a_file_is_refused(store: Path, name: str) -> None:
    (store / name).unlink()
    (store / name).mkdir()
    assert_refused(store, *VERIFY, *ROWS)


@pytest.mark.parametrize("name", ["parts", "parts/00000", "shared"])
def test_a_file_in_place_of_a_directory_is_refused(store: Path, name: str) -> None:
    shutil.rmtree(store / name)
    (store / name).touch()
    assert_refused(store, *VERIFY)


def test_a_pipe_in_place_of_a_file_is_refused_without_waiting(store: Path) -> None:
    for name in ("parts/00000/labels/values/c/0", "parts/00000/part.json", "manifest.json"):
        (store / name).unlink()
        os.mkfifo(store / name)
        assert_refused(store, *VERIFY, *ROWS)


def test_the_command_says_it_in_one_line(store: Path, kdstore: Run) -> None:
    link(store / "parts/00000", store.with_name("elsewhere"))
    result = kdstore("verify", store)
    assert (result.exit_code, result.stdout) == (6, "")
    assert "Got a symbolic link" in result.stderr.splitlines()[-1]
