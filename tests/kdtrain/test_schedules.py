"""The learning rate's course."""

import math

import pytest

from kdtrain.schedules import rate, warmup_length


def test_linear():
    rates = [rate(step, 3, 10) for step in range(10)]
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    assert rates[3:] == pytest.approx([1, 6 / 7, 5 / 7, 4 / 7, 3 / 7, 2 / 7, 1 / 7])


def test_cosine():
    rates = [rate(step, 2, 10, "cosine", 0.1) for step in range(10)]
    assert rates[:3] == pytest.approx([1 / 2, 1, 1])
    assert rates[6] == pytest.approx((1 + 0.1) / 2)  # half of the way
    assert rates[9] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * 7 / 8)) / 2)


@pytest.mark.parametrize("shape", ["linear", "cosine"])
@pytest.mark.parametrize("total", [1, 2, 3, 7])
@pytest.mark.parametrize("warmup", [0, 1, 2, 100])
@pytest.mark.parametrize("end", [0.0, 0.3, 1.0])
def test_short_runs_have_rates_in_range(warmup, total, shape, end):
    rates = [rate(step, warmup, total, shape, end) for step in range(total)]
    assert all(0 < one <= 1 + 1e-12 for one in rates)
    assert all(one >= end for one in rates[warmup:])


def test_warmup_by_steps_wins_over_the_share_of_all_steps():
    assert warmup_length(0, 0.15, 100) == 15
    assert warmup_length(7, 0.15, 100) == 7
    assert warmup_length(0, 0.15, 1) == 0
    assert warmup_length(0, 0.0, 100) == 0
