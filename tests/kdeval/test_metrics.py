"""Each metric against values computed by hand, and properties that hold for any text."""

import json
import math
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu import corpus_bleu

from kdeval.metrics import METRICS
from kdeval.samples import Sample
from kdeval.text import java_tokens, lines, overlap_f1

PAIRS = [json.loads(line) for line in (Path(__file__).parent / "pairs.jsonl").read_text("utf-8").splitlines()]
JAVA_LIKE = st.text(alphabet="ab1 .,;(){}[]<>=+-\"'\\u@\n/*", max_size=40) | st.text(max_size=30)


def value(name: str, *pairs: tuple[str, str]) -> dict[str, float]:
    return METRICS.get(name)().score([Sample("1", "", reference, prediction) for reference, prediction in pairs])


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("assertEquals(1, a.b());", ["assertEquals", "(", "1", ",", "a", ".", "b", "(", ")", ")", ";"]),
        ('f("a b\\"c", \'x\')', ["f", "(", '"a b\\"c"', ",", "'x'", ")"]),
        ("x>>>=1.5e-3f+0xFFL", ["x", ">>>=", "1.5e-3f", "+", "0xFFL"]),
        ("() -> A::b", ["(", ")", "->", "A", "::", "b"]),
        ('"open', ['"', "open"]),
        ("größe_1$ .5", ["größe_1$", ".5"]),
        ('f("""\n  a "b" \\""" // c\n""", 1)', ["f", "(", '"""\n  a "b" \\""" // c\n"""', ",", "1", ")"]),
        ('"""\nf(1', ['""', '"', "f", "(", "1"]),
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


REAL = [(pair["reference"], pair["prediction"]) for pair in PAIRS]
SOME = [("assertTrue(a.b());", "assertTrue(a.c());"), ("assertNull(x);", "assertNull(x, y);"), ("f();", "")]


@pytest.mark.parametrize("pairs", [SOME, REAL], ids=["short", "real"])
def test_bleu_agrees_with_sacrebleu_over_a_corpus(pairs: list[tuple[str, str]]) -> None:
    references, predictions = ([" ".join(java_tokens(text)) for text in side] for side in zip(*pairs, strict=True))
    expected = corpus_bleu(predictions, [references], tokenize="none", force=True).score
    assert value("bleu", *pairs)["bleu"] == pytest.approx(expected, rel=1e-12)
    assert "tok:none" in METRICS.get("bleu")().implementation


def overlap(predicted: list[str], expected: list[str]) -> list[float]:
    """F1, precision and recall of two bags, by striking out what is found."""
    left, shared = list(expected), 0
    for item in predicted:
        if item in left:
            left.remove(item)
            shared += 1
    precision, recall = shared / len(predicted), shared / len(expected)
    return [2 * precision * recall / (precision + recall) if shared else 0.0, precision, recall]


def test_f1_agrees_with_striking_out_tokens() -> None:
    each = [overlap(java_tokens(prediction), java_tokens(reference)) for reference, prediction in REAL]
    assert [*value("f1", *REAL).values()] == pytest.approx([fmean(column) for column in zip(*each, strict=True)])


def test_line_f1_agrees_with_striking_out_lines() -> None:
    # The pairs are one line each: a page of eight on either side, shifted by three so that some lines are shared.
    pages = [
        (
            "\n".join(row[0] for row in REAL[start : start + 8]),
            "\n".join(row[0] for row in REAL[start + 3 : start + 11]),
        )
        for start in range(len(REAL) - 11)
    ]
    each = [overlap(prediction.split("\n"), reference.split("\n")) for reference, prediction in pages]
    assert [*value("line_f1", *pages).values()] == pytest.approx(
        [fmean(column) for column in zip(*each, strict=True)]
    )


def test_exact_match_agrees_with_equal_words() -> None:
    equal = sum(reference.split() == prediction.split() for reference, prediction in REAL)
    assert value("exact_match", *REAL) == {"exact_match": equal / len(REAL)}
    assert equal


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
