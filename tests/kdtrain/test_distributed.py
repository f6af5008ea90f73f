"""Several processes under torchrun: they train as one does, end together, and go on in another number."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kdstore.store.reader import Store

from . import ddp_worker

WORKER = Path(ddp_worker.__file__)
ROWS = 97  # eight batches of 12 rows and one row that one rank has alone
KILLED_AT = 14
PATIENCE_S = 120


@pytest.fixture(scope="module")
def store(make_store, tmp_path_factory) -> Store:
    return make_store(tmp_path_factory.mktemp("distributed") / "a.kd", ROWS, part_rows=23, block_rows=10)


@pytest.fixture(scope="module")
def alone(store) -> tuple[list[list[list[int]]], dict[str, torch.Tensor]]:
    """The positions of every step of one process, and the weights that it ends with."""
    loader, student = ddp_worker.setting(store, last="uneven")
    optimizer, steps = ddp_worker.optimizer_of(student), []
    for batch in [*loader, *loader]:
        steps.append(batch.positions_BP.tolist())
        (student(batch, loader.codec) / batch.label_tokens).backward()
        optimizer.step()
        optimizer.zero_grad()
    for epoch in (steps[: len(loader)], steps[len(loader) :]):
        assert sorted(row for rows in epoch for row in rows) == everything(store)
    return steps, student.state_dict()


def everything(store: Store) -> list[list[int]]:
    """The positions of all rows."""
    index = (values.tolist() for values in store.block_index())
    return [[part, block, row] for part, block, rows in zip(*index, strict=True) for row in range(rows)]


def torchrun(world: int, store: Store, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the worker in so many processes; never wait for ever."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)]
    return subprocess.run(
        [*command, str(WORKER), str(store.root), str(out), *options],
        capture_output=True, text=True, check=False, timeout=PATIENCE_S,
    )  # fmt: skip


def assert_same_weights(out: Path, attempt: str, world: int, expected: dict[str, torch.Tensor]) -> None:
    for rank in range(world):
        found = torch.load(out / f"student-{attempt}-{rank}.pt", weights_only=True)
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            torch.testing.assert_close(found[name], values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("last", ["pad", "uneven"])
def test_two_ranks_train_as_one_process_does_and_end_together(store, alone, tmp_path, last):
    """The last batch of an epoch is one row: a rank has none of it, or only padding."""
    steps, weights = alone
    result = torchrun(2, store, tmp_path, "--last", last)
    assert result.returncode == 0, result.stderr
    assert [positions for _, positions in ddp_worker.steps_of(tmp_path, "first", 2)] == steps
    assert_same_weights(tmp_path, "first", 2, weights)


@pytest.fixture(scope="module")
def killed(store, alone, tmp_path_factory) -> Path:
    """What two ranks left behind when one of them was killed in the middle of the second epoch."""
    out = tmp_path_factory.mktemp("killed")
    result = torchrun(2, store, out, "--die-at-step", str(KILLED_AT))
    assert result.returncode != 0
    assert "SIGKILL" in result.stderr
    return out


@pytest.mark.parametrize("world", [1, 3])
def test_after_a_kill_another_number_of_ranks_goes_on(store, alone, killed, tmp_path, world):
    steps, weights = alone
    out = shutil.copytree(killed, tmp_path / "out")
    saved = torch.load(out / "state.pt", weights_only=True)["step"]
    assert len(steps) // ddp_worker.EPOCHS < saved < KILLED_AT
    again = torchrun(world, store, out, "--attempt", "again")
    assert again.returncode == 0, again.stderr
    before = [rows for step, rows in ddp_worker.steps_of(out, "first", 2) if step <= saved]
    after = [rows for _, rows in ddp_worker.steps_of(out, "again", world)]
    assert [*before, *after] == steps
    assert_same_weights(out, "again", world, weights)
