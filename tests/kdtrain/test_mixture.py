"""Mixtures: shares by weight, every store's own order kept, exact resume."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdstore.errors import MismatchError, UsageError
from kdtrain.stream.config import LoaderConfig
from kdtrain.stream.loader import Loader
from kdtrain.stream.mixture import Mixture
from kdtrain.stream.order import OrderConfig


@pytest.fixture(scope="module")
def mixed(make_store, tmp_path_factory):
    root = tmp_path_factory.mktemp("mixture")
    # Of different codecs, so that a batch decoded by the wrong store's cannot pass.
    return make_store(root / "a.kd", 40, codec="topk"), make_store(root / "b.kd", 24, seed=1, codec="lowrank")


def loaders(stores, **changes):
    config = {"batch_rows": 4, "order": OrderConfig(3, group_blocks=2), "residency": "window", **changes}
    return [Loader(store, LoaderConfig(**config)) for store in stores]


def seen(batches):
    return [(batch.source, batch.positions_BP.tolist()) for batch in batches]


def test_shares_follow_the_weights_and_each_store_keeps_its_order(mixed):
    mixture = Mixture(loaders(mixed), [3, 1], 0)
    batches = [batch for _ in range(30) for batch in mixture]
    assert len(mixture) == 16
    counts = Counter(batch.source for batch in batches)
    assert counts[0] / len(batches) == pytest.approx(0.75, abs=0.02)
    for source, loader in enumerate(loaders(mixed)):
        alone = [positions for _ in range(40) for _, positions in seen(loader)]
        mine = [positions for which, positions in seen(batches) if which == source]
        assert mine == alone[: len(mine)]
    # Sources are shuffled, not in a fixed pattern.
    order = [batch.source for batch in batches]
    assert order[:100] != order[100:200]
    assert f"{counts[1] / 6:.2f} of its epochs" in mixture.account(29)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(weights=st.tuples(*[st.floats(0.01, 10)] * 2), kills=st.lists(st.integers(0, 40), max_size=3))
def test_killed_anywhere_the_rest_is_the_same(mixed, weights, kills):
    expected, _ = run(mixed, weights, None, 40)
    state, found = None, []
    for start, stop in zip([0, *sorted(kills)], [*sorted(kills), 40], strict=True):
        batches, state = run(mixed, weights, state, stop - start)
        found += batches
    assert found == expected


def run(stores, weights, state, count):
    mixture = Mixture(loaders(stores), weights, 5)
    mixture.load_state_dict(state or mixture.state_dict())
    batches = (batch for _ in range(10) for batch in mixture)
    return [seen([next(batches)])[0] for _ in range(count)], mixture.state_dict()


def test_signals_and_ids_come_from_the_batch_s_own_store(mixed):
    mixture = Mixture(loaders(mixed), [1, 1], 0)
    kinds = {0: "SparseSignal", 1: "DenseSignal"}
    for batch in mixture:
        assert type(mixture.signal(batch, 1.0)).__name__ == kinds[batch.source]
        part, block, row = batch.positions_BP[0].tolist()
        stored = mixed[batch.source].part(part).read(block, block + 1, ["id"]).row(row)["id"]
        assert mixture.sample_ids(batch)[0] == stored


def test_what_cannot_be_mixed_is_refused(mixed):
    for weights in ([1], [1, 0], [1, float("nan")], [1, float("inf")]):
        with pytest.raises(UsageError, match="--mix"):
            Mixture(loaders(mixed), weights, 0)
    with pytest.raises(UsageError, match="--last-batch"):
        Mixture(loaders(mixed, world=2), [1, 1], 0)
    state = Mixture(loaders(mixed), [1, 1], 0).state_dict()
    with pytest.raises(MismatchError, match="slots"):
        Mixture(loaders(mixed), [3, 1], 0).load_state_dict(state)
    with pytest.raises(MismatchError, match="seed of the mixture"):
        Mixture(loaders(mixed), [1, 1], 1).load_state_dict(state)
    with pytest.raises(MismatchError, match="fingerprint"):
        Mixture(loaders(mixed[::-1]), [1, 1], 0).load_state_dict(state)


def test_a_state_that_contradicts_itself_moves_nothing(mixed):
    mixture = Mixture(loaders(mixed), [1, 1], 0)
    running = iter(mixture)
    for _ in range(3):
        next(running)
    state, fresh = mixture.state_dict(), Mixture(loaders(mixed), [1, 1], 0)
    start = fresh.state_dict()
    with pytest.raises(MismatchError, match="batches, as the state of the mixture"):
        fresh.load_state_dict({**state, "loaders": start["loaders"]})
    with pytest.raises(MismatchError, match="fingerprint"):
        fresh.load_state_dict({**state, "loaders": [state["loaders"][0]] * 2})
    assert fresh.state_dict() == start


def test_ranks_take_the_same_sources(mixed):
    ranks = [Mixture(loaders(mixed, rank=rank, world=2, last="pad"), [2, 1], 0) for rank in range(2)]
    sources = [[batch.source for _ in range(3) for batch in rank] for rank in ranks]
    assert sources[0] == sources[1]
    assert np.mean(sources[0]) == pytest.approx(1 / 3, abs=0.1)
