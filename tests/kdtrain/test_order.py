"""The order: a pure function under which every row comes once per pass, on any number of streams and ranks."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdtrain.stream.order import (
    Key,
    Order,
    OrderConfig,
    by_length,
    deal,
    design_effect,
    group_cuts,
    rows_before,
    share,
    subset,
)

SIZES = st.lists(st.integers(0, 9), min_size=1, max_size=40).filter(any).map(lambda rows: np.asarray(rows, np.int64))
KEYS = st.builds(Key, st.text(max_size=8), st.integers(0, 2**63 - 1), st.integers(0, 1000))
CONFIGS = st.builds(
    OrderConfig,
    seed=st.integers(0, 2**63 - 1),
    streams=st.sampled_from([1, 2, 3, 4, 7]),
    group_blocks=st.integers(1, 6),
    epoch_rows=st.none() | st.integers(1, 100),
    sampling=st.sampled_from(["order", "rows"]),
)


def rows_of(order, runs):
    """Runs as (pass, block, row)."""
    found = []
    for run in runs:
        rows = order.pass_(run.pass_)
        for group, start, stop in rows.pieces(run.stream, run.start, run.stop):
            slot_R, row_R = rows.row_order(run.stream, group)
            inside = slice(start - rows.starts[run.stream][group], stop - rows.starts[run.stream][group])
            blocks = rows.members(run.stream, group)[slot_R[inside]]
            found += [
                (run.pass_, block, row) for block, row in zip(blocks.tolist(), row_R[inside].tolist(), strict=True)
            ]
    return found


def positions(order, first, last):
    """What stands at every position, one by one."""
    return [row for position in range(first, last) for row in rows_of(order, order.runs(position, position + 1))]


@settings(max_examples=60, deadline=None)
@given(SIZES, CONFIGS)
def test_every_row_comes_exactly_once_in_a_pass(size_M, config):
    order = Order("store", size_M, config)
    everything = {(block, row) for block, rows in enumerate(size_M.tolist()) for row in range(rows)}
    for pass_ in (0, 5):
        found = [row[1:] for row in positions(order, pass_ * order.pass_rows, (pass_ + 1) * order.pass_rows)]
        assert len(found) == len(set(found)) == order.pass_rows
        assert set(found) <= everything
        if config.sampling == "order":
            assert set(found) == everything


@settings(max_examples=60, deadline=None)
@given(SIZES, CONFIGS, st.data())
def test_any_cut_of_the_order_gives_the_same_rows(size_M, config, data):
    order = Order("store", size_M, config)
    cuts = sorted(data.draw(st.lists(st.integers(0, 3 * order.pass_rows), min_size=2, max_size=6)))
    whole = sorted(positions(order, cuts[0], cuts[-1]))
    pieces = [row for a, b in pairwise(cuts) for row in rows_of(order, order.runs(a, b))]
    assert sorted(pieces) == whole
    digests = [order.digest(a, b) for a, b in pairwise(cuts)]
    assert sum(digests) % 2**64 == order.digest(cuts[0], cuts[-1])


@settings(max_examples=60, deadline=None)
@given(SIZES, CONFIGS, st.integers(0, 200), st.integers(0, 50), st.integers(1, 6))
def test_ranks_share_a_batch_without_gap_or_overlap(size_M, config, first, rows, world):
    order = Order("store", size_M, config)
    runs = order.runs(first, first + rows)
    shares = [rows_of(order, share(runs, w * rows // world, (w + 1) * rows // world)) for w in range(world)]
    assert [row for rank in shares for row in rank] == rows_of(order, runs)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_batch_takes_as_many_rows_of_every_stream():
    order = Order("store", np.full(50, 8), OrderConfig(3, streams=4, group_blocks=3))
    for first in (0, 5, 57, 301):
        assert [run.stop - run.start for run in order.runs(first, first + 12)] == [3] * 4


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(1, 9))
def test_streams_differ_by_at_most_a_block(size_M, streams):
    dealt = deal(size_M, np.arange(len(size_M)), streams)
    rows = [int(size_M[blocks].sum()) for blocks in dealt]
    assert max(rows) - min(rows) <= size_M.max()
    assert sorted(np.concatenate(dealt).tolist()) == list(range(len(size_M)))


@given(st.lists(st.integers(0, 12), min_size=1, max_size=6))
def test_rows_before_a_position_are_those_of_one_walk(lengths):
    # The rule itself, step by step: one row of every stream in turn, ended streams passed over.
    walk = [(turn, stream) for turn in range(13) for stream, length in enumerate(lengths) if turn < length]
    for position in range(len(walk) + 1):
        before = [stream for _, stream in walk[:position]]
        assert rows_before(np.asarray(lengths), position).tolist() == [before.count(c) for c in range(len(lengths))]


@given(st.integers(0, 500), st.integers(1, 60))
def test_groups_are_as_equal_as_can_be(blocks, group_blocks):
    sizes = np.diff(group_cuts(blocks, group_blocks)).tolist()
    assert sum(sizes) == blocks
    assert max(sizes, default=0) <= group_blocks
    assert max(sizes, default=0) - min(sizes, default=0) <= 1
    assert len(sizes) == -(-blocks // group_blocks)


def test_epochs_of_fewer_rows_complete_a_pass():
    order = Order("store", np.full(10, 10), OrderConfig(1, group_blocks=2, epoch_rows=30))
    epochs = [{row[1:] for row in positions(order, 30 * e, 30 * e + 30)} for e in range(4)]
    assert [len(epoch) for epoch in epochs[:3]] == [30] * 3
    assert len(set().union(*epochs[:3])) == 90
    assert len(set().union(*epochs)) == 100
    # 30 rows lie in two groups at most: of two blocks each.
    assert all(len({block for block, _ in epoch}) <= 4 for epoch in epochs[:3])


def test_independent_draws_spread_over_all_blocks():
    order = Order("store", np.full(100, 10), OrderConfig(1, epoch_rows=200, sampling="rows"))
    epochs = [{row[1:] for row in positions(order, 200 * e, 200 * e + 200)} for e in range(20)]
    assert {len(epoch) for epoch in epochs} == {200}
    assert all(len({block for block, _ in epoch}) > 75 for epoch in epochs)
    counts = np.zeros((100, 10))
    for epoch in epochs:
        for block, row in epoch:
            counts[block, row] += 1
    # Each row is in a fifth of 20 epochs: 4, binomially spread; so are the rows within blocks.
    assert counts.mean() == 4
    assert 2.4 < counts.var() < 4
    assert abs(counts.mean(0) - 4).max() < 0.8


def test_epochs_seeds_and_stores_differ():
    size_M = np.full(20, 8)
    epochs = [("store", 1, 0), ("store", 1, 160), ("store", 2, 0), ("other", 1, 0)]
    orders = [
        positions(Order(name, size_M, OrderConfig(seed, group_blocks=4)), first, first + 160)
        for name, seed, first in epochs
    ]
    assert len({tuple(row[1:] for row in order) for order in orders}) == 4


def test_the_order_never_changes():
    # A change breaks the resume of every run in the world: raise ORDER_VERSION with it.
    assert Key("0123456789abcdef", 42, 3).permutation(8, "blocks").tolist() == FROZEN
    order = Order("0123456789abcdef", np.full(9, 5), OrderConfig(42, streams=2, group_blocks=2))
    assert order.digest(0, 77) == FROZEN_DIGEST


FROZEN = [7, 3, 1, 0, 6, 5, 4, 2]
FROZEN_DIGEST = 4753009644949167179


def test_permutations_are_even():
    places = np.zeros((6, 6))
    for seed in range(3000):
        places[np.arange(6), Key("s", seed, 0).permutation(6)] += 1
    assert abs(places / 3000 - 1 / 6).max() < 0.03


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(0, 200), st.integers(0, 9))
def test_a_subset_has_the_size_asked_for(size_M, limit, seed):
    taken_M = subset(size_M, limit, "store", seed)
    assert taken_M.sum() == min(limit, size_M.sum())
    assert (taken_M <= size_M).all()
    assert (taken_M == subset(size_M, limit, "store", seed)).all()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 30), max_size=60), st.integers(1, 9), KEYS)
def test_rows_of_like_length_come_together(lengths, rows, key):
    order = by_length(np.asarray(lengths, np.int64), rows, key, 0, 0)
    assert sorted(order.tolist()) == list(range(len(lengths)))
    ordered = sorted(lengths)
    runs = [ordered[i : i + rows] for i in range(0, len(ordered), rows)]
    found = [lengths[i] for i in order.tolist()]
    # Every run of the sorted lengths is there as a whole; only the last may be short, wherever it came to lie.
    while runs:
        match = next(run for run in runs if found[: len(run)] == run)
        runs.remove(match)
        found = found[len(match) :]


@pytest.mark.parametrize(("blocks", "effect"), [([1, 2, 3, 4], 1), ([1, 1, 1, 1], 4), ([1, 1, 2, 2], 2)])
def test_design_effect(blocks, effect):
    assert design_effect(np.asarray(blocks)) == effect


@pytest.mark.parametrize("streams", [1, 4])
def test_ten_million_rows_are_planned_in_100_mb(streams):
    tracemalloc.start()
    order = Order("store", np.full(156_250, 64), OrderConfig(1, streams=streams))
    runs = order.runs(9_999_000, 9_999_256)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(run.stop - run.start for run in runs) == 256
    assert peak < 100e6
