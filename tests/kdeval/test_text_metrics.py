"""Similarities of Java assertions: by hand, against naive implementations, and of any text at all."""

import doctest
import json
import math
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdeval import text
from kdeval.metrics import METRICS, Measured
from kdeval.samples import Sample
from kdeval.text import assertion_kind, assertion_tokens

from .hard_texts import ANY_TEXT, EXTREMES

PAIRS = [json.loads(line) for line in (Path(__file__).parent / "pairs.jsonl").read_text("utf-8").splitlines()]
SIMILARITIES = ["pans", "edit_similarity", "assertion_kind"]


def sample(reference: str, prediction: str) -> Sample:
    return Sample("1", "", reference, prediction)


def metric(name: str) -> Measured:
    made = METRICS.get(name)()
    assert isinstance(made, Measured)
    return made


def score(name: str, reference: str, prediction: str) -> float:
    return metric(name).score([sample(reference, prediction)])[name]


# --- tokens and kinds of assertions


def test_examples_in_docstrings_hold() -> None:
    outcome = doctest.testmod(text)
    assert outcome.attempted
    assert not outcome.failed


@pytest.mark.parametrize(
    "text",
    [
        "assertNull(x);",
        "assertNull(x)",
        "assertNull( x ) ;",
        "Assert.assertNull(x);",
        "org.junit.Assert.assertNull(x);",
        "org . junit.jupiter.api.Assertions.assertNull(x);",
        "org.testng.Assert.assertNull(x);",
        "junit.framework.Assert.assertNull(x);",
        "org.assertj.core.api.Assertions.assertNull(x);",
        "/* why */ assertNull(x /* what */); // Assert.fail();",
        "assertNull(x); /* not closed",
    ],
)
def test_what_means_the_same_has_the_same_tokens(text: str) -> None:
    assert assertion_tokens(text) == ["assertNull", "(", "x", ")"]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Assert.that(x);", "Assert . that ( x )"),  # no assertion by its name
        ("my.Assert.assertNull(x);", "my . Assert . assertNull ( x )"),  # another class
        ("org.junit.Assert", "org . junit . Assert"),
        ("Assertions::assertNull", "Assertions :: assertNull"),
        ("assertAll(() -> Assertions.fail());", "assertAll ( ( ) -> fail ( ) )"),
        ("fail();;", "fail ( ) ;"),
        ('f("// no comment");', 'f ( "// no comment" )'),
        ('f("""\n /* no "comment" */""");', 'f ( """\n /* no "comment" */""" )'),
        ("/", "/"),
        ("; // end", ""),
    ],
)
def test_what_else_there_is_stays(text: str, tokens: str) -> None:
    assert " ".join(assertion_tokens(text)) == tokens


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("assertEquals(1, x);", "assertEquals"),
        ("Assertions.assertThat(x).isEqualTo(verify(y));", "assertThat"),
        ("assertThrows(E.class, () -> fail());", "assertThrows"),
        ("run(() -> fail()).assertDone();", "assertDone"),
        ("run(() -> fail());", "fail"),
        ("try { f(); fail(); } catch (E e) { assertNull(e); }", "fail"),
        ("verifyNoInteractions(mock);", "verifyNoInteractions"),
        ("thrown.expect(E.class);", "expect"),
        ("assertMine(x);", "assertMine"),
        ("assert x > 1;", "assert"),
        ("assert (x > 1);", "assert"),
        ("verified(x);", "other"),
        ("list.add(x);", "other"),
        ("if (x) { }", "none"),
        ("assertEquals", "none"),
        ('"assertTrue(x)"', "none"),
        ('"""\nassertTrue(x)""" + fail()', "fail"),
        ("/* assertTrue(x) */ assertNull(x)", "assertNull"),
        ("// fail()\nassertNull(x)", "assertNull"),
        ("x)); assertTrue(a)); fail(b);", "assertTrue"),
        ("assertThat(assertEquals.12);", "assertThat"),
        ("größe$(x); assertÄhnlich(y);", "assertÄhnlich"),
        ("", "none"),
    ],
)
def test_assertion_kind(text: str, kind: str) -> None:
    assert assertion_kind(text) == kind


def test_assertion_kind_of_pairs_without_one() -> None:
    assert score("assertion_kind", "", "x") == score("assertion_kind", "f();", "g();") == 1.0
    assert score("assertion_kind", "f();", "x") == score("assertion_kind", "f();", "fail();") == 0.0


# --- similarities


def naive_pans(expected: list[str], predicted: list[str]) -> float:
    """The formula, every n-gram against every other."""

    def found(wanted: list[list[str]], others: list[list[str]]) -> float:
        best = [
            max((math.exp(-0.1 * abs(i - j)) for j, other in enumerate(others) if other == ngram), default=0.0)
            for i, ngram in enumerate(wanted)
        ]
        return sum(best) / len(best) if best else 0.0

    total, orders = 0.0, min(4, max(len(expected), len(predicted)))
    for n in range(1, orders + 1):
        sides = [[side[at : at + n] for at in range(len(side) - n + 1)] for side in (expected, predicted)]
        recall, precision = found(*sides), found(*reversed(sides))
        total += 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return total / orders if orders else 1.0


def naive_edit_similarity(left: str, right: str) -> float:
    """Least insertions and deletions by dynamic programming, cell by cell."""
    before = list(range(len(right) + 1))
    for row, a in enumerate(left, start=1):
        now = [row]
        for column, b in enumerate(right, start=1):
            now.append(before[column - 1] if a == b else 1 + min(before[column], now[-1]))
        before = now
    return 1 - before[-1] / (len(left) + len(right))


def test_pans_agrees_with_its_formula_on_real_pairs() -> None:
    for pair in PAIRS:
        expected = naive_pans(*(assertion_tokens(pair[side]) for side in ("reference", "prediction")))
        assert score("pans", **pair) == pytest.approx(expected, rel=1e-12)


def test_edit_similarity_agrees_with_dynamic_programming_on_real_pairs() -> None:
    for pair in PAIRS:
        expected = naive_edit_similarity(*(" ".join(pair[side].split()) for side in ("reference", "prediction")))
        assert score("edit_similarity", **pair) == pytest.approx(expected, rel=1e-12)


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_pans_agrees_with_its_formula(expected: list[str], predicted: list[str]) -> None:
    found = score("pans", " ".join(expected), " ".join(predicted))
    assert found == pytest.approx(naive_pans(expected, predicted), rel=1e-12)
    assert (found == 1) == (expected == predicted)


def test_pans_sees_how_far_a_token_has_moved() -> None:
    # "b" is alone: R_1 = e^-0.1 / 2, P_1 = e^-0.1, and there is no other order on its side.
    assert score("pans", "a b", "b") == pytest.approx(math.exp(-0.1) * 2 / 3 / 2)
    moved = [score("pans", "x 1 2 3 4 5", " ".join(["0"] * shift + ["x"])) for shift in range(5)]
    assert moved == sorted(moved, reverse=True)


def test_pans_does_not_reward_length() -> None:
    reference = "assertEquals(2, list.size());"
    longer = [score("pans", reference, reference + " f(x);" * times) for times in range(4)]
    assert longer[0] == 1
    assert longer == sorted(longer, reverse=True)
    assert longer[3] < longer[1] - 0.1


@pytest.mark.parametrize("name", ["pans", "edit_similarity"])
def test_similarity_of_empty_texts(name: str) -> None:
    assert score(name, "", " \n") == 1.0
    assert score(name, "f();", "") == score(name, "", "f();") == 0.0


@settings(deadline=None)
@given(ANY_TEXT, ANY_TEXT)
def test_similarities_of_any_texts(left: str, right: str) -> None:
    for name in SIMILARITIES:
        found = score(name, left, right)
        assert 0 <= found <= 1
        assert found == score(name, right, left)
        assert score(name, left, left) == 1


@pytest.mark.parametrize("name", SIMILARITIES)
def test_similarities_of_extreme_texts(name: str) -> None:
    for left, right in pairwise(EXTREMES):
        assert 0 <= score(name, left, right) <= 1


# --- length


def test_length_ratio_is_of_sums() -> None:
    pairs = [sample("f(a);", "f(a, b);"), sample("g();", "")]
    found = metric("length_ratio")
    assert found.score(pairs) == {"length_ratio": 7 / 9}
    assert found.per_sample(found.measure(pairs))["length_ratio"].tolist() == [7 / 5, 0]


@pytest.mark.parametrize(("prediction", "ratio"), [("", 1), (";", 2), ("f();", 5)])
def test_length_ratio_of_an_empty_reference(prediction: str, ratio: float) -> None:
    assert score("length_ratio", " ", prediction) == ratio


@settings(deadline=None)
@given(ANY_TEXT, ANY_TEXT)
def test_length_ratio_of_any_text(left: str, right: str) -> None:
    assert math.isfinite(score("length_ratio", left, right))
    assert score("length_ratio", left, left) == 1
    assert score("length_ratio", left, left + " x") > 1
