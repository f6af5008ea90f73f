"""The learning rate's course."""

import pytest

from kdtrain.schedules import linear, warmup_length


def test_linear():
    rates = [linear(step, 3, 10) for step in range(10)]
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    assert rates[3:] == pytest.approx([1, 6 / 7, 5 / 7, 4 / 7, 3 / 7, 2 / 7, 1 / 7])


@pytest.mark.parametrize("total", [1, 2, 3, 7])
@pytest.mark.parametrize("warmup", [0, 1, 2, 100])
def test_short_runs_have_rates_in_range(warmup, total):
    assert all(0 < linear(step, warmup, total) <= 1 for step in range(total))


def test_automatic_warmup():
    assert warmup_length(0, 100) == 15
    assert warmup_length(7, 100) == 7
    assert warmup_length(0, 1) == 0
