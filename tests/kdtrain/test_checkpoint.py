"""Checkpoints: whole or refused in one line, whatever happened to the disk."""

import json
import resource
import shutil
from contextlib import contextmanager
from dataclasses import asdict

import pytest
import torch

from kdstore.errors import TrainingError
from kdstore.store import atomic
from kdstore.store.files import file_record
from kdtrain import checkpoint

STATE = dict.fromkeys(checkpoint.STATE_KEYS)


@contextmanager
def full_disk():
    """Writes beyond 64 KiB of a file fail, in the libraries' own code, as they do on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def bare(path):
    raise Exception("No space left on device (os error 28)")  # as tokenizers does


@pytest.mark.parametrize(
    "write",
    [
        lambda path: checkpoint.save_file({"w": torch.zeros(300, 300)}, path / "model.safetensors"),
        lambda path: torch.save(torch.zeros(90_000), path / "state.pt"),
        lambda path: (path / "config.json").write_bytes(bytes(90_000)),
        bare,
    ],
    ids=["safetensors", "torch", "python", "tokenizers"],
)
def test_a_full_disk_is_one_line(tmp_path, write):
    target = tmp_path / "model"
    checkpoint.publish(target, lambda path: (path / "mine").touch())
    with full_disk(), pytest.raises(TrainingError, match=r"Expected to write .*model\. Got: .*--resume auto"):
        checkpoint.publish(target, write)
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "mine"]


def test_a_fault_of_ours_keeps_its_traceback(tmp_path):
    with pytest.raises(ZeroDivisionError):
        checkpoint.publish(tmp_path / "model", lambda path: 1 / 0)


@pytest.fixture
def saved(tmp_path):
    weights = {"weight": torch.eye(4)}
    path = checkpoint.save(tmp_path / "checkpoints", 1, weights, STATE, keep=1)
    loaded, state = checkpoint.load(path)
    assert state == STATE
    assert torch.equal(loaded.pop("weight"), weights["weight"])
    assert not loaded
    return path


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt", "checksums.json"])
@pytest.mark.parametrize("damage", ["flip", "empty", "missing"])
def test_damaged_files_are_refused(saved, name, damage):
    path = saved
    data = bytearray((path / name).read_bytes())
    data[-20] ^= 1
    (path / name).write_bytes(data if damage == "flip" else b"")
    if damage == "missing":
        (path / name).unlink()
    with pytest.raises(
        TrainingError, match=r"Expected a checkpoint of this model at .*step-00000001\. Got: .*Remove"
    ):
        checkpoint.load(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80\x02.", b"\x80\x02K\x01K\x02s.", [1, 2], {"loader": 1}, {**STATE, "more": 1}, torch.zeros(2)],
    ids=["empty", "no-stack", "bad-pickle", "list", "missing-keys", "more-keys", "tensor"],
)
def test_a_foreign_state_is_refused(saved, content):
    path = saved
    if isinstance(content, bytes):
        (path / "state.pt").write_bytes(content)
    else:
        torch.save(content, path / "state.pt")
    # Even when the checksum agrees.
    sums = json.loads((path / "checksums.json").read_text())
    sums["state"] = asdict(file_record(path / "state.pt"))
    (path / "checksums.json").write_text(json.dumps(sums))
    with pytest.raises(TrainingError, match="Expected a checkpoint of this model"):
        checkpoint.load(path)


def test_what_a_killed_run_left_is_swept(tmp_path):
    gone = [".step-00000004-ab_d3fgh", ".final_model-abcdefgh", ".best_model-abcdefgh", ".step-00000008.old"]
    mine = [".final_model", ".git", ".final_model-notes-of-mine", "step-00000008"]
    for name in (*gone, *mine, ".best_model.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    files = [".training_metrics.csv.abcdefgh", ".config.sha256.abcdefgh", ".epoch_12_summary.json.abcdefgh", ".env"]
    for name in files:
        (tmp_path / name).touch()
    checkpoint.sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*mine, "best_model", ".env"}
    assert (tmp_path / "best_model" / "file").read_text() == ".best_model.old"
    shutil.rmtree(tmp_path)
    checkpoint.sweep(tmp_path)


def test_what_has_another_name_is_no_checkpoint(tmp_path):
    mine = [tmp_path / "step-00000001.bak", tmp_path / "step-00000009-of-mine"]
    for path in mine:
        path.mkdir()
    (tmp_path / "step-notes.txt").touch()
    (tmp_path / "step-00000099").touch()
    assert checkpoint.latest(tmp_path) is None
    for step in (3, 100_000_000, 7):
        checkpoint.save(tmp_path, step, {"w": torch.zeros(1)}, STATE, keep=2)
    assert [path.name for path in checkpoint.all_of(tmp_path)] == ["step-00000007", "step-100000000"]
    assert all(path.is_dir() for path in mine)


def test_locks_of_killed_writers_are_swept(tmp_path):
    for name in (".step-00000002-3ed36261.lock", ".final_model-3ed36261.lock"):
        (tmp_path / name).touch()
    (tmp_path / ".step-00000002-3ed36261").mkdir()
    checkpoint.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_not_taken_through_a_link(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"), atomic.locked(tmp_path / ".lock", "training"):
        pass
    assert (tmp_path / "precious").read_text() == "mine"
