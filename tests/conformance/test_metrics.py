"""What every metric must do, whoever wrote it: each file of kdeval/metrics is picked up by its name."""

import doctest
import math
import sys
from dataclasses import replace

import numpy as np
import pytest

from kdeval.interval import resamples
from kdeval.metrics import METRICS, TEACHER, Composite, Context, Floats, Measured, Metric
from kdeval.samples import LabelScores, Ranking, Sample, TokenScores
from kdstore.errors import CapabilityError, EmptyInputError

from ..encoders import sentence_encoder

ASSERTIONS = ["assertEquals(2, list.size());", "assertTrue(list.isEmpty());\nassertNull(x);"]
DEGENERATE = {
    "empty prediction": ("assertTrue(a);", ""),
    "empty reference": ("", "assertTrue(a);"),
    "both empty": ("", ""),
    "white space": (" \n\t", "\n"),
    "not Java": ("assertTrue(a);", '@A( \x00 "unterminated \\u \U0001f600 {{{((('),
}


def make(name: str) -> Metric:
    metric = METRICS.get(name).create(Context(embedding_model=sentence_encoder(), labels=("joy", "anger", "fear")))
    try:
        metric.prepare()
    except CapabilityError as error:
        pytest.skip(str(error))
    return metric


@pytest.fixture(params=METRICS.names())
def metric(request: pytest.FixtureRequest) -> Metric:
    return make(request.param)


@pytest.fixture(params=[name for name in METRICS.names() if issubclass(METRICS.get(name), Measured)])
def measured(request: pytest.FixtureRequest) -> Measured:
    found = make(request.param)
    assert isinstance(found, Measured)
    return found


def sample(reference: str, prediction: str, correct: int = 4, nll: float = 0.0, good: bool = True) -> Sample:
    tokens = TokenScores(
        nll=[nll / 4] * 4,
        confidence=[1.0] * 4,
        correct=[index < correct for index in range(4)],
        critical={"junit": [0, 2], "structure": [2]},
        teacher_kl=[nll] * 4,
        temperature=2.0,
        teacher_agrees=[index < correct for index in range(4)],
    )
    # Every label must be true somewhere and not everywhere, or no order of the samples would be a bad one.
    first = reference != ASSERTIONS[1]
    scores = {"joy": 0.9, "anger": 0.8, "fear": 0.1} if good == first else {"joy": 0.1, "anger": 0.2, "fear": 0.9}
    return Sample(
        "1", "p", reference, prediction, teacher_prediction=reference, tokens=tokens, teacher_tokens=tokens,
        labels=LabelScores(scores, ["joy", "anger"] if first else ["fear"]),
        # Precision@5 and recall@5 can both be 1 only where 5 are relevant.
        ranking=Ranking([6.0, 5.0, 4.0, 3.0, 2.0, 1.0], [1.0] * 5 + [0.0] if good else [0.0] + [1.0] * 5),
    )  # fmt: skip


def measure(metric: Measured, samples: list[Sample]) -> Floats:
    """Rows of classification and retrieval are no texts, and the other way round."""
    if metric.inputs not in ("labels", "ranking"):
        samples = [replace(one, labels=None, ranking=None) for one in samples]
    return metric.measure(samples)


def check_bounds(metric: Measured, samples: list[Sample]) -> float:
    stats_NK = measure(metric, samples)
    assert stats_NK.dtype == np.float64
    assert stats_NK.shape == (len(samples), len(metric.columns))
    assert np.isfinite(stats_NK).all()
    values = metric.combine(stats_NK, np.ones((1, len(samples))))
    each = metric.per_sample(stats_NK)
    assert list(values) == [metric.name, *metric.parts] == list(each)
    assert all(value_B.shape == (1,) for value_B in values.values())
    assert all(value_N.shape == (len(samples),) for value_N in each.values())
    low, high = metric.range
    for found in (*values.values(), *each.values()):
        numbers = found[~np.isnan(found)]
        assert (numbers >= low).all()
        assert high is None or (numbers <= high).all()
    assert math.isfinite(values[metric.name][0])
    return float(values[metric.name][0])


def test_record_is_complete(metric: Metric) -> None:
    low, high = metric.range
    assert isinstance(metric, METRICS.get(metric.name))
    assert METRICS.origin(metric.name) == f"kdeval.metrics.{metric.name}"
    assert metric.title
    assert metric.unit
    assert metric.aggregation
    assert metric.implementation
    assert metric.direction in ("higher", "lower", "one")
    assert (metric.inputs == "metrics") == isinstance(metric, Composite)
    assert high is None or low < high
    assert metric.good_at is None or (low <= metric.good_at and (high is None or metric.good_at <= high))


def test_names_of_parts_are_taken_once() -> None:
    names = [name for each in METRICS.names() for name in (each, *make(each).parts)]
    assert len(names) == len(set(names))
    assert not any(name.startswith(TEACHER) for name in names)


def test_example_in_the_docstring_holds(metric: Metric) -> None:
    outcome = doctest.testmod(sys.modules[type(metric).__module__])
    assert outcome.attempted, "a metric's formula comes with an example"
    assert not outcome.failed


def test_components_are_metrics(metric: Metric) -> None:
    if isinstance(metric, Composite):
        assert {name.removeprefix(TEACHER) for name in metric.components} <= {*METRICS.names()}


def best(metric: Metric) -> float | None:
    return {"higher": metric.range[1], "lower": metric.range[0], "one": 1.0}[metric.direction]


def test_identical_is_perfect(measured: Measured) -> None:
    assert check_bounds(measured, [sample(text, text) for text in ASSERTIONS]) == pytest.approx(best(measured))


def test_worse_is_not_better(measured: Measured) -> None:
    good = check_bounds(measured, [sample(text, text) for text in ASSERTIONS])
    bad = check_bounds(measured, [sample(text, "b) (c", correct=1, nll=9.0, good=False) for text in ASSERTIONS])
    if measured.direction == "one":
        assert abs(bad - 1) > abs(good - 1)
    else:
        assert bad < good if measured.direction == "higher" else bad > good


@pytest.mark.parametrize("texts", DEGENERATE.values(), ids=DEGENERATE)
def test_degenerate_texts_have_a_value(measured: Measured, texts: tuple[str, str]) -> None:
    check_bounds(measured, [sample(*texts)])
    check_bounds(measured, [sample(*texts), sample("assertTrue(a);", "assertTrue(b);", correct=2, nll=1.0)])


def mixed() -> list[Sample]:
    return [
        sample("f(a);", "f(b);", nll=2.0),
        sample("g();", "g();"),
        sample("assertTrue(h(1, 2));", "", correct=0, nll=30.0, good=False),
    ]


def one(metric: Measured, stats_NK: Floats) -> list[float]:
    return [float(value_B[0]) for value_B in metric.combine(stats_NK, np.ones((1, len(stats_NK)))).values()]


def test_order_of_samples_does_not_matter(measured: Measured) -> None:
    stats_NK = measure(measured, mixed())
    assert one(measured, stats_NK) == pytest.approx(one(measured, stats_NK[::-1]), nan_ok=True)


def test_statistics_can_be_joined(measured: Measured) -> None:
    """Measuring in pieces, as a streamed evaluation does, gives the value of the whole."""
    samples = mixed()
    pieces = np.concatenate([measure(measured, samples[:1]), measure(measured, samples[1:])])
    np.testing.assert_array_almost_equal(pieces, measure(measured, samples), decimal=6)


def test_weights_are_repetitions(measured: Measured) -> None:
    """A weight counts how often a sample is in the set; what bootstrap intervals stand on."""
    stats_NK = measure(measured, mixed())
    weights_BN = np.array([[2.0, 0.0, 3.0], [0.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    weighted = measured.combine(stats_NK, weights_BN)
    for row, weights_N in enumerate(weights_BN):
        repeated = one(measured, np.repeat(stats_NK, weights_N.astype(int), axis=0))
        assert [float(value_B[row]) for value_B in weighted.values()] == pytest.approx(repeated, nan_ok=True)


def test_per_sample_is_a_set_of_one(measured: Measured) -> None:
    stats_NK = measure(measured, mixed())
    each = measured.per_sample(stats_NK)
    for row in range(len(stats_NK)):
        alone = one(measured, stats_NK[row : row + 1])
        assert [float(value_N[row]) for value_N in each.values()] == pytest.approx(alone, nan_ok=True)


def test_no_sample_is_refused(measured: Measured) -> None:
    with pytest.raises(EmptyInputError, match="at least one sample"):
        measured.score([])


def test_without_its_inputs_a_value_is_undefined(measured: Measured) -> None:
    """A sample that lacks what a metric looks at counts for nothing."""
    if measured.inputs != "text":
        assert all(math.isnan(value) for value in measured.score([Sample("1", "", "a", "a")]).values())


def test_composites_are_in_range(metric: Metric) -> None:
    if not isinstance(metric, Composite):
        return
    low, high = metric.range
    for extreme in (0.0, 1.0):
        values = metric.of_values({name: np.full(2, extreme) for name in metric.components})
        assert list(values) == [metric.name, *metric.parts]
        for value_B in values.values():
            assert (value_B >= low).all()
            assert high is None or (value_B <= high).all()
    weights = next(resamples(2, 1, 0))
    assert weights.shape == (1, 2)
