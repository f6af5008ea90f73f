"""The loader: padded batches equal to naive ones, bounded memory, exact resume on any number of ranks."""

import gc
import pickle
import shutil
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain, islice, repeat
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdstore.errors import CapabilityError, CorruptStoreError, EmptyInputError, MismatchError, UsageError
from kdstore.store.reader import Part, Store
from kdtrain.stream.batch import IGNORED
from kdtrain.stream.config import LoaderConfig
from kdtrain.stream.loader import Loader
from kdtrain.stream.order import OrderConfig, design_effect
from kdtrain.stream.plan import default_group_blocks, measure
from kdtrain.stream.reader import GroupReader
from kdtrain.stream.shelf import Shelf
from kdtrain.stream.window import Window

ORDER = {"seed", "streams", "group_blocks", "shuffle", "epoch_rows", "sampling"}
SLOW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def store(make_store, tmp_path_factory):
    # 5 parts, 13 blocks of 10 rows or fewer.
    return make_store(tmp_path_factory.mktemp("loader") / "a.kd", 97, part_rows=23, block_rows=10)


def loader(store, **changes):
    order = {"seed": 3, "group_blocks": 3} | {key: changes.pop(key) for key in ORDER & changes.keys()}
    defaults = {"batch_rows": 7, "residency": "window", "ram_limit": 1 << 30}
    return Loader(store, LoaderConfig(order=OrderConfig(**order), **{**defaults, **changes}))


def positions(batches):
    return np.concatenate([np.zeros((0, 3), int), *(batch.positions_BP for batch in batches)]).tolist()


def everything(store):
    part_M, block_M, rows_M = store.block_index()
    return [
        [p, b, r]
        for p, b, n in zip(part_M.tolist(), block_M.tolist(), rows_M.tolist(), strict=True)
        for r in range(n)
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"shuffle": False}, {"residency": "full"}, {"batch_rows": 8, "streams": 4}, {"length_grouped": True},
        {"threads": 3}, {"epoch_rows": 60}, {"epoch_rows": 60, "sampling": "rows"},
    ],
    ids=str,
)  # fmt: skip
def test_batches_equal_naive_padding(store, changes):
    for batch in loader(store, embeddings=("mini",), **changes):
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


def test_a_signal_of_uneven_size_per_token_is_gathered(make_store, tmp_path):
    store = make_store(tmp_path / "topp.kd", 40, codec="topp", block_rows=8)
    for batch in loader(store, streams=7):
        rows = [store.part(p).read(b, b + 1).row(r) for p, b, r in batch.positions_BP.tolist()]
        for name, values in batch.signal.items():
            assert np.array_equal(values.numpy(), np.concatenate([row["teacher"][name] for row in rows]))


def test_every_row_comes_once_and_the_last_batch_is_kept(store):
    source = loader(store)
    batches = list(source)
    assert [batch.rows for batch in batches] == [7] * 13 + [6]
    assert len(batches) == len(source)
    assert sorted(positions(batches)) == everything(store)
    second = list(source)
    assert sorted(positions(second)) == everything(store)
    assert positions(second) != positions(batches)


def test_residency_threads_and_reading_ahead_do_not_change_the_order(store):
    expected = positions(loader(store))
    tight = loader(store)
    tight.plan = replace(tight.plan, ahead=0)
    for other in (loader(store, residency="full"), loader(store, threads=4), tight):
        assert positions(other) == expected


def test_last_batches(store):
    dropped, padded = loader(store, last="drop"), loader(store, last="pad")
    assert [batch.rows for batch in dropped] == [7] * 13
    assert (len(dropped), dropped.report(0).rows, dropped.report(0).dropped) == (13, 91, 6)
    *_, last = padded
    assert (last.rows, len(last.input_ids_BS), len(last.labels_BT)) == (6, 7, 7)
    assert (last.labels_BT[6] == IGNORED).all()
    assert last.input_ids_BS[6].tolist() == [0] * last.input_ids_BS.shape[1]
    assert last.attention_mask_BS[6].sum() == 1
    assert last.label_tokens == (last.labels_BT != IGNORED).sum()
    assert (padded.report(0).rows, padded.report(0).padding, padded.report(0).dropped) == (97, 1, 0)
    # Nothing left out stays out for good: the next pass has another order.
    assert sorted(positions([*dropped, *dropped])) != everything(store)


@pytest.mark.parametrize("last", ["uneven", "pad", "drop"])
@pytest.mark.parametrize("world", [2, 3, 4, 6])
def test_ranks_together_see_what_one_does(store, world, last):
    alone = list(loader(store, batch_rows=12, last=last))
    ranks = [list(loader(store, batch_rows=12, last=last, rank=r, world=world)) for r in range(world)]
    for step, batch in enumerate(alone):
        shares = [rank[step] for rank in ranks if step < len(rank)]
        assert positions(shares) == batch.positions_BP.tolist()
        if last != "uneven":
            assert [len(share.labels_BT) for share in shares] == [12 // world] * world


@SLOW
@given(
    data=st.data(),
    streams=st.sampled_from([1, 2, 4]),
    epoch_rows=st.none() | st.integers(5, 150),
    sampling=st.sampled_from(["order", "rows"]),
    length_grouped=st.booleans(),
    threads=st.sampled_from([1, 2]),
)
def test_killed_anywhere_the_rest_is_the_same_on_any_number_of_ranks(
    store, data, streams, epoch_rows, sampling, length_grouped, threads
):
    settings = {
        "batch_rows": 12, "streams": streams, "epoch_rows": epoch_rows, "sampling": sampling,
        "length_grouped": length_grouped, "group_blocks": 2, "threads": threads,
    }  # fmt: skip

    def run(state, world, count):
        """The next global batches as so many ranks see them, and the state of one of the ranks then."""
        sources = [loader(store, rank=rank, world=world, **settings) for rank in range(world)]
        for source in sources:
            source.load_state_dict(state or source.state_dict())
        ranks = [endless(source) for source in sources]
        found = [positions(filter(None, [next(batches) for batches in ranks])) for _ in range(count)]
        return found, data.draw(st.sampled_from(sources)).state_dict()

    def endless(source):
        """A rank's batches over epochs; None where it has no row of the last one."""
        while True:
            left = len(source) - -(-source.rows_yielded // 12)
            batches = iter(source)
            yield from islice(chain(batches, repeat(None)), left)
            assert next(batches, None) is None

    total = 2 * len(loader(store, **settings)) + 3
    expected, _ = run(None, 1, total)
    kills = sorted(data.draw(st.lists(st.integers(0, total), max_size=3)))
    state, found = None, []
    for start, stop in zip([0, *kills], [*kills, total], strict=True):
        batches, state = run(state, data.draw(st.sampled_from([1, 2, 3, 4, 6])), stop - start)
        found += batches
    assert found == expected


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
    again = list(islice(chain(second, second), len(rest)))
    assert positions(again) == positions(rest)
    assert all(torch.equal(a.input_ids_BS, b.input_ids_BS) for a, b in zip(again, rest, strict=True))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 4}, "seed"), ({"group_blocks": 2}, "blocks per group"), ({"max_rows": 50}, "rows that take part"),
        ({"epoch_rows": 9}, "rows per epoch"), ({"streams": 7}, "streams"), ({"length_grouped": True}, "by length"),
    ],
    ids=str,
)  # fmt: skip
def test_resume_refuses_another_order(store, change, named):
    with pytest.raises(MismatchError, match=named):
        loader(store, **change).load_state_dict(loader(store).state_dict())


def test_resume_refuses_another_store_and_another_order_function(store, make_store, tmp_path, monkeypatch):
    first = loader(store)
    next(iter(first))
    state = first.state_dict()
    other = make_store(tmp_path / "other.kd", 97, seed=1, part_rows=23, block_rows=10)
    with pytest.raises(MismatchError, match="store fingerprint"):
        loader(other).load_state_dict(state)
    with pytest.raises(MismatchError, match="digest"):
        loader(store).load_state_dict({**state, "digest": state["digest"] ^ 1})
    monkeypatch.setattr("kdtrain.stream.loader.ORDER_VERSION", 99)
    with pytest.raises(MismatchError, match="order version"):
        loader(store).load_state_dict(state)


def test_a_subset_is_fixed(store):
    source = loader(store, max_rows=30)
    first, second = positions(source), positions(source)
    assert len(first) == source.rows == 30
    assert sorted(first) == sorted(second)
    assert first != second
    assert sorted(positions(loader(store, max_rows=30, seed=4))) != sorted(first)
    assert len(positions(loader(store, max_rows=1000))) == 97


def test_epochs_of_fewer_rows_read_only_their_blocks_and_report_coverage(store, monkeypatch):
    read, seen = Part.read_arrays, []
    monkeypatch.setattr(
        Part,
        "read_arrays",
        lambda self, c, first, stop, out=None: (seen.append(first), read(self, c, first, stop, out))[1],
    )
    source = loader(store, epoch_rows=25, group_blocks=4)
    coverage = [(len(list(source)), source.report(epoch).coverage)[1] for epoch in range(4)]
    assert coverage == pytest.approx([25 / 97, 50 / 97, 75 / 97, 1])
    # Three passes' worth of blocks would be 39 and more: what an epoch leaves in the middle of a group is kept.
    assert len(seen) <= 17
    drawn = loader(store, epoch_rows=25, sampling="rows")
    assert [len(positions(drawn)), len(positions(drawn))] == [25, 25]
    assert drawn.report(1).coverage == pytest.approx(1 - (72 / 97) ** 2)


def test_at_most_two_groups_are_in_memory(store, monkeypatch):
    alive, before = weakref.WeakSet(), []
    of = Window.of.__func__

    def watch(cls, *args):
        gc.collect()
        before.append(len(alive))
        window = of(cls, *args)
        alive.add(window)
        return window

    monkeypatch.setattr(Window, "of", classmethod(watch))
    monkeypatch.setattr(Window, "__hash__", object.__hash__)
    for _ in loader(store, group_blocks=1, batch_rows=25):
        pass
    # While one is read, at most the one in use is there.
    assert len(before) == 13
    assert max(before) == 1


def test_memory_of_groups_is_used_again(store, monkeypatch):
    made = []
    new = GroupReader._buffer
    monkeypatch.setattr(GroupReader, "_buffer", lambda self, size: (made.append(size), new(self, size))[1])
    source = loader(store, group_blocks=1)
    list(source)
    # Two groups' arrays; a few grow when a larger block comes.
    assert len(made) < 13 * 4
    assert not source._reader._free


def test_an_early_exit_leaves_no_thread(store):
    before = threading.active_count()
    batches = iter(loader(store, group_blocks=1))
    next(batches)
    assert threading.active_count() > before
    batches.close()
    assert threading.active_count() == before


def test_errors_of_the_reading_thread_come_through(store, monkeypatch):
    read = Part.read_arrays

    def broken(self, *args):
        if self.index == 4:
            raise CorruptStoreError("part 4 is broken")
        return read(self, *args)

    monkeypatch.setattr(Part, "read_arrays", broken)
    before = threading.active_count()
    with pytest.raises(CorruptStoreError, match="part 4"):
        list(loader(store, group_blocks=1))
    assert threading.active_count() == before


def test_a_stall_prints_what_all_threads_do(store, monkeypatch, capfd):
    read, shown = Part.read_arrays, threading.Event()

    def slow(self, *args):
        shown.wait(5)  # until long after the watchdog has spoken
        return read(self, *args)

    monkeypatch.setattr(Part, "read_arrays", slow)
    monkeypatch.setattr("kdtrain.stream.shelf.STALL_SECONDS", 0.05)
    threading.Timer(1, shown.set).start()
    next(iter(loader(store)))
    assert "most recent call first" in capfd.readouterr().err


def test_sample_ids(store):
    batch = next(iter(loader(store)))
    ids = loader(store).sample_ids(batch)
    assert ids == [f"row-{p * 23 + b * 10 + r}" for p, b, r in batch.positions_BP.tolist()]


def test_a_worker_process_gives_the_same_order(store):
    source = loader(store)
    expected = positions(loader(store))
    for workers in (1, 2):
        batches = torch.utils.data.DataLoader(source, batch_size=None, num_workers=workers)
        assert positions(batches) == expected


def test_a_loader_can_be_pickled(store):
    source = loader(store)
    next(iter(source))
    again = pickle.loads(pickle.dumps(source))
    assert positions(again) == positions(list(loader(store))[1:])


def test_default_groups_are_those_of_the_store_alone(make_store, tmp_path, store, monkeypatch):
    assert default_group_blocks(measure(store, ["input_ids", "labels"]), 1) == 256
    assert default_group_blocks(measure(store, ["input_ids", "labels"]), 4) == 64
    dense = make_store(tmp_path / "dense.kd", 40, codec="dense", block_rows=10)
    monkeypatch.setattr("kdtrain.stream.plan.GROUP_BYTES", 200_000)
    assert default_group_blocks(measure(dense, ["input_ids", "labels"]), 1) > 50
    assert 1 <= default_group_blocks(measure(dense, ["input_ids", "labels", "teacher"]), 1) < 30


def test_larger_groups_mix_better(store):
    _, block_M, _ = store.block_index()

    def effect(**changes):
        batches = [b for b in loader(store, batch_rows=12, **changes) if b.rows == 12]
        return np.mean([design_effect(b.positions_BP[:, 0] * len(block_M) + b.positions_BP[:, 1]) for b in batches])

    assert effect(group_blocks=1) > 3 * effect(group_blocks=13)
    assert effect(group_blocks=13) < 2.2


def test_what_cannot_be_divided_is_refused(store):
    with pytest.raises(UsageError, match="2 --streams"):
        loader(store, streams=2)
    with pytest.raises(UsageError, match="2 processes"):
        loader(store, world=2)
    with pytest.raises(UsageError, match="at least 100 rows"):
        loader(store, batch_rows=100, last="drop")
    with pytest.raises(UsageError, match="grouped by length"):
        loader(store, shuffle=False, length_grouped=True)


def test_stores_that_cannot_serve_are_refused(make_store, tmp_path, store):
    tokens = make_store(tmp_path / "tokens.kd", 5, codec=None)
    with pytest.raises(CapabilityError, match="--alpha 1"):
        loader(tokens)
    assert loader(tokens, signal=False).rows == 5
    with pytest.raises(EmptyInputError, match="Expected rows"):
        loader(make_store(tmp_path / "empty.kd", 0))
    assert isinstance(store, Store)


@pytest.mark.parametrize("world", [2, 4])
def test_what_is_read_ahead_and_never_asked_for_is_dropped(store, monkeypatch, world):
    held = []
    turn_to = Shelf._turn_to
    monkeypatch.setattr(Shelf, "_turn_to", lambda self, key: (turn_to(self, key), held.append(len(self._held)))[0])
    # Batches of two groups and more: most groups go to one rank as a whole.
    for rank in range(world):
        list(loader(store, group_blocks=1, batch_rows=32, rank=rank, world=world))
    assert max(held) <= 2


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"epoch": -1}, "epoch"), ({"epoch": 1.0}, "epoch"), ({"rows_yielded": -5}, "rows_yielded"),
        ({"rows_yielded": 97}, "fewer than 97"), ({"rows_yielded": 10**6}, "fewer than"), ({"seed": None}, "seed"),
        ({"epoch": True}, "epoch"),
    ],
    ids=str,
)  # fmt: skip
def test_hostile_states_are_refused_and_change_nothing(store, change, named):
    source = loader(store)
    with pytest.raises(MismatchError, match=named):
        source.load_state_dict({**source.state_dict(), **change})
    with pytest.raises(MismatchError, match="epoch"):
        source.load_state_dict({})
    assert positions(source) == positions(loader(store))


def test_a_resumed_worker_takes_its_turn(store):
    source = loader(store)
    batches = iter(source)
    for _ in range(3):
        next(batches)
    batches.close()
    workers = torch.utils.data.DataLoader(source, batch_size=None, num_workers=2)
    assert positions(workers) == positions(list(loader(store))[3:])


def test_a_forked_process_writes_into_memory_of_its_own(store):
    """Workers are forked from a process that has read already; they go on with its buffers."""
    with ThreadPoolExecutor(1) as pool:
        group = GroupReader(store, ["input_ids"]).read([(0, 0)], pool)
    before = {path: values.copy() for path, values in group.arrays.items()}
    child = get_context("fork").Process(target=_blank, args=(group.arrays,))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert all(np.array_equal(values, before[path]) for path, values in group.arrays.items())


def _blank(arrays):
    for values in arrays.values():
        values[:] = 0


def test_one_iteration_at_a_time(store):
    source = loader(store)
    first = iter(source)
    next(first)
    second = iter(source)
    next(second)
    with pytest.raises(UsageError, match="one iteration"):
        next(first)


@pytest.mark.parametrize(
    "change",
    [{"rank": 2, "world": 2}, {"world": 0}, {"batch_rows": 0}, {"group_blocks": -1}, {"epoch_rows": 0}],
    ids=str,
)
def test_sizes_and_ranks_that_cannot_be_are_refused(store, change):
    with pytest.raises(UsageError, match="Expected sizes above 0"):
        loader(store, **change)


def test_rows_left_out_do_not_count_as_seen(store):
    source = loader(store, batch_rows=21, epoch_rows=40, last="drop")
    seen = set()
    for epoch in range(8):
        seen |= {tuple(position) for position in positions(source)}
        assert source.report(epoch).rows == 21
    # Of the first pass 21 of 40 rows, of later ones as many: in expectation.
    assert source.report(7).coverage == pytest.approx(len(seen) / 97, abs=0.12)
    assert source.report(7).coverage < 1


def test_a_part_that_goes_away_is_named(make_store, tmp_path):
    store = make_store(tmp_path / "a.kd", 60, part_rows=20, block_rows=5)
    batches = iter(loader(store, group_blocks=1))
    next(batches)
    shutil.rmtree(tmp_path / "a.kd" / "parts")
    with pytest.raises(CorruptStoreError, match="Mend the store"):
        list(batches)
