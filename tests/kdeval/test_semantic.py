"""Semantic similarity with a real sentence-transformer."""

import json
import math
import random
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from sklearn.metrics.pairwise import cosine_similarity
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from kdeval.metrics import Context
from kdeval.metrics.semantic_similarity import SemanticSimilarity, similarities
from kdeval.samples import Sample
from kdstore.encode.embed import SentenceEncoder
from kdstore.errors import ModelError

from ..encoders import sentence_encoder

Pairs = list[tuple[str, str]]


@pytest.fixture(scope="module")
def metric() -> SemanticSimilarity:
    return SemanticSimilarity.create(Context(embedding_model=sentence_encoder()))


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    """Predictions and references."""
    lines = (Path(__file__).parent / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    return [(pair["prediction"], pair["reference"]) for pair in map(json.loads, lines[:60])]


def measured(metric: SemanticSimilarity, pairs: Pairs) -> list[float]:
    samples = [Sample("1", reference=reference, prediction=prediction) for prediction, reference in pairs]
    return metric.per_sample(metric.measure(samples))["semantic_similarity"].tolist()


def test_it_is_the_cosine_of_scikit_learn(metric: SemanticSimilarity, pairs: Pairs) -> None:
    model = SentenceTransformer(sentence_encoder(), device="cpu")
    first_ND, second_ND = (model.encode(list(side), show_progress_bar=False) for side in zip(*pairs, strict=True))
    expected = np.diag(cosine_similarity(first_ND, second_ND))
    assert expected.min() < 0.4 < expected.max()
    np.testing.assert_allclose(measured(metric, pairs), expected, atol=1e-6)


def test_company_does_not_matter(metric: SemanticSimilarity, pairs: Pairs) -> None:
    """Neither the order of samples nor how many are measured together."""
    some = pairs[:15]
    order = random.Random(0).sample(range(len(some)), len(some))
    shuffled = measured(metric, [some[place] for place in order])
    alone = [value for place in order for value in measured(metric, [some[place]])]
    assert shuffled == pytest.approx(alone, abs=1e-6)


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        ("", "", 1.0),
        (" \n", "\t", 1.0),
        ("", "f();", 0.0),
        ("f();", " ", 0.0),
        ("assertTrue(a);", "assertTrue(a);", 1.0),
        (" assertTrue(a);\n", "assertTrue(a);", 1.0),
    ],
)
def test_what_needs_no_embedding_is_exact(
    metric: SemanticSimilarity, prediction: str, reference: str, expected: float
) -> None:
    assert measured(metric, [(prediction, reference)]) == [expected]
    assert measured(metric, [("f(a);", "g(b);"), (prediction, reference)])[1] == expected


def test_opposite_directions_give_minus_1() -> None:
    vectors = {"up": [0.3, 0.1], "down": [-3.0, -1.0], "across": [1.0, -3.0]}
    found_N = similarities(
        [("up", "down"), ("up", "across")], lambda texts: np.array([vectors[text] for text in texts], np.float32)
    )
    assert found_N == pytest.approx([-1.0, 0.0], abs=1e-6)
    assert found_N.min() >= -1


def test_near_is_nearer_than_far(metric: SemanticSimilarity) -> None:
    near, far = measured(
        metric, [("assertEquals(3, list.size());", "assertEquals(4, list.size());"), ("return;", "assertNull(user);")]
    )
    assert near > metric.good_at > far


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_has_a_value_the_same_both_ways(first: str, second: str) -> None:
    metric = SemanticSimilarity.create(Context(embedding_model=sentence_encoder()))
    there, back = measured(metric, [(first, second), (second, first)])
    assert -1 <= there <= 1
    assert there == pytest.approx(back, abs=1e-6)


def test_a_text_is_read_once() -> None:
    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        read.extend(texts)
        return encoder.embed(texts)

    read: list[str] = []
    encoder = SentenceEncoder("x", sentence_encoder(), torch.device("cpu"))
    pairs = [("a();", "b();"), ("b();", "a();"), ("a();", "c();"), ("d();", "d();"), ("", "e();")]
    found_N = similarities(pairs, embed)
    assert read == ["a();", "b();", "c();"]
    assert found_N[:2].tolist() == [found_N[0]] * 2
    assert found_N[3:].tolist() == [1.0, 0.0]


def test_the_record_names_model_weights_and_library(metric: SemanticSimilarity) -> None:
    library, model, fingerprint = metric.implementation.rsplit(maxsplit=2)
    assert library == f"sentence-transformers {version('sentence-transformers')},"
    assert model == Path(sentence_encoder()).name
    encoder = SentenceEncoder("x", sentence_encoder(), torch.device("cpu"))
    assert encoder.fingerprint.startswith(fingerprint)
    assert len(fingerprint) == 12


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "modules.json").write_text("{")
    for directory in (tmp_path / "nowhere", tmp_path, broken):
        metric = SemanticSimilarity.create(Context(embedding_model=str(directory)))
        with pytest.raises(ModelError, match="--embedding-model") as caught:
            metric.prepare()
        assert str(directory) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [0.0, math.nan, math.inf])
def test_embeddings_without_a_direction_have_no_cosine(number: float) -> None:
    found_N = similarities([("a();", "b();")], lambda texts: np.full((len(texts), 2), number, np.float32))
    assert np.isnan(found_N).all()


def test_a_model_that_gives_no_direction_is_refused(tmp_path: Path) -> None:
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "[PAD]": 1}, unk_token="[UNK]"))
    SentenceTransformer(
        modules=[StaticEmbedding(tokenizer, embedding_weights=np.zeros((2, 4), np.float32))], device="cpu"
    ).save(str(tmp_path))
    metric = SemanticSimilarity.create(Context(embedding_model=str(tmp_path)))
    with pytest.raises(ModelError, match="--embedding-model"):
        metric.measure([Sample("1", reference="a();", prediction="b();")])
