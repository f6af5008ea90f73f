"""Metrics of the teacher-forced pass: other people's code on the logits of real models, and what holds for any pass.

Shape letters: N rows, T label tokens with padding, L label tokens of all rows, V vocabulary.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import rel_entr, softmax
from scipy.stats import entropy
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score
from torch import Tensor
from torchmetrics.classification import MulticlassCalibrationError
from transformers import T5ForConditionalGeneration

from kdeval.metrics import METRICS, Context, Floats, Measured
from kdeval.metrics.calibration import BINS, Calibration, reliability
from kdeval.samples import Sample, TokenScores
from kdstore.encode.tokenizer import Tokenizer
from kdtrain.critical_words import read_database
from kdtrain.tokens import CriticalTokens

from ..random_t5 import save_random_t5
from .conftest import make_tokenizer

CATEGORIES = tuple(read_database().categories)
TEMPERATURE = 2.0


@dataclass(frozen=True)
class Forced:
    """What two models say at the label tokens of ``samples``, each float64 [L, V] or [L]."""

    samples: list[Sample]
    student_LV: Floats
    teacher_LV: Floats
    labels_L: Floats


def trained(directory: Path, ids_NT: Tensor, labels_NT: Tensor, seed: int, steps: int) -> Tensor:
    """Logits [N, T, V] of a tiny T5 that has seen a few batches: right at some tokens, sure of itself at others."""
    path = save_random_t5(directory / str(seed), int(ids_NT.max()) + 1, seed, initializer_factor=1.0)
    model = T5ForConditionalGeneration.from_pretrained(path)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for step in range(steps):
        rows = torch.arange(20) + step % 5 * 20
        loss = model(input_ids=ids_NT[rows], attention_mask=(ids_NT[rows] > 0).long(), labels=labels_NT[rows]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.inference_mode():
        return model.eval()(input_ids=ids_NT, attention_mask=(ids_NT > 0).long(), labels=labels_NT).logits.double()


def critical_words(tokenizer: Tokenizer, labels_NT: Tensor) -> list[dict[str, list[int]]]:
    """Positions of the tokens of critical words in each row, by category."""
    critical = CriticalTokens(tokenizer)
    category_of = {word: name for name, each in critical.database.categories.items() for word in each.words}
    width = labels_NT.shape[1] + 1  # `find` numbers the tokens of rows that are one longer
    found: list[dict[str, set[int]]] = [{} for _ in labels_NT]
    token_C, word_C, _ = critical.find(labels_NT)
    for token, word in zip(token_C.tolist(), word_C.tolist(), strict=True):
        if word >= 0:
            found[token // width].setdefault(category_of[critical.words[word]], set()).add(token % width)
    return [{name: sorted(places) for name, places in row.items()} for row in found]


@pytest.fixture(scope="module")
def forced(tmp_path_factory: pytest.TempPathFactory) -> Forced:
    root = tmp_path_factory.mktemp("forced")
    lines = (Path(__file__).parent / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    pairs = [json.loads(line) for line in lines[:100]]
    backend = make_tokenizer([pair["reference"] for pair in pairs])
    backend.save_pretrained(root)
    ids_NT = backend([pair["prediction"] for pair in pairs], padding=True, return_tensors="pt").input_ids
    labels = backend([pair["reference"] for pair in pairs], padding=True, return_tensors="pt")
    labels_NT = labels.input_ids.masked_fill(labels.attention_mask == 0, -100)
    kept_NT = labels_NT >= 0
    student_NTV, teacher_NTV = (trained(root, ids_NT, labels_NT, *how) for how in ((0, 50), (1, 20)))
    critical = critical_words(Tokenizer(root), labels_NT)
    samples = [
        Sample(
            str(row), tokens=scores_of(student_NTV[row, kept], teacher_NTV[row, kept], labels_NT[row, kept], marks)
        )
        for row, (kept, marks) in enumerate(zip(kept_NT, critical, strict=True))
    ]
    return Forced(
        samples, student_NTV[kept_NT].numpy(), teacher_NTV[kept_NT].numpy(), labels_NT[kept_NT].numpy()
    )  # fmt: skip


def scores_of(student_LV: Tensor, teacher_LV: Tensor, labels_L: Tensor, words: dict[str, list[int]]) -> TokenScores:
    log_q_LV = student_LV.log_softmax(-1)
    log_soft_LV, log_p_LV = (logits.div(TEMPERATURE).log_softmax(-1) for logits in (student_LV, teacher_LV))
    best_L = student_LV.argmax(-1)
    return TokenScores(
        nll=(-log_q_LV.gather(-1, labels_L[:, None])[:, 0]).tolist(),
        confidence=log_q_LV.amax(-1).exp().tolist(),
        correct=(best_L == labels_L).tolist(),
        critical=words,
        teacher_kl=(log_p_LV.exp() * (log_p_LV - log_soft_LV)).sum(-1).tolist(),
        temperature=TEMPERATURE,
        teacher_agrees=(best_L == teacher_LV.argmax(-1)).tolist(),
    )


def make(name: str) -> Measured:
    found = METRICS.get(name).create(Context(temperature=TEMPERATURE))
    assert isinstance(found, Measured)
    return found


def value(name: str, samples: list[Sample]) -> float:
    return make(name).score(samples)[name]


def test_loss_and_perplexity_are_torchs(forced: Forced) -> None:
    logits, labels = torch.from_numpy(forced.student_LV), torch.from_numpy(forced.labels_L)
    expected = torch.nn.functional.cross_entropy(logits, labels).item()
    assert 0.5 < expected < 5, "the model has learned something, and not everything"
    assert value("loss", forced.samples) == pytest.approx(expected, rel=1e-12)
    assert value("perplexity", forced.samples) == pytest.approx(math.exp(expected), rel=1e-12)


def test_accuracy_is_sklearns(forced: Forced) -> None:
    expected = accuracy_score(forced.labels_L, forced.student_LV.argmax(1))
    assert 0.1 < expected < 0.9
    assert value("token_accuracy", forced.samples) == pytest.approx(expected, rel=1e-12)


def test_accuracy_of_critical_tokens_is_sklearns_by_category(forced: Forced) -> None:
    values = make("critical_token_accuracy").score(forced.samples)
    best_L, starts = forced.student_LV.argmax(1), np.cumsum([0, *(len(one.tokens) for one in forced.samples)])
    words = [one.tokens.critical for one in forced.samples]
    places = {
        category: [
            start + place for start, row in zip(starts[:-1], words, strict=True) for place in row.get(category, [])
        ]
        for category in CATEGORIES
    }
    assert sum(map(bool, places.values())) > 3
    for category, some in places.items():
        expected = accuracy_score(forced.labels_L[some], best_L[some]) if some else math.nan
        assert values[f"critical_{category}"] == pytest.approx(expected, rel=1e-12, nan_ok=True)
    every = np.unique(np.concatenate(list(places.values()))).astype(int)
    expected = accuracy_score(forced.labels_L[every], best_L[every])
    assert values["critical_token_accuracy"] == pytest.approx(expected, rel=1e-12)


def test_kl_is_scipys(forced: Forced) -> None:
    p_LV, q_LV = (softmax(logits / TEMPERATURE, axis=1) for logits in (forced.teacher_LV, forced.student_LV))
    expected = entropy(p_LV, q_LV, axis=1).mean()
    assert expected == pytest.approx(rel_entr(p_LV, q_LV).sum(1).mean())
    assert expected > 0.01
    assert value("kl", forced.samples) == pytest.approx(expected, rel=1e-9)


def test_agreement_is_sklearns(forced: Forced) -> None:
    expected = accuracy_score(forced.teacher_LV.argmax(1), forced.student_LV.argmax(1))
    assert 0.1 < expected < 0.9
    assert value("top1_agreement", forced.samples) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("rows", [slice(None), slice(1), slice(3, 20)])
def test_calibration_error_is_torchmetrics(forced: Forced, rows: slice) -> None:
    places = np.repeat(np.arange(len(forced.samples)), [len(sample.tokens) for sample in forced.samples])
    kept_L = np.isin(places, np.arange(len(forced.samples))[rows])
    probabilities_LV = torch.from_numpy(softmax(forced.student_LV[kept_L], axis=1))
    theirs = MulticlassCalibrationError(probabilities_LV.shape[1], n_bins=15, norm="l1")
    expected = theirs(probabilities_LV, torch.from_numpy(forced.labels_L[kept_L])).item()
    assert expected > 0.01
    # torchmetrics keeps what it has seen in single precision.
    assert value("calibration", forced.samples[rows]) == pytest.approx(expected, rel=1e-5)


def test_the_reliability_diagram_is_sklearns(forced: Forced) -> None:
    bins = reliability(Calibration().measure(forced.samples))
    tokens = [sample.tokens for sample in forced.samples]
    correct = [each for one in tokens for each in one.correct]
    confidence = [each for one in tokens for each in one.confidence]
    accuracy, mean = calibration_curve(correct, confidence, n_bins=BINS)
    filled = [one for one in bins if one.tokens]
    assert len(filled) > 5
    assert [one.accuracy for one in filled] == pytest.approx(accuracy)
    assert [one.confidence for one in filled] == pytest.approx(mean)
    assert sum(one.tokens for one in bins) == len(correct)
    assert [one.low for one in bins] == [one.high for one in [bins[0]._replace(high=0.0), *bins[:-1]]]
    gaps = sum(one.tokens * abs(one.accuracy - one.confidence) for one in filled)
    assert value("calibration", forced.samples) == pytest.approx(gaps / len(correct))


def passed(confidence: list[float], correct: list[bool], **critical: list[int]) -> Sample:
    return Sample("1", tokens=TokenScores([0.0] * len(correct), confidence, correct, critical))


def test_an_edge_belongs_to_the_bin_above_it_and_1_to_the_last() -> None:
    edges = [m / BINS for m in range(BINS + 1)]
    bins = reliability(Calibration().measure([passed(edges, [True] * len(edges))]))
    assert [one.tokens for one in bins] == [1.0] * (BINS - 1) + [2.0]
    assert all(one.low - 1e-6 < one.confidence < one.high for one in bins[:-1])
    # One bin, half of it right: |0.5 - (1 + 0.95) / 2|. In bins of their own the two would have 0.525.
    assert value("calibration", [passed([1.0, 0.95], [False, True])]) == pytest.approx(0.475)


def test_a_bin_without_tokens_has_no_accuracy() -> None:
    bins = reliability(Calibration().measure([passed([0.99], [True])]))
    assert all(math.isnan(one.accuracy) and math.isnan(one.confidence) for one in bins[:-1])
    assert (bins[-1].accuracy, bins[-1].confidence) == pytest.approx((1.0, 0.99))


def test_what_is_never_critical_has_no_value() -> None:
    metric = make("critical_token_accuracy")
    assert metric.parts == tuple(f"critical_{category}" for category in CATEGORIES)
    values = metric.score([passed([0.9], [True])])
    assert all(map(math.isnan, values.values()))


def test_tokens_outside_of_critical_words_do_not_count() -> None:
    values = make("critical_token_accuracy").score([passed([0.9] * 3, [False, True, False], domain=[1])])
    assert values.pop("critical_token_accuracy") == values.pop("critical_domain") == 1.0
    assert all(map(math.isnan, values.values()))


def test_a_token_of_two_categories_counts_once_in_the_whole() -> None:
    values = make("critical_token_accuracy").score([passed([0.9] * 2, [True, False], junit=[0], structure=[0, 1])])
    names = ("critical_token_accuracy", "critical_junit", "critical_structure")
    assert [values[name] for name in names] == [0.5, 1.0, 0.5]


@pytest.mark.parametrize("name", ["kl", "top1_agreement"])
def test_samples_without_a_signal_count_for_nothing(forced: Forced, name: str) -> None:
    some = forced.samples[:5]
    silent = [
        replace(one, tokens=replace(one.tokens, teacher_kl=None, teacher_agrees=None, temperature=None))
        for one in some
    ]
    assert value(name, [*some, *silent, Sample("none")]) == value(name, some)
    assert math.isnan(value(name, silent))


def test_kl_says_at_which_temperature_it_is() -> None:
    assert METRICS.get("kl").create(Context(temperature=1.5)).title == "KL from the teacher at T = 1.5"
    assert METRICS.get("kl").create(Context()).title == "KL from the teacher at T = 2"
    assert METRICS.get("kl").title == "KL from the teacher"


def test_perplexity_of_an_absurd_loss_is_finite() -> None:
    assert math.isfinite(value("perplexity", [Sample("1", tokens=TokenScores([1e6], [1.0], [False], {}))]))


@st.composite
def passes(draw: Callable[..., int]) -> TokenScores:
    size = draw(st.integers(0, 6))

    def some(each: st.SearchStrategy[object]) -> list[object]:
        return draw(st.lists(each, min_size=size, max_size=size))

    nats, shares, truth = st.floats(0, 50), st.floats(0, 1), st.booleans()
    places = st.sets(st.integers(0, size - 1)).map(sorted) if size else st.just([])
    critical = draw(st.dictionaries(st.sampled_from(CATEGORIES), places))
    return TokenScores(some(nats), some(shares), some(truth), critical, some(nats), some(truth), 2.0)


def joined(rows: list[TokenScores]) -> TokenScores:
    """All tokens as those of one row."""
    lists = {name: [each for row in rows for each in getattr(row, name)] for name in LISTS}
    critical: dict[str, list[int]] = {}
    for start, row in zip(np.cumsum([0, *map(len, rows)]).tolist(), rows, strict=False):
        for category, places in row.critical.items():
            critical.setdefault(category, []).extend(start + place for place in places)
    return TokenScores(**lists, critical=critical, temperature=2.0)


LISTS = ["nll", "confidence", "correct", "teacher_kl", "teacher_agrees"]
NAMES = ["loss", "perplexity", "token_accuracy", "critical_token_accuracy", "kl", "top1_agreement", "calibration"]


@pytest.mark.parametrize("name", NAMES)
@given(rows=st.lists(passes(), min_size=1, max_size=5))
def test_values_are_in_range_and_do_not_see_where_samples_end(name: str, rows: list[TokenScores]) -> None:
    metric = make(name)
    values = metric.score([Sample("1", tokens=tokens) for tokens in rows])
    whole = joined(rows)
    assert values == pytest.approx(metric.score([Sample("1", tokens=whole)]), nan_ok=True)
    low, high = metric.range
    assert all(low <= number <= (high or math.inf) for number in values.values() if not math.isnan(number))
    counted = [place for places in whole.critical.values() for place in places] if "critical" in name else whole.nll
    assert math.isnan(values[name]) == (not counted)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30))
def test_bins_find_no_less_than_the_means_differ(tokens: list[tuple[float, bool]]) -> None:
    """The triangle inequality: one bin for all would be the least strict."""
    confidence, correct = map(list, zip(*tokens, strict=True))
    found = value("calibration", [passed(confidence, correct)])
    assert found >= abs(np.mean(confidence) - np.mean(correct)) - 1e-6  # digits of a confidence that count
