"""The loader: padded batches equal to naive ones, bounded memory, exact resume."""

import gc
import threading
import weakref

import numpy as np
import pytest
import torch

from kdstore.errors import CapabilityError, CorruptStoreError, EmptyInputError, MismatchError
from kdstore.schema import Block
from kdstore.store.reader import Part, Store
from kdtrain.stream.batch import IGNORED
from kdtrain.stream.loader import Loader, group_size


@pytest.fixture(scope="module")
def store(make_store, tmp_path_factory):
    # 5 parts, 13 blocks of 10 rows or fewer.
    return make_store(tmp_path_factory.mktemp("loader") / "a.kd", 97, part_rows=23, block_rows=10)


def loader(store, **changes):
    return Loader(store, **{"batch_size": 7, "seed": 3, "with_signal": True, "group_blocks": 3, **changes})


def positions(batches):
    return np.concatenate([batch.positions_BP for batch in batches]).tolist()


@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_equal_naive_padding(store, shuffle):
    for batch in loader(store, shuffle=shuffle, embeddings=["mini"]):
        rows = [store.part(p).read(b, b + 1).row(r) for p, b, r in batch.positions_BP.tolist()]
        flat = []
        for i, row in enumerate(rows):
            length, labels = len(row["input_ids"]), row["labels"].tolist()
            assert batch.input_ids_BS[i, :length].tolist() == row["input_ids"].tolist()
            assert (batch.input_ids_BS[i, length:] == 0).all()
            assert batch.attention_mask_BS[i].tolist() == [1] * length + [0] * (batch.input_ids_BS.shape[1] - length)
            assert batch.labels_BT[i].tolist() == labels + [IGNORED] * (batch.labels_BT.shape[1] - len(labels))
            assert batch.embeddings["mini"][i].tolist() == row["embeddings/mini"].tolist()
            flat += labels
        assert batch.labels_L.tolist() == flat == batch.labels_BT[batch.labels_BT != IGNORED].tolist()
        for name, values in batch.signal.items():
            expected = np.concatenate([row["teacher"][name] for row in rows])
            assert np.array_equal(values.numpy(), expected)
        assert max(len(row["input_ids"]) for row in rows) == batch.input_ids_BS.shape[1]


def test_every_row_comes_once_and_the_last_batch_is_kept(store):
    source = loader(store)
    batches = list(source)
    assert [batch.rows for batch in batches] == [7] * 13 + [6]
    assert len(batches) == source.batches
    everything = [[p, b, r] for p, b in store.blocks() for r in range(store.block_rows(p, b))]
    assert sorted(positions(batches)) == everything
    second = list(source)
    assert sorted(positions(second)) == everything
    assert positions(second) != positions(batches)


def test_order_does_not_depend_on_batch_size(store):
    assert (
        positions(loader(store)) == positions(loader(store, batch_size=97)) == positions(loader(store, batch_size=1))
    )


@pytest.mark.parametrize("stop", range(15))
def test_resume_gives_the_remaining_batches(store, stop):
    first = loader(store)
    batches = iter(first)
    for _ in range(min(stop, 14)):
        next(batches)
    state = first.state_dict()
    rest = [*batches, *first]  # to the end of this epoch, and the next one
    second = loader(store)
    second.load_state_dict(state)
    again = [*second, *second]
    assert positions(again) == positions(rest)
    assert all(torch.equal(a.input_ids_BS, b.input_ids_BS) for a, b in zip(again, rest, strict=True))


@pytest.mark.parametrize(
    ("change", "named"),
    [({"seed": 4}, "seed"), ({"group_blocks": 2}, "blocks per group"), ({"max_rows": 50}, "rows per epoch")],
)
def test_resume_refuses_another_order(store, change, named):
    with pytest.raises(MismatchError, match=named):
        loader(store, **change).load_state_dict(loader(store).state_dict())


def test_a_subset_is_fixed(store):
    source = loader(store, max_rows=30)
    first, second = positions(source), positions(source)
    assert len(first) == source.rows == 30
    assert sorted(first) == sorted(second)
    assert first != second
    assert sorted(positions(loader(store, max_rows=30, seed=4))) != sorted(first)
    assert len(positions(loader(store, max_rows=1000))) == 97


def test_at_most_two_groups_are_in_memory(store, monkeypatch):
    alive, before = weakref.WeakSet(), []
    read = Loader._read

    class Watched(Block):
        __hash__ = object.__hash__

    def watch(self, members):
        before.append(len(alive))
        group = read(self, members)
        watched = Watched(group.schema, group.rows, group.arrays)
        alive.add(watched)
        return watched

    monkeypatch.setattr(Loader, "_read", watch)
    for _ in loader(store, group_blocks=1, batch_size=25):
        gc.collect()
    # While one is read, at most the one in use is there.
    assert len(before) == 13
    assert max(before) == 1


def test_an_early_exit_leaves_no_thread(store):
    before = threading.active_count()
    batches = iter(loader(store, group_blocks=1))
    next(batches)
    assert threading.active_count() == before + 1
    batches.close()
    assert threading.active_count() == before


def test_errors_of_the_reading_thread_come_through(store, monkeypatch):
    read = Part.read

    def broken(self, first, stop, fields=None):
        if self.record.index == 4:
            raise CorruptStoreError("part 4 is broken")
        return read(self, first, stop, fields)

    monkeypatch.setattr(Part, "read", broken)
    before = threading.active_count()
    with pytest.raises(CorruptStoreError, match="part 4"):
        list(loader(store, group_blocks=1))
    assert threading.active_count() == before


def test_sample_ids(store):
    batch = next(iter(loader(store)))
    ids = loader(store).sample_ids(batch)
    assert ids == [f"row-{p * 23 + b * 10 + r}" for p, b, r in batch.positions_BP.tolist()]


def test_group_size_fits_a_budget(make_store, tmp_path, store, monkeypatch):
    assert group_size(store, ["input_ids", "labels"]) == 16
    dense = make_store(tmp_path / "dense.kd", 40, codec="dense", block_rows=10)
    monkeypatch.setattr("kdtrain.stream.loader.GROUP_BYTES", 60_000)
    assert group_size(dense, ["input_ids", "labels"]) == 16
    assert 1 <= group_size(dense, ["input_ids", "labels", "teacher"]) < 16


def test_stores_that_cannot_serve_are_refused(make_store, tmp_path, store):
    tokens = make_store(tmp_path / "tokens.kd", 5, codec=None)
    with pytest.raises(CapabilityError, match="--alpha 1"):
        loader(tokens)
    assert loader(tokens, with_signal=False).rows == 5
    with pytest.raises(EmptyInputError, match="Expected rows"):
        loader(make_store(tmp_path / "empty.kd", 0))
    assert isinstance(store, Store)
