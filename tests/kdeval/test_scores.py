"""Scores that are made of other metrics: the published weights, what is clipped, and what is undefined."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.text import rouge_score

from kdeval.metrics import METRICS, TEACHER, Composite, Context, Measured, Values
from kdeval.samples import Sample, TokenScores
from kdeval.tally import Tally, values_of
from kdeval.text import java_tokens

from ..encoders import sentence_encoder

WEIGHTS = {
    "code_quality": {
        "codebleu": 0.30,
        "ast_validity": 0.20,
        "pans": 0.20,
        "f1": 0.15,
        "semantic_similarity": 0.10,
        "token_accuracy": 0.05,
    },
    "code_quality_semantic": {
        "semantic_similarity": 0.30,
        "codebleu": 0.30,
        "ast_validity": 0.20,
        "token_accuracy": 0.20,
    },
}
SHARES = st.floats(0, 1)


def composed(name: str, **values: float) -> dict[str, float]:
    metric = METRICS.get(name)()
    assert isinstance(metric, Composite)
    return {key: float(value_1[0]) for key, value_1 in metric.of_values(arrays(values)).items()}


def arrays(values: dict[str, float]) -> Values:
    return {name: np.array([value]) for name, value in values.items()}


def retention(agreement: float, student: float, teacher: float) -> dict[str, float]:
    values = {"output_agreement": agreement, "code_quality": student, f"{TEACHER}code_quality": teacher}
    return composed("knowledge_retention", **values)


@pytest.mark.parametrize("name", WEIGHTS)
@given(data=st.data())
def test_the_weights_are_the_published_ones(name: str, data: st.DataObject) -> None:
    values = {key: data.draw(st.floats(-1, 1) if key == "semantic_similarity" else SHARES) for key in WEIGHTS[name]}
    expected = sum(weight * max(0.0, values[key]) for key, weight in WEIGHTS[name].items())
    assert composed(name, **values) == {name: pytest.approx(expected, abs=1e-12)}


@pytest.mark.parametrize("name", WEIGHTS)
@given(data=st.data())
def test_a_score_stays_between_0_and_1(name: str, data: st.DataObject) -> None:
    assert 0 <= composed(name, **{key: data.draw(st.floats(-1, 1)) for key in WEIGHTS[name]})[name] <= 1


@pytest.mark.parametrize("name", WEIGHTS)
def test_perfect_components_give_exactly_1(name: str) -> None:
    assert METRICS.get(name).components == tuple(WEIGHTS[name])
    assert composed(name, **dict.fromkeys(WEIGHTS[name], 1.0)) == {name: 1.0}


@pytest.mark.parametrize(("name", "missing"), [(name, key) for name in WEIGHTS for key in WEIGHTS[name]])
def test_a_score_without_a_component_is_undefined(name: str, missing: str) -> None:
    values = dict.fromkeys(WEIGHTS[name], 1.0) | {missing: math.nan}
    assert math.isnan(composed(name, **values)[name])


def test_scores_of_several_sets_are_computed_at_once() -> None:
    values = {key: np.array([0.0, 0.5, math.nan, 1.0]) for key in WEIGHTS["code_quality"]}
    np.testing.assert_allclose(METRICS.get("code_quality")().of_values(values)["code_quality"], [0, 0.5, math.nan, 1])


def test_scores_of_real_metrics() -> None:
    """A student that writes what its teacher writes has kept all; its quality is the mean of what was found."""
    context = Context(embedding_model=sentence_encoder())
    names = (*WEIGHTS["code_quality"], *WEIGHTS, "output_agreement", "knowledge_retention")
    ours, theirs = ([METRICS.get(name).create(context) for name in some] for some in (names, names[:-2]))
    tokens = TokenScores([0.1, 2.0], [0.9, 0.4], [True, False], {})
    texts = [("assertEquals(2, a.size());", "assertEquals(3, b.size());"), ("assertNull(x);", "assertTrue(y.z());")]
    samples = [
        Sample("1", "", reference, given, teacher_prediction=given, tokens=tokens) for reference, given in texts
    ]
    student, teacher = Tally(ours), Tally(theirs)
    each = student.add(samples, teacher.add(samples))
    both = np.ones((1, 2))
    values = values_of(ours, student.statistics(), both, values_of(theirs, teacher.statistics(), both))
    assert values["knowledge_retention"].tolist() == values["performance_ratio"].tolist() == [1.0]
    assert each["knowledge_retention"].tolist() == [1.0, 1.0]
    for name, weights in WEIGHTS.items():
        assert 0.1 < values[name][0] < 0.9
        assert values[name][0] == pytest.approx(sum(weight * values[key][0] for key, weight in weights.items()))


@pytest.mark.parametrize(
    ("student", "teacher", "ratio"),
    [(0.3, 0.4, 0.75), (0.4, 0.4, 1.0), (0.9, 0.4, 1.0), (0.0, 0.4, 0.0), (0.0, 0.0, 1.0), (0.5, 0.0, 1.0)],
)
def test_retention_by_hand(student: float, teacher: float, ratio: float) -> None:
    expected = {"knowledge_retention": 0.6 * 0.25 + 0.4 * ratio, "performance_ratio": ratio}
    assert retention(0.25, student, teacher) == pytest.approx(expected)


@given(SHARES, SHARES, SHARES)
def test_retention_is_in_range_and_does_not_fall_with_quality(
    agreement: float, student: float, teacher: float
) -> None:
    values = retention(agreement, student, teacher)
    assert all(0 <= value <= 1 for value in values.values())
    better = retention(agreement, (1 + student) / 2, teacher)
    assert better["knowledge_retention"] >= values["knowledge_retention"]
    assert retention(1.0, teacher, teacher)["knowledge_retention"] == 1.0


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("others", [0.0, 1.0])
def test_retention_is_undefined_where_a_component_is(place: int, others: float) -> None:
    values = [others] * 3
    values[place] = math.nan
    assert math.isnan(retention(*values)["knowledge_retention"])


def test_agreement_with_the_teacher_is_rouge_1() -> None:
    """Bags of tokens: F1 of unigrams, as torchmetrics counts them."""
    lines = (Path(__file__).parent / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    pairs = [(pair["prediction"], pair["reference"]) for pair in map(json.loads, lines)]
    metric = METRICS.get("output_agreement")()
    assert isinstance(metric, Measured)
    samples = [Sample("1", prediction=student, teacher_prediction=teacher) for student, teacher in pairs]
    theirs = [
        rouge_score(student, teacher, rouge_keys="rouge1", tokenizer=java_tokens, normalizer=str)
        for student, teacher in pairs
    ]
    expected = [score["rouge1_fmeasure"].item() for score in theirs]
    assert 0.1 < np.mean(expected) < 0.9
    np.testing.assert_allclose(metric.per_sample(metric.measure(samples))["output_agreement"], expected, rtol=1e-6)
    assert metric.score(samples)["output_agreement"] == pytest.approx(np.mean(expected))


@pytest.mark.parametrize(
    ("student", "teacher", "expected"), [("", "", 1.0), ("f();", "", 0.0), ("", "f();", 0.0), ("f ( );", "f();", 1.0)]
)
def test_agreement_of_empty_outputs(student: str, teacher: str, expected: float) -> None:
    sample = Sample("1", reference="g();", prediction=student, teacher_prediction=teacher)
    assert agreement([sample]) == expected


def test_samples_without_a_teacher_count_for_nothing() -> None:
    one = Sample("1", prediction="f(a)", teacher_prediction="f(b)")
    assert agreement([one, Sample("2", prediction="f(a)"), Sample("3")]) == agreement([one]) == 0.75
    assert math.isnan(agreement([Sample("2", reference="f(a)", prediction="f(a)")]))


def agreement(samples: list[Sample]) -> float:
    metric = METRICS.get("output_agreement")()
    assert isinstance(metric, Measured)
    return metric.score(samples)["output_agreement"]
