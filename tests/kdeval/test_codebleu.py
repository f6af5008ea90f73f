"""CodeBLEU against the published package, whose values tools/codebleu_reference.py has written down."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdeval.metrics import Floats
from kdeval.metrics._codebleu_tree import MAX_CHARACTERS
from kdeval.metrics.codebleu import CodeBleu
from kdeval.samples import Sample
from kdeval.text import java_tokens

HERE = Path(__file__).parent
EXPECTED: dict[str, Any] = json.loads((HERE / "codebleu_expected.json").read_text(encoding="utf-8"))
ROWS = {
    "pairs": [json.loads(line) for line in (HERE / "pairs.jsonl").read_text(encoding="utf-8").splitlines()],
    "programs": EXPECTED["programs"],
}
WHOLE, DATAFLOW = 0, 4  # columns of the values
TOLERANCE = 1e-9
JAVA_LIKE = st.text(alphabet="ab1 .,;(){}[]<>=+-\"'\\u@\n/*", max_size=60) | st.text(max_size=30)
TOKENS = java_tokens(
    "for (int a = 1; a < b; a++) { while (b) c += a; } if (a) { b = 'c'; } else return x -> \"s\" // /* */"
)
JAVA = st.lists(st.sampled_from([*TOKENS, "\n"]), max_size=30).map(" ".join)


def samples(rows: list[dict[str, Any]]) -> list[Sample]:
    return [Sample("1", "", row["reference"], row["prediction"]) for row in rows]


def score(reference: str, prediction: str) -> dict[str, float]:
    return CodeBleu().score([Sample("1", "", reference, prediction)])


def measured(name: str) -> tuple[Floats, Floats, Floats]:
    """Our values of each row, the package's, and the number of data-flow edges of each reference."""
    metric = CodeBleu()
    stats_NK = metric.measure(samples(ROWS[name]))
    theirs_NV = EXPECTED["pairs"] if name == "pairs" else [row["values"] for row in ROWS[name]]
    ours_NV = np.column_stack(list(metric.per_sample(stats_NK).values()))
    return ours_NV, np.array(theirs_NV), stats_NK[:, metric.columns.index("expected_edges")]


@pytest.mark.parametrize("name", ROWS)
def test_parts_are_the_packages(name: str) -> None:
    ours_NV, theirs_NV, edges_N = measured(name)
    np.testing.assert_allclose(ours_NV[:, 1:DATAFLOW], theirs_NV[:, 1:DATAFLOW], rtol=0, atol=TOLERANCE)
    # Without data flow in the reference the package calls the part 0, and so do we not.
    flow_N = edges_N > 0
    np.testing.assert_allclose(ours_NV[flow_N, DATAFLOW], theirs_NV[flow_N, DATAFLOW], rtol=0, atol=TOLERANCE)
    assert (ours_NV[~flow_N, DATAFLOW] == 1).all()
    assert (theirs_NV[~flow_N, DATAFLOW] == 0).all()


@pytest.mark.parametrize("name", ROWS)
def test_value_is_the_packages_unless_all_data_flow_is_missed(name: str) -> None:
    ours_NV, theirs_NV, edges_N = measured(name)
    free_N = np.where((edges_N > 0) & (theirs_NV[:, DATAFLOW] == 0), 0.25, 0.0)
    np.testing.assert_allclose(ours_NV[:, WHOLE], theirs_NV[:, WHOLE] - free_N, rtol=0, atol=TOLERANCE)
    assert 0 < (free_N > 0).sum() < len(free_N) / 4


@pytest.mark.parametrize("name", ROWS)
def test_value_of_a_set_is_the_packages(name: str) -> None:
    ours = CodeBleu().score(samples(ROWS[name]))
    assert list(ours.values()) == pytest.approx(EXPECTED["whole"][name], abs=TOLERANCE)


def test_programs_exercise_data_flow() -> None:
    shares = [row["values"][DATAFLOW] for row in ROWS["programs"]]
    assert sum(0 < share < 1 for share in shares) > len(shares) / 2


def test_order_of_sets_is_all_that_was_changed_in_the_package() -> None:
    bounds = [(*row["dataflow_by_seed"], row["values"][DATAFLOW]) for row in ROWS["programs"]]
    assert all(low <= share <= high for low, high, share in bounds)
    assert any(low < high for low, high, _ in bounds), "as published, the value depends on the hash seed"


@pytest.mark.parametrize("text", ["", "a", "f()", "f();", "return;", "x = 1;", "größe(größe);", "\ud800 = 1;"])
def test_a_short_text_is_like_itself(text: str) -> None:
    assert set(score(text, text).values()) == {1.0}


@settings(max_examples=200, deadline=None)
@given(JAVA_LIKE | JAVA)
def test_any_text_is_like_itself(text: str) -> None:
    assert list(score(text, text).values()) == pytest.approx([1.0] * 5)


@settings(max_examples=200, deadline=None)
@given(JAVA_LIKE | JAVA, JAVA_LIKE | JAVA)
def test_any_two_texts_have_values(reference: str, prediction: str) -> None:
    values = list(score(reference, prediction).values())
    assert all(0 <= value <= 1 for value in values)
    assert values[0] == pytest.approx(np.mean(values[1:]))


def test_empty_prediction_finds_nothing() -> None:
    assert list(score("f(a, a);", "").values()) == [0.0] * 5
    assert list(score("", "f(a, a);").values()) == [0.25, 0.0, 0.0, 0.0, 1.0]


def test_keywords_weigh_five_times_as_much() -> None:
    values = score("return a;", "return b;")
    # Tokens: 1.2 of 1.4. Pairs: none of 2. Triples: none of 1.
    assert values["codebleu_weighted_ngram"] == pytest.approx((1.2 / 1.4 * 0.1 / 2 * 0.1) ** (1 / 3))
    assert values["codebleu_ngram"] == pytest.approx((2 / 3 * 0.1 / 2 * 0.1) ** (1 / 3))


def test_names_do_not_matter_to_syntax_and_data_flow() -> None:
    values = score("int a = f(b); g(a, b);", "int n = open(path); /* both */ read(n, path);")
    assert values["codebleu_syntax"] == values["codebleu_dataflow"] == 1
    assert values["codebleu_ngram"] < 0.3


def test_data_flow_tells_which_variable_is_read() -> None:
    values = score("int a = f(b); g(a, a);", "int a = f(b); g(b, b);")
    # Of both: a from f and b, and f and b from nowhere. Missed: a from a, twice.
    assert values["codebleu_syntax"] == 1
    assert values["codebleu_dataflow"] == pytest.approx(3 / 5)


@pytest.mark.parametrize(
    "unit",
    [
        "(",
        "{",
        "if (a) ",
        "while (a) ",
        "for (int i = 0; i < a; i++) ",
        "a = ",
        "a + ",
        "a[",
        "f(",
        "/*",
        "List<",
    ],
)
def test_hostile_texts_have_values(unit: str) -> None:
    """Deeper than Python's stack, loops that double the work thousands of times, and much to try again."""
    text = unit * (MAX_CHARACTERS // len(unit))
    assert 0 < score(text, text[1:] + " b")["codebleu"] <= 1


def test_long_texts_are_parsed_in_part() -> None:
    text = "a = b;\n" * (MAX_CHARACTERS // 7 + 1)
    values = score(text, text + "while (true) { c++; }")
    assert values["codebleu_syntax"] == values["codebleu_dataflow"] == 1
    assert values["codebleu_ngram"] < 1
