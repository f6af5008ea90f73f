"""Bootstrap intervals: that they cover, that they are reproducible, that pairs are resampled together."""

import numpy as np
import pytest
from scipy import stats

from kdeval import interval as module
from kdeval.interval import bootstrap, interval, resamples


def mean_of(values_N):
    return lambda weights_BN: {"mean": (weights_BN @ values_N) / weights_BN.sum(1)}


def test_resamples_are_sets_of_as_many_samples():
    weights_BN = np.concatenate([*resamples(50, 20, 3)])
    assert weights_BN.shape == (20, 50)
    assert (weights_BN.sum(1) == 50).all()
    assert len({row.tobytes() for row in weights_BN}) == 20


def test_resamples_do_not_depend_on_how_many_are_in_memory_at_once(monkeypatch):
    whole = np.concatenate([*resamples(50, 20, 3)])
    monkeypatch.setattr(module, "_WEIGHTS", 130)
    pieces = [*resamples(50, 20, 3)]
    assert len(pieces) == 10
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_same_seed_same_interval():
    values_N = np.random.default_rng(0).normal(size=80)
    draws = [bootstrap(mean_of(values_N), 80, 200, seed)["mean"] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


def test_agrees_with_scipy():
    values_N = np.random.default_rng(0).exponential(size=200)
    ours = interval(bootstrap(mean_of(values_N), 200, 4000, 0)["mean"])
    theirs = stats.bootstrap((values_N,), np.mean, n_resamples=4000, method="percentile", rng=1).confidence_interval
    assert ours == pytest.approx(theirs, rel=0.02)


def test_covers_the_truth_as_often_as_it_says():
    """Of 300 experiments with a known mean about 95 % have it in their interval."""
    dice = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        found = interval(bootstrap(mean_of(dice.normal(size=100)), 100, 300, 0)["mean"])
        hits += found.low <= 0 <= found.high
    assert 0.90 <= hits / 300 <= 0.98


def test_undefined_resamples_are_left_out():
    assert interval(np.array([np.nan, 1.0, 1.0, np.nan])) == (1.0, 1.0)
    assert interval(np.array([np.nan, np.nan])) is None


def test_pairs_are_resampled_together():
    """The difference of two values that move together has a narrow interval, though both values are noisy."""
    first_N = np.random.default_rng(0).normal(size=60)
    second_N = first_N + 0.1
    drawn = bootstrap(lambda w: {"a": w @ first_N / w.sum(1), "b": w @ second_N / w.sum(1)}, 60, 500, 0)
    apart = interval(drawn["a"])
    together = interval(drawn["b"] - drawn["a"])
    assert apart.high - apart.low > 0.3
    assert together == pytest.approx((0.1, 0.1))
