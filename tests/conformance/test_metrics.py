"""What every metric must do, whoever wrote it: each file of kdeval/metrics is picked up by its name."""

import doctest
import math
import sys

import numpy as np
import pytest

from kdeval.metrics import METRICS, Metric, Sample
from kdstore.errors import EmptyInputError

ASSERTIONS = ["assertEquals(2, list.size());", "assertTrue(list.isEmpty());\nassertNull(x);"]
DEGENERATE = {
    "empty prediction": ("assertTrue(a);", ""),
    "empty reference": ("", "assertTrue(a);"),
    "both empty": ("", ""),
    "white space": (" \n\t", "\n"),
    "not Java": ("assertTrue(a);", '@A( \x00 "unterminated \\u \U0001f600 {{{((('),
}


@pytest.fixture(params=METRICS.names())
def metric(request: pytest.FixtureRequest) -> Metric:
    return METRICS.get(request.param)()


def sample(reference: str, prediction: str, correct: int = 4, nll: float = 0.0) -> Sample:
    return Sample("1", "p", reference, prediction, token_count=4, token_correct=correct, nll_sum=nll)


def check_bounds(metric: Metric, samples: list[Sample]) -> float:
    low, high = metric.range
    scores = metric.score(samples)
    assert next(iter(scores.values)) == metric.name
    numbers = [*scores.values.values(), *(v for v in scores.per_sample or () if v is not None)]
    assert all(math.isfinite(number) and low <= number and (high is None or number <= high) for number in numbers)
    assert scores.per_sample is None or len(scores.per_sample) == len(samples)
    return scores.values[metric.name]


def test_record_is_complete(metric: Metric) -> None:
    low, high = metric.range
    assert METRICS.get(metric.name) is type(metric)
    assert METRICS.origin(metric.name) == f"kdeval.metrics.{metric.name}"
    assert metric.title
    assert metric.unit
    assert metric.aggregation
    assert metric.implementation
    assert metric.direction in ("higher", "lower")
    assert metric.inputs in ("text", "tokens")
    assert high is None or low < high
    assert metric.good_at is None or (low <= metric.good_at and (high is None or metric.good_at <= high))


def test_example_in_the_docstring_holds(metric: Metric) -> None:
    outcome = doctest.testmod(sys.modules[type(metric).__module__])
    assert outcome.attempted, "a metric's formula comes with an example"
    assert not outcome.failed


def test_identical_is_perfect(metric: Metric) -> None:
    best = metric.range[1] if metric.direction == "higher" else metric.range[0]
    assert check_bounds(metric, [sample(text, text) for text in ASSERTIONS]) == best


def test_worse_is_not_better(metric: Metric) -> None:
    good = check_bounds(metric, [sample(text, text) for text in ASSERTIONS])
    bad = check_bounds(metric, [sample(text, "b) (c", correct=1, nll=9.0) for text in ASSERTIONS])
    assert bad < good if metric.direction == "higher" else bad > good


@pytest.mark.parametrize("texts", DEGENERATE.values(), ids=DEGENERATE)
def test_degenerate_texts_have_a_value(metric: Metric, texts: tuple[str, str]) -> None:
    check_bounds(metric, [sample(*texts)])
    check_bounds(metric, [sample(*texts), sample("assertTrue(a);", "assertTrue(b);", correct=2, nll=1.0)])


def test_order_of_samples_does_not_matter(metric: Metric) -> None:
    samples = [sample("f(a);", "f(b);", nll=2.0), sample("g();", "g();"), sample("h(1, 2);", "", correct=0, nll=30.0)]
    assert check_bounds(metric, samples) == pytest.approx(check_bounds(metric, samples[::-1]))


def test_statistics_can_be_joined(metric: Metric) -> None:
    """Measuring in pieces, as a streamed evaluation does, gives the value of the whole."""
    samples = [sample("f(a);", "f(b);", nll=2.0), sample("g();", "g();"), sample("h(1);", "h(2)", correct=0, nll=3.0)]
    pieces = np.concatenate([metric.measure(samples[:1]), metric.measure(samples[1:])])
    assert metric.combine(pieces) == metric.score(samples).values


def test_no_sample_is_refused(metric: Metric) -> None:
    with pytest.raises(EmptyInputError, match="at least one sample"):
        metric.score([])


def test_token_metrics_need_tokens() -> None:
    for name in METRICS.names():
        metric = METRICS.get(name)()
        if metric.inputs == "tokens":
            with pytest.raises(EmptyInputError, match="label tokens"):
                metric.score([Sample("1", "", "a", "a")])
