"""Each metric against values computed by hand, and properties that hold for any text."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu import BLEU

from kdeval.metrics import METRICS, Sample
from kdeval.metrics._text import java_tokens, lines, overlap_f1

JAVA_LIKE = st.text(alphabet="ab1 .,;(){}[]<>=+-\"'\\u@\n/*", max_size=40) | st.text(max_size=30)


def value(name: str, *pairs: tuple[str, str]) -> dict[str, float]:
    return (
        METRICS.get(name)().score([Sample("1", "", reference, prediction) for reference, prediction in pairs]).values
    )


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("assertEquals(1, a.b());", ["assertEquals", "(", "1", ",", "a", ".", "b", "(", ")", ")", ";"]),
        ('f("a b\\"c", \'x\')', ["f", "(", '"a b\\"c"', ",", "'x'", ")"]),
        ("x>>>=1.5e-3f+0xFFL", ["x", ">>>=", "1.5e-3f", "+", "0xFFL"]),
        ("() -> A::b", ["(", ")", "->", "A", "::", "b"]),
        ('"open', ['"', "open"]),
        ("größe_1$ .5", ["größe_1$", ".5"]),
        (" \n", []),
    ],
)
def test_java_tokens(text: str, tokens: list[str]) -> None:
    assert java_tokens(text) == tokens


@given(JAVA_LIKE)
def test_java_tokens_lose_nothing_but_space(text: str) -> None:
    # White space inside literals stays, so both sides are compared without any.
    assert "".join("".join(java_tokens(text)).split()) == "".join(text.split())


def test_lines() -> None:
    assert lines("  a( 1 );\n\n a( 1 );\r\nb();") == {"a( 1 );", "b();"}


def test_overlap_f1_counts_repeats() -> None:
    # Shared: one a (of 2 and 1), one b. Precision 2/3, recall 2/2.
    assert overlap_f1("aab", "ab") == (pytest.approx(0.8), pytest.approx(2 / 3), 1.0)


def test_exact_match_is_a_mean() -> None:
    assert value("exact_match", ("f( a );", " f( a );\n"), ("f(a);", "f( a );")) == {"exact_match": 0.5}


def test_f1_is_the_mean_of_f1() -> None:
    # First pair: 4 of 5 tokens shared, P = R = 0.8. Second: nothing shared.
    assert value("f1", ("f(a);", "f(b);"), ("x", "y")) == pytest.approx({"f1": 0.4, "precision": 0.4, "recall": 0.4})


def test_line_f1() -> None:
    got = value("line_f1", ("a();\nb();\nc();", "c();\nx();"))
    assert got == pytest.approx({"line_f1": 0.4, "line_precision": 0.5, "line_recall": 1 / 3})


@pytest.mark.parametrize("name", ["exact_match", "f1", "line_f1", "bleu"])
def test_empty_texts(name: str) -> None:
    metric = METRICS.get(name)
    assert value(name, ("", ""))[name] == metric.range[1]
    assert value(name, ("a();", ""))[name] == value(name, ("", "a();"))[name] == 0.0


def test_bleu_by_hand() -> None:
    # 6 tokens "f ( a , b )" against "f ( a , c )": n-grams matched 5/6, 3/5, 2/4, 1/3.
    expected = 100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25
    assert value("bleu", ("f(a, c)", "f(a, b)"))["bleu"] == pytest.approx(expected)


def test_bleu_agrees_with_sacrebleu_over_a_corpus() -> None:
    pairs = [("assertTrue(a.b());", "assertTrue(a.c());"), ("assertNull(x);", "assertNull(x, y);"), ("f();", "")]
    texts = [[" ".join(java_tokens(text)) for text in side] for side in zip(*pairs, strict=True)]
    expected = BLEU(tokenize="none", force=True).corpus_score(texts[1], [texts[0]]).score
    assert value("bleu", *pairs)["bleu"] == pytest.approx(expected)
    assert "tok:none" in METRICS.get("bleu")().implementation


def test_token_metrics() -> None:
    samples = [
        Sample("1", "", "", "", token_count=4, token_correct=3, nll_sum=2.0),
        Sample("2", "", "", "", token_count=1, token_correct=0, nll_sum=3.0),
        Sample("3", "", "", ""),
    ]
    accuracy = METRICS.get("token_accuracy")().score(samples)
    assert (accuracy.values, accuracy.per_sample) == ({"token_accuracy": 0.6}, [0.75, 0.0, None])
    loss = METRICS.get("loss")().score(samples)
    assert (loss.values, loss.per_sample) == ({"loss": 1.0}, [0.5, 3.0, None])
    perplexity = METRICS.get("perplexity")().score(samples)
    assert perplexity.values == {"perplexity": pytest.approx(math.e)}
    assert perplexity.per_sample == [pytest.approx(math.exp(0.5)), pytest.approx(math.exp(3.0)), None]


def test_perplexity_of_an_absurd_loss_is_finite() -> None:
    samples = [Sample("1", "", "", "", token_count=1, nll_sum=1e6)]
    assert math.isfinite(METRICS.get("perplexity")().score(samples).values["perplexity"])


@settings(max_examples=100)
@given(st.lists(st.tuples(JAVA_LIKE, JAVA_LIKE), min_size=1, max_size=4))
def test_text_metrics_stay_in_their_range(pairs: list[tuple[str, str]]) -> None:
    for name in ("exact_match", "f1", "line_f1", "bleu"):  # ast_validity: see tests/kdstore/test_java.py
        low, high = METRICS.get(name).range
        assert all(low <= number <= (high or math.inf) for number in value(name, *pairs).values())


@given(st.lists(JAVA_LIKE, min_size=1, max_size=4))
def test_identical_texts_are_perfect(texts: list[str]) -> None:
    for name in ("exact_match", "f1", "line_f1", "bleu"):
        assert value(name, *((text, text) for text in texts))[name] == METRICS.get(name).range[1]
