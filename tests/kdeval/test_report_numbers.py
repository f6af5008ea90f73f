"""What a report says of numbers: differences, groups, mistakes and samples."""

import json
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdeval.report.confusion import confusion
from kdeval.report.diff import marked
from kdeval.report.evaluation import read_evaluation
from kdeval.report.gather import Report, gather
from kdeval.report.groups import FEWEST
from kdeval.report.render import to_html, to_markdown
from kdeval.report.rivals import threshold
from kdeval.report.rows import Row, Rows
from kdeval.report.samples import choose
from kdeval.report.strip import Strip, strip_chart
from kdeval.rescore import rescore
from kdeval.results import SUMMARY, MetricResult, Settings, Value, read_predictions
from kdeval.text import java_tokens
from kdstore.errors import MismatchError

from .conftest import assert_fails, invoke

PAIRS = [json.loads(line) for line in (Path(__file__).parent / "pairs.jsonl").read_text().splitlines()]
METRICS = ["f1", "exact_match", "ast_validity", "length_ratio"]


def scored(
    directory: Path,
    rows: Sequence[dict[str, Any]],
    metrics: Sequence[str] = METRICS,
    draws: int = 200,
    **settings: str,
) -> Path:
    """An evaluation of these predictions in ``directory``; rows get ids by their number."""
    file = directory.with_suffix(".jsonl")
    file.write_text("".join(json.dumps({"id": str(number), **row}) + "\n" for number, row in enumerate(rows)))
    rescore(file, directory, Settings(draws=draws, **settings), list(metrics))
    return directory


@pytest.fixture
def student(tmp_path) -> Path:
    """Predictions of a tiny student for 200 references of two repositories."""
    return scored(tmp_path / "student", [{**pair, "repo": f"r{n % 3 // 2}"} for n, pair in enumerate(PAIRS)])


@pytest.fixture
def perfect(tmp_path) -> Path:
    """The references themselves."""
    return scored(tmp_path / "perfect", [{**pair, "prediction": pair["reference"]} for pair in PAIRS])


def row(report: Report, name: str) -> Any:
    return next(row for row in report.rows if row.name == name)


def test_a_better_and_an_equal_rival(student, perfect):
    report = gather(student, baseline_run=student, teacher_run=perfect)
    f1 = row(report, "f1")
    assert (f1.teacher.verdict, f1.baseline.verdict) == ("worse", "no difference found")
    assert f1.teacher.value.text == "100.0%"
    assert f1.baseline.gap.text == "+0.0 pp"
    words = " ".join(report.headline)
    assert "worse than its teacher" in words
    assert "no metric tells the student from the baseline" in words.replace("the model", "the student")
    assert "better than" not in words


def test_signs_of_a_difference_are_those_of_the_student(student, perfect):
    report = gather(perfect, baseline_run=student)
    f1 = row(report, "f1")
    ours, theirs = read_evaluation(perfect).results.metrics["f1"], read_evaluation(student).results.metrics["f1"]
    assert f1.baseline.gap.text == f"{100 * (ours.value - theirs.value):+.1f} pp"
    assert f1.baseline.verdict == "better"
    low, high = f1.baseline.gap.interval.removesuffix(" pp").split(" to ")
    assert 0 < float(low) < 100 * (ours.value - theirs.value) < float(high)


def test_rivals_on_fewer_rows_are_compared_on_the_common_ones(student, tmp_path):
    few = scored(tmp_path / "few", PAIRS[:50])
    report = gather(student, baseline_run=few)
    assert any("the 50 rows that both evaluations have" in source for source in report.sources)
    assert row(report, "f1").baseline.gap.text == "+0.0 pp"
    assert row(report, "f1").baseline.value.interval == "", "the interval of other rows would be none of these"


def test_rivals_on_other_rows_are_refused(student, tmp_path):
    other = scored(tmp_path / "other", [{"reference": "f();", "prediction": "f();"}] * 3)
    for option in ("--teacher-run", "--baseline-run"):
        assert_fails(invoke("report", student, option, other), MismatchError.exit_code, "the same rows")


@pytest.mark.parametrize("option", ["", "--teacher-run", "--baseline-run"])
def test_statistics_that_give_another_value_than_the_summary_are_refused(student, perfect, option):
    """As where a release counts something else under the same name."""
    changed = perfect if option else student
    path = changed / SUMMARY
    summary = json.loads(path.read_text())
    summary["metrics"]["f1"]["value"] /= 2
    path.write_text(json.dumps(summary))
    result = invoke("report", student, *([option, perfect] if option else []))
    assert_fails(result, MismatchError.exit_code, str(changed), "f1", "kdeval run")


def test_values_of_the_stored_teacher_and_of_a_teacher_run(evaluated, tmp_path):
    evaluated(draws=100)
    report = gather(tmp_path / "run")
    exact = row(report, "exact_match")
    assert exact.teacher.value.text == f"{19 / 37:.1%}"
    assert exact.teacher.verdict == "worse"
    assert row(report, "loss").teacher is None
    evaluated(into="teacher", draws=100)
    report = gather(tmp_path / "run", teacher_run=tmp_path / "teacher")
    for name in ("loss", "exact_match"):
        assert row(report, name).teacher.value.text == row(report, name).student.text
        assert row(report, name).teacher.verdict == "no difference found"
    assert "1/1.0 of its teacher's" in " ".join(report.headline)
    assert any("its weights" in source for source in report.sources), "the store's teacher is another"


def test_no_difference_from_a_stored_teacher_that_writes_the_same(tmp_path):
    rows = [{**pair, "teacher_prediction": pair["prediction"]} for pair in PAIRS[:40]]
    report = gather(scored(tmp_path / "same", rows))
    assert {row.teacher.verdict for row in report.rows if not row.part} == {"no difference found"}
    words = " ".join(report.headline)
    assert "no difference from its teacher" in words
    assert "worse than its teacher in none and better in none" in words


def test_what_looks_at_the_teacher_has_no_value_of_a_teacher_run(tmp_path):
    rows = [{**pair, "teacher_prediction": pair["reference"]} for pair in PAIRS[:30]]
    both = scored(tmp_path / "both", rows, ["output_agreement", "f1"])
    report = gather(both, teacher_run=both, baseline_run=both)
    assert row(report, "output_agreement").teacher is None
    assert row(report, "output_agreement").baseline is not None


def test_speed_is_compared_only_where_all_else_is_the_same(evaluated, tmp_path):
    evaluated(draws=0)
    evaluated(into="teacher", draws=0)
    evaluated(into="wide", draws=0, batch_size=5)
    same = gather(tmp_path / "run", teacher_run=tmp_path / "teacher").size
    assert any("times as many" in line.ratio for line in same.lines)
    other = gather(tmp_path / "run", teacher_run=tmp_path / "wide").size
    assert not any("times as many" in line.ratio for line in other.lines)
    assert any("batch size differs (16 and 5)" in words for words in other.words)
    assert any("--teacher-run" in words for words in gather(tmp_path / "run").size.words)


@pytest.mark.parametrize(
    ("value", "interval", "direction", "words"),
    [
        (0.6, (0.55, 0.65), "higher", "reaches the threshold (good from 0.5)"),
        (0.6, (0.45, 0.65), "higher", "reaches the threshold (good from 0.5), but its interval spans it"),
        (0.4, None, "higher", "misses the threshold (good from 0.5)"),
        (0.4, (0.3, 0.45), "lower", "reaches the threshold (good up to 0.5)"),
        (None, None, "higher", ""),
    ],
)
def test_thresholds_in_words(value, interval, direction, words):
    metric = MetricResult(
        value=value, interval=interval, title="t", parts={}, unit="fraction", range=(0, 1), direction=direction,
        good_at=0.5, inputs="text", aggregation="", implementation="",
    )  # fmt: skip
    assert threshold(metric, "0.5") == words


def test_groups_have_the_values_of_their_rows_alone(student, tmp_path):
    kinds, repos = gather(student).mistakes.breakdowns
    assert [line.name for line in repos.lines] == ["r0", "r1"]
    predictions = list(read_predictions(student / "predictions_final.jsonl"))
    for line in repos.lines:
        members = [sample for sample in predictions if sample.repo == line.name]
        texts = [{"reference": one.reference, "prediction": one.prediction} for one in members]
        alone = read_evaluation(scored(tmp_path / line.name, texts)).results
        assert line.rows == len(members)
        for measure, value in zip(repos.measures, line.values, strict=True):
            assert value == Value(**alone.metrics[measure.name].model_dump(include={"value", "interval"}))
    assert sum(line.rows for line in kinds.lines) == len(PAIRS)
    assert [line.joined for line in kinds.lines[:-1]] == [False] * (len(kinds.lines) - 1)
    assert kinds.lines[-1].joined
    assert all(line.rows >= FEWEST for line in kinds.lines if not line.joined)
    assert all(a.rows >= b.rows for a, b in pairwise(kinds.lines[:-1]))


def test_the_code_quality_of_a_group_is_that_of_an_evaluation_of_its_rows(tmp_path, encoder):
    tokens = {"nll": [0.1, 5.0], "confidence": [0.9, 0.5], "correct": [True, False], "critical": {}}
    rows = [{**pair, "repo": f"r{n % 2}", "tokens": tokens} for n, pair in enumerate(PAIRS[:40])]

    def code_quality(name: str, chosen: list[dict[str, Any]]) -> Path:
        return scored(tmp_path / name, chosen, ["code_quality"], embedding_model=encoder)

    repos = gather(code_quality("all", rows)).mistakes.breakdowns[-1]
    for line, value in repos.values("code_quality"):
        alone = code_quality(line.name, [row for row in rows if row["repo"] == line.name])
        expected = read_evaluation(alone).results.metrics["code_quality"].value
        assert value.value == pytest.approx(expected, rel=1e-6), "but for the batches of the encoder"


@pytest.mark.parametrize(
    "strip",
    [
        Strip({"student": Value(value=1e308, interval=None)}, "x", (-1e308, 1.7e308)),
        Strip({"student": Value(value=-5, interval=(-1e308, 1e308))}, "x", (0, None), mark=3),
        Strip({"student": Value(value=0, interval=(0, 0))}, "x", (0, None)),
    ],
)
def test_strips_cope_with_extreme_values(strip):
    chart = str(strip_chart(strip))
    assert "nan" not in chart
    assert "inf" not in chart
    places = [float(x) for x in re.findall(r'(?:cx|x1|x2)="([^"]*)"', chart)]
    assert all(0 <= x <= 150 for x in places)


def test_a_strip_of_nothing_is_nothing():
    assert strip_chart(Strip({"student": Value(value=None, interval=None)}, "x", (0, 1))) == ""


def test_a_group_that_stands_out_is_named_and_no_other(student, tmp_path):
    said = [words for words in gather(student).answers[1].sentences if "repository" in words]
    assert said == [
        "Of 2 groups by repository none stands out by Token F1: the intervals of the lowest and the highest meet."
    ]
    rows = [
        {**pair, "repo": "good", "prediction": pair["reference"]} if n % 2 else {**pair, "repo": "bad"}
        for n, pair in enumerate(PAIRS)
    ]
    said = gather(scored(tmp_path / "apart", rows)).answers[1].sentences
    assert any("lowest for bad with" in words and "highest for good with 100.0%" in words for words in said)


def test_confusion_keeps_every_row():
    table = {f"e{i}": {f"e{j}": i + j + 1 for j in range(20)} for i in range(20)}
    total = sum(count for line in table.values() for count in line.values())
    found = confusion(table)
    assert found.rows == total == sum(line.rows for line in found.lines)
    assert total == sum(cell.count for line in found.lines for cell in line.cells)
    assert len(found.lines) == len(found.predicted) == 10
    assert found.predicted[-1] == "other kinds"
    assert found.missed == total - sum(table[f"e{i}"][f"e{i}"] for i in range(20))
    assert found.worst == ("e18", "e19", 38)
    assert sum(cell.hit for line in found.lines for cell in line.cells) == 9, "other kinds are no hit of each other"


def test_confusion_shows_what_is_often_written_though_never_expected():
    table = {f"e{n}": {"assertEquals": 5} for n in range(15)}
    found = confusion(table)
    assert found.predicted[0] == "assertEquals"
    assert all(line.cells[0].count == line.rows for line in found.lines)
    assert "assertEquals" not in [line.expected for line in found.lines]


def test_confusion_of_nothing_and_of_no_mistake():
    assert confusion({}) is None
    assert confusion({"a": {"a": 0}}) is None
    assert confusion({"a": {"a": 3}}).worst is None


def rows_of(scores: Sequence[float], pairs: Sequence[str] = (), exact: Sequence[int] = ()) -> Rows:
    names = pairs or [str(index) for index in range(len(scores))]
    rows = [Row("k", "r", index in exact, name.encode()) for index, name in enumerate(names)]
    return Rows(rows, np.array(scores), "f1")


def test_samples_are_the_worst_and_the_best_that_are_not_exact():
    chosen = choose(rows_of([n / 40 for n in range(40)], exact=range(30, 40)), 8, seed=1)
    assert [index for index, why in chosen.items() if "worst" in why] == [0, 1, 2]
    assert [index for index, why in chosen.items() if "best" in why] == [29, 28, 27]
    assert [why for index, why in chosen.items() if index >= 30] == ["exact", "exact"]


def test_samples_of_equal_score_are_drawn_by_the_seed():
    rows = rows_of([0.5] * 100)
    assert choose(rows, 10, 1) == choose(rows, 10, 1)
    assert choose(rows, 10, 1) != choose(rows, 10, 2)


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, float("nan")]), max_size=30), st.integers(0, 40), st.data())
def test_samples_are_few_and_different(scores, count, data):
    names = data.draw(st.lists(st.sampled_from("abcdef"), min_size=len(scores), max_size=len(scores)))
    exact = [index for index, name in enumerate(names) if name in "ab"]
    chosen = choose(rows_of(scores, names, exact), count, 0)
    assert len(chosen) <= count
    assert len({names[index] for index in chosen}) == len(chosen)
    assert all(scores[index] == scores[index] for index in chosen), "an undefined score is no rank"
    assert sum(why == "exact" for why in chosen.values()) <= 2


def test_samples_show_all_three_texts_and_what_differs(tmp_path):
    row = {"reference": "assertEquals(1, f());", "prediction": "assertEquals(2, f());", "teacher_prediction": "g();"}
    report = gather(scored(tmp_path / "one", [row], ["f1"]), samples=3)
    (shown,) = report.samples.shown
    texts = [shown.reference, shown.teacher, shown.student]
    assert [one.text for one in texts] == [row["reference"], row["teacher_prediction"], row["prediction"]]
    assert [[piece.text for piece in one.pieces if piece.differs] for one in texts] == [["1"], ["g"], ["2"]]
    page = to_html(report)
    assert '<mark class="extra">2</mark>' in page
    assert '<mark class="lack">1</mark>' in page
    assert "no more than 1" in to_markdown(report)


def test_samples_show_the_end_of_the_prompt_and_the_beginning_of_a_text(tmp_path):
    row = {"reference": "f();", "prediction": "x " * 9_000, "prompt": "\n".join(f"line {n}" for n in range(100))}
    (shown,) = gather(scored(tmp_path / "long", [row], ["f1"]), samples=1).samples.shown
    assert shown.prompt.startswith("... line 88")
    assert shown.prompt.endswith("line 99")
    assert len(shown.student.text) < 3_000
    assert shown.student.text.endswith("(16,000 characters more)")


@pytest.mark.parametrize(
    ("text", "other", "differing"),
    [
        ("f(a, b);", "f(a);", [", b"]),
        ("f(a);", "f(a, b);", []),
        ("f( 1 );", "f(2);", ["1"]),
        ("a\n  b", "", ["a\n  b"]),
        ("", "a", []),
        ("f(1);", "f( 1 ) ;", []),
    ],
)
def test_what_is_new_or_another_is_marked(text, other, differing):
    assert [piece.text for piece in marked(text, other) if piece.differs] == differing


@given(st.text(alphabet="ab(),. \n\"'/*", max_size=60), st.text(alphabet="ab(),. \n\"'/*", max_size=60))
def test_pieces_are_the_text_and_mark_what_the_other_lacks(text, other):
    pieces = marked(text, other)
    assert "".join(piece.text for piece in pieces) == text
    assert not any(piece.differs for piece in marked(text, text))
    for piece in pieces:
        assert not piece.differs or piece.text.strip() == piece.text, "white space at an end is no difference"
    kept = [token for piece in pieces if not piece.differs for token in java_tokens(piece.text)]
    if len(java_tokens(text)) == len(kept):
        assert not any(piece.differs for piece in pieces)


def test_a_model_that_is_too_sure_is_called_so(tmp_path):
    """In half of the label tokens right, and always sure."""
    tokens = {"nll": [0.1, 5.0], "confidence": [0.98, 0.97], "correct": [True, False], "critical": {"junit": [0]}}
    rows = [{"reference": "f();", "prediction": "f();", "tokens": tokens}] * 40
    report = gather(scored(tmp_path / "sure", rows, ["calibration", "critical_token_accuracy"]))
    found = report.mistakes.reliability
    assert found.tokens == 80
    assert "surer than it should be" in found.words
    assert "97.5%" in found.words
    assert [category.name for category in report.mistakes.critical.categories] == ["junit"]
    assert "mocking" in report.mistakes.critical.absent


def test_no_score_no_order(tmp_path):
    run = scored(tmp_path / "plain", PAIRS[:20], ["exact_match"], draws=0)
    report = gather(run, samples=4)
    assert "at random" in report.samples.how
    assert len(report.samples.shown) == 4
    assert json.loads((run / SUMMARY).read_text())["settings"]["draws"] == 0
    assert "interval" not in " ".join(report.answers[0].sentences)
