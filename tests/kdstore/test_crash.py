"""A build or an append can be stopped anywhere, its disk can be full at any time: nothing is lost, nothing left."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kdstore.errors import StoreError
from kdstore.store.reader import Store
from kdstore.store.writer import begin, finalize, prepare, write_part

from ..small_store import write_store
from .conftest import Run

ROOT = Path(__file__).parents[2]
SHM = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None  # where a sync costs nothing


def contents(root: Path) -> dict[Path, bytes | None]:
    """Every path below ``root``, hidden ones and directories too."""
    return {path.relative_to(root): path.read_bytes() if path.is_file() else None for path in root.rglob("*")}


@pytest.mark.parametrize(
    ("how", "writers", "stops"),
    [
        ("KILL", "2", 1),
        pytest.param("KILL", "1,4", 1, marks=pytest.mark.long),
        pytest.param("TERM", "2", 1, marks=pytest.mark.long),
        pytest.param("INT", "1", 1, marks=pytest.mark.long),
    ],
)
def test_a_build_stopped_at_random_moments_loses_nothing(tmp_path: Path, how: str, writers: str, stops: int) -> None:
    """A few stops of each kind; ``tools/crash.py`` makes as many as one likes."""
    out = tmp_path / "crash.json"
    command = [
        sys.executable, "tools/crash.py", "--kills", stops, "--writers", writers, "--signal", how, "--json", out,
        "--seed", os.getpid(), *(["--dir", SHM] if SHM else []),
    ]  # fmt: skip
    result = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    tallies = json.loads(out.read_text())
    assert [tally["scenario"] for tally in tallies] == [f"build, {n} at once" for n in writers.split(",")] + [
        "append"
    ]
    assert all(tally["stops"] >= stops and sum(tally["found"].values()) == 2 * tally["stops"] for tally in tallies)


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, ...]]:
    """What writing a small store asks of the system: ("fsync", path) and ("rename", from, to), in order."""
    if shutil.which("strace") is None:
        pytest.skip("no strace here: install the package strace")
    home = tmp_path_factory.mktemp("traced")
    log = home / "log"
    script = "import pathlib, sys, tests.small_store as s; s.write_store(pathlib.Path(sys.argv[1]), 'lowrank')"
    command = ["strace", "-f", "-y", "-s", "500", "-e", "trace=fsync,/^rename", "-o", str(log)]
    result = subprocess.run(
        [*command, sys.executable, "-c", script, str(home / "store.kd")], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if result.returncode and "ptrace" in result.stderr:
        pytest.skip(f"strace may not trace here: {result.stderr.splitlines()[0]}")
    assert result.returncode == 0, result.stderr
    calls: list[tuple[str, ...]] = []
    for line in log.read_text().splitlines():
        if found := re.search(r"fsync\(\d+<(.+?)>\) += 0", line):
            calls.append(("fsync", found[1]))
        elif found := re.search(r'rename\w*\((?:AT_FDCWD\S*, )?"(.+?)", (?:AT_FDCWD\S*, )?"(.+?)".*\) += 0', line):
            calls.append(("rename", found[1], found[2]))
    # Zarr renames files within what is staged, where nobody looks; and what is retired need not last.
    own = [call for call in calls if call[1].startswith(str(home))]
    return [call for call in own if call[0] == "fsync" or not call[1].endswith((".partial", "/.build"))]


def test_files_are_synced_then_directories_before_each_rename_and_the_parent_after(
    trace: list[tuple[str, ...]],
) -> None:
    """The order of system calls, path by path, for all that takes its place by a rename."""
    synced: dict[str, int] = {}
    written: dict[str, str] = {}  # where what was renamed before had been written
    awaited: set[str] = set()
    placed = []
    for number, (kind, path, *rest) in enumerate(trace):
        if kind == "fsync":
            synced[path] = number
            awaited.discard(path)
            continue
        (target,) = rest
        source = written[target] = written.pop(path, path)
        assert source in synced, f"{source} was not synced before it became {target}"
        for below in Path(target).rglob("*") if Path(target).is_dir() else ():
            here = Path(source) / below.relative_to(target)
            assert synced[str(here)] < synced[str(here.parent)], f"{here.parent} was synced before {here}"
        awaited.add(str(Path(target).parent))
        placed.append(Path(target).name)
    assert not awaited, "the directory of a new name is synced"
    order = ["head.json", "prepared", "00000", "00001", "00000.jsonl.gz", "manifest.json"]
    assert [name for name in placed if name in order] == order
    assert placed.count("shared") == 2  # staged, and published once the settings are pinned


@contextmanager
def disk(directory: Path, size: int) -> Iterator[Callable[[int], None]]:
    """A file system of so many bytes at ``directory``; what is given changes its size."""
    directory.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)]
    mounted = subprocess.run(options, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"only root may mount a disk: {mounted.stderr.strip()}")

    def resize(size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(directory)], check=True)

    try:
        yield resize
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def test_a_full_disk_stops_a_build_which_continues_when_there_is_room(
    tmp_path: Path, rows: Path, teacher: Path, kdstore: Run
) -> None:
    """Room for a few more pages each time: spool, shared arrays, tokenizer and parts all find the disk full."""
    args = [
        "build", rows, "--teacher", teacher, "--part-rows", 64, "--block-rows", 8, "--no-teacher-prediction",
        "--fit-positions", 256, "--fidelity-positions", 128,
    ]  # fmt: skip
    whole = tmp_path / "whole.kd"
    assert kdstore(*args, "--out", whole).exit_code == 0
    out, stages = tmp_path / "disk/out.kd", set()
    with disk(out.parent, 4096) as resize:
        for pages in (1, 8, 16, 16, 8, 8, 8, 4, 16, 64, 128):
            result = kdstore(*args, "--out", out)
            assert result.exit_code == StoreError.exit_code, result.stderr
            error = result.stderr.splitlines()[-1]
            assert f"error: Expected room on the disk of {out}. Got 'No space left on device'" in error
            assert not (out / "manifest.json").exists(), "nothing is half-committed"
            assert not [*out.glob(".build/staging/*"), *out.glob(".build/.*"), *out.glob(".build/*-????????*")]
            done = (".build/spool", ".build/head.json", ".build/prepared", "parts/00000")
            stages.add(sum((out / name).exists() for name in done))
            resize(shutil.disk_usage(out.parent).used + pages * 4096)
        resize(1 << 25)
        assert kdstore(*args, "--out", out).exit_code == 0
        assert contents(out) == contents(whole)
    assert stages == {0, 1, 2, 3, 4}


def test_a_full_disk_leaves_a_store_without_manifest_or_as_it_was(tmp_path: Path) -> None:
    """Ids and manifest: written whole, or not at all; what is missing is written when there is room."""
    whole = write_store(tmp_path / "whole.kd")
    root, head = tmp_path / "disk/store.kd", Store(whole.root).head
    failures = 0
    with disk(root.parent, 1 << 25) as resize:
        begin(root, head)
        prepare(root)
        for index, start in enumerate(range(0, len(whole.rows), head.part_rows)):
            write_part(root, head, index, whole.schema.pack(whole.rows[start : start + head.part_rows]))
        before = contents(root)
        for pages in range(16):
            resize(shutil.disk_usage(root.parent).used + pages * 4096)
            try:
                finalize(root, head)
                break
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                failures += 1
                left = contents(root).keys() - before.keys()
                assert left <= {Path("ids"), Path("ids/00000.jsonl.gz")}
                with pytest.raises(StoreError, match="has not finished"):
                    Store(root)
        assert contents(root) == contents(whole.root)
    assert failures >= 2
