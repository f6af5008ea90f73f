"""The metrics of retrieval against scikit-learn on real rankings, against all orders of ties, and by hand."""

import gzip
import json
import math
from collections.abc import Callable, Sequence
from functools import cache
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import (
    label_ranking_average_precision_score,
    ndcg_score,
    precision_score,
    recall_score,
    top_k_accuracy_score,
)
from sklearn.metrics.pairwise import cosine_similarity

from kdeval.interval import bootstrap, interval
from kdeval.metrics import METRICS, Context, Measured
from kdeval.samples import Ranking, Sample
from kdstore.errors import InputError

SICK = Path(__file__).parents[3] / "shared" / "data" / "trees" / "sick_dep_pairs.jsonl.gz"
NAMES = ["precision_at_k", "recall_at_k", "mrr", "ndcg"]
Matrices = tuple[NDArray[np.float64], NDArray[np.float64]]


def metric(name: str) -> Measured:
    found = METRICS.get(name).create(Context())
    assert isinstance(found, Measured)
    return found


def query(scores: Sequence[float], relevance: Sequence[float], name: str = "1") -> Sample:
    return Sample(name, ranking=Ranking([*scores], [*relevance]))


def queries(scores: NDArray[np.float64], relevance: NDArray[np.float64]) -> list[Sample]:
    return [query(*lists) for lists in zip(scores.tolist(), relevance.tolist(), strict=True)]


def values(*samples: Sample) -> dict[str, float]:
    return {key: value for name in NAMES for key, value in metric(name).score(samples).items()}


@cache
def digits() -> Matrices:
    """250 pictures of digits look for the same digit among 60 others, by cosine; there are no ties."""
    pictures, classes = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    scores, relevance = [], []
    for index in range(250):
        others = rng.choice(np.arange(250, len(pictures)), 60, replace=False)
        scores.append(cosine_similarity(pictures[index : index + 1], pictures[others])[0])
        relevance.append((classes[others] == classes[index]).astype(float))
    return np.array(scores), np.array(relevance)


@cache
def sentences() -> Matrices:
    """Sentences of SICK look for related ones (graded 1 to 5 by people), by words in common; most share none."""
    if not SICK.exists():
        pytest.skip("needs ../shared/data/trees")
    with gzip.open(SICK, "rt", encoding="utf-8") as file:
        pairs = [json.loads(line) for line, _ in zip(file, range(400), strict=False)]
    texts = [(" ".join(pair["a"]["toks"]), " ".join(pair["b"]["toks"])) for pair in pairs]
    rows, columns = sorted({a for a, _ in texts}), sorted({b for _, b in texts})
    relevance = np.zeros((len(rows), len(columns)))
    for (a, b), pair in zip(texts, pairs, strict=True):
        relevance[rows.index(a), columns.index(b)] = pair["relatedness"] - 1
    words = TfidfVectorizer(stop_words="english").fit(columns)
    scores = cosine_similarity(words.transform(rows), words.transform(columns))
    return scores, relevance


@pytest.fixture(params=[digits, sentences], ids=["digits", "sentences"])
def matrices(request: pytest.FixtureRequest) -> Matrices:
    make: Callable[[], Matrices] = request.param
    return make()


def test_ndcg_is_scikit_learns(matrices: Matrices) -> None:
    scores, relevance = matrices
    assert len(scores) >= 200
    found = values(*queries(scores, relevance))
    assert found["ndcg"] == pytest.approx(ndcg_score(relevance, scores), rel=1e-12)
    assert found["ndcg_at_10"] == pytest.approx(ndcg_score(relevance, scores, k=10), rel=1e-12)
    assert found["ndcg_at_10"] < found["ndcg"] < 1


def untied(matrices: Matrices) -> Matrices:
    """The same candidates in one order: scikit-learn's other scores have other rules for ties."""
    scores, relevance = matrices
    order = np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1)
    return 1.0 / (1 + order), relevance


def test_precision_and_recall_are_scikit_learns(matrices: Matrices) -> None:
    """The first k as the predicted labels of a query."""
    scores, relevance = untied(matrices)
    found = values(*queries(scores, relevance))
    for k, precision, recall in (
        (1, "precision_at_1", "recall_at_1"),
        (5, "precision_at_k", "recall_at_k"),
        (10, "precision_at_10", "recall_at_10"),
    ):
        first = scores >= np.sort(scores, axis=1)[:, [-k]]
        settings = {"average": "samples", "zero_division": 0}
        assert found[precision] == pytest.approx(precision_score(relevance > 0, first, **settings), rel=1e-12)
        assert found[recall] == pytest.approx(recall_score(relevance > 0, first, **settings), rel=1e-12)


def test_mrr_is_scikit_learns(matrices: Matrices) -> None:
    """Label ranking average precision is 1 / rank where one label is true: the best placed of the relevant."""
    scores, relevance = untied(matrices)
    found = metric("mrr").score(queries(scores, relevance))["mrr"]
    place = np.where(relevance > 0, scores, -1).argmax(axis=1)
    one = np.zeros(relevance.shape, int)
    one[np.arange(len(one)), place] = (relevance > 0).any(axis=1)
    found_any = one.any(axis=1)
    expected = label_ranking_average_precision_score(one[found_any], scores[found_any]) * found_any.mean()
    assert found == pytest.approx(expected, rel=1e-12)


def test_recall_of_one_relevant_is_top_k_accuracy() -> None:
    scores, relevance = digits()
    truth = relevance.argmax(axis=1)
    found = metric("recall_at_k").score(queries(scores, np.eye(scores.shape[1])[truth]))
    for key, k in (("recall_at_1", 1), ("recall_at_k", 5), ("recall_at_10", 10)):
        classes = np.arange(scores.shape[1])
        assert found[key] == pytest.approx(top_k_accuracy_score(truth, scores, k=k, labels=classes), rel=1e-12)


CANDIDATES = st.lists(
    st.tuples(st.sampled_from([0.1, 0.2, 0.5]), st.sampled_from([0.0, 0.0, 1.0, 2.5])), min_size=1, max_size=5
)


@settings(deadline=None)
@given(CANDIDATES)
def test_a_tie_is_the_mean_over_its_orders(candidates: list[tuple[float, float]]) -> None:
    """Every order of the candidates that the scores allow is ranked with distinct scores, which leaves no tie."""
    orders = [order for order in permutations(candidates) if [s for s, _ in order] == sorted(s for s, _ in order)]
    ranked = [values(query(range(len(order)), [relevance for _, relevance in order])) for order in orders]
    expected = {name: np.mean([each[name] for each in ranked]) for name in ranked[0]}
    assert values(query(*zip(*candidates, strict=True))) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@settings(deadline=None)
@given(CANDIDATES)
def test_the_order_of_candidates_does_not_matter(candidates: list[tuple[float, float]]) -> None:
    there, back = (values(query(*zip(*order, strict=True))) for order in (candidates, candidates[::-1]))
    assert there == pytest.approx(back, rel=1e-12)


def test_by_hand() -> None:
    # Best first: 0 2 0 1. DCG = 2 / log2(3) + 1 / log2(5), at best 2 / log2(2) + 1 / log2(3).
    found = values(query([0.1, 0.9, 0.5, 0.3], [1, 0, 2, 0]))
    share = (2 / math.log2(3) + 1 / math.log2(5)) / (2 + 1 / math.log2(3))
    assert found == pytest.approx(
        {
            "precision_at_k": 2 / 5, "precision_at_1": 0.0, "precision_at_10": 2 / 10,
            "recall_at_k": 1.0, "recall_at_1": 0.0, "recall_at_10": 1.0,
            "mrr": 1 / 2,
            "ndcg": share, "ndcg_at_10": share,
        }
    )  # fmt: skip


@pytest.mark.parametrize("lists", [([], []), ([0.5], [0]), ([0.5, 0.1], [0, 0])], ids=["empty", "one", "two"])
def test_a_query_without_a_relevant_candidate_counts_as_zero(lists: tuple[list[float], list[float]]) -> None:
    assert set(values(query(*lists)).values()) == {0.0}
    perfect = query([9, 8, 7, 6, 5, 4, 3, 2, 1, 0], [1] * 10)
    both, alone = values(query(*lists), perfect), values(perfect)
    assert both == pytest.approx({name: value / 2 for name, value in alone.items()})


def test_samples_without_a_ranking_count_for_nothing() -> None:
    one = query([0.1, 0.9, 0.5, 0.3], [1, 0, 2, 0])
    assert values(Sample("2", "", "a", "a"), one, Sample("3")) == values(one)


@pytest.mark.parametrize("name", NAMES)
def test_the_interval_holds_the_value(name: str) -> None:
    samples = queries(*digits())
    stats_NK = metric(name).measure(samples)
    drawn = bootstrap(lambda weights_BN: metric(name).combine(stats_NK, weights_BN), len(samples), draws=200)
    bounds = interval(drawn[name])
    assert bounds is not None
    assert bounds.low < metric(name).score(samples)[name] < bounds.high


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (query([0.5, 0.1], [1], "q7"), "2 scores and 1 relevances in the row 'q7'"),
        (query([0.5, math.nan], [1, 0], "q7"), "finite numbers. Got nan in the row 'q7'"),
        (query([0.5, -math.inf], [1, 0], "q7"), "finite numbers. Got -inf in the row 'q7'"),
        (query([0.5, 0.1], [1, -1], "q7"), "from 0. Got -1.0 in the row 'q7'"),
        (query([0.5, 0.1], [1, math.inf], "q7"), "from 0. Got inf in the row 'q7'"),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_a_broken_ranking_is_refused(name: str, sample: Sample, words: str) -> None:
    with pytest.raises(InputError, match=words):
        metric(name).score([sample])
