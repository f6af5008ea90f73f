"""The threshold search against trying everything, against scikit-learn, and on rows that it has not seen."""

import doctest
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import f1_score, precision_recall_curve

from kdeval import thresholds
from kdeval.metrics.label_f1 import LabelF1
from kdeval.metrics.macro_f1 import MacroF1
from kdeval.samples import Sample
from kdeval.thresholds import search
from kdstore.errors import EmptyInputError, InputError, UsageError

from .conftest import assert_fails, invoke
from .test_classification import Scored, emotions, generated, row

LABELS = ["joy", "fear", "rage"]
# Few distinct scores, so that there are ties.
SMALL = st.integers(1, 8).flatmap(
    lambda rows: st.tuples(
        arrays(float, (rows, 3), elements=st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0])),
        arrays(int, (rows, 3), elements=st.integers(0, 1)).filter(np.any),
    )
)


@settings(deadline=None)
@given(SMALL)
def test_no_score_does_better(data: tuple[np.ndarray, np.ndarray]) -> None:
    """Every distinct score as a threshold, each tried with scikit-learn: the best, and of equals the greatest."""
    scores, gold = data
    found = search(Scored(LABELS, scores, gold, {}).samples(), LABELS)
    for index, label in enumerate(LABELS):
        cuts = np.unique(scores[:, index])
        tried = {cut: f1_score(gold[:, index], scores[:, index] >= cut, zero_division=np.nan) for cut in cuts}
        best = max(cut for cut in cuts if tried[cut] == max(tried.values())) if gold[:, index].any() else 0.5
        assert found.by_label[label] == best
    cuts = np.unique(scores)
    macro = {cut: f1_score(gold, scores >= cut, average="macro", zero_division=np.nan) for cut in cuts}
    assert found.overall == max(cut for cut in cuts if macro[cut] == pytest.approx(max(macro.values()), rel=1e-12))
    assert found.macro_f1_overall == pytest.approx(macro[found.overall], rel=1e-12)
    assert found.macro_f1_before <= min(found.macro_f1_by_label, found.macro_f1_overall) + 1e-12


@settings(deadline=None)
@given(SMALL)
def test_the_values_are_those_of_the_metrics(data: tuple[np.ndarray, np.ndarray]) -> None:
    samples = Scored(LABELS, *data, {}).samples()
    found = search(samples, LABELS)
    for label_f1, chosen in ((found.f1_before, {}), (found.f1_after, found.by_label)):
        measured = LabelF1(LABELS, chosen).score(samples)
        assert [*label_f1.values()] == pytest.approx([measured[f"f1_{label}"] for label in LABELS], nan_ok=True)
    for value, chosen in (
        (found.macro_f1_before, {}),
        (found.macro_f1_by_label, found.by_label),
        (found.macro_f1_overall, dict.fromkeys(LABELS, found.overall)),
    ):
        assert value == pytest.approx(MacroF1(LABELS, chosen).score(samples)["macro_f1"], rel=1e-12)


@pytest.mark.parametrize("scored", [generated, emotions])
def test_precision_recall_curve_has_no_better_f1(scored: object) -> None:
    assert callable(scored)
    data: Scored = scored()
    found = search(data.samples(), data.labels)
    for index, label in enumerate(data.labels):
        precision, recall, _ = precision_recall_curve(data.gold[:, index], data.scores[:, index])
        with np.errstate(invalid="ignore"):
            f1 = 2 * precision * recall / (precision + recall)
        assert found.f1_after[label] == pytest.approx(np.nanmax(f1), rel=1e-12)
        assert found.by_label[label] in data.scores[:, index]
    assert found.macro_f1_before < found.macro_f1_overall < found.macro_f1_by_label


def test_thresholds_help_on_other_rows_and_promise_too_much() -> None:
    """Fitted on half of the rows: better than 0.5 on the other half too, but less than on their own."""
    data = emotions()
    samples = data.samples()
    fit, rest = samples[::2], samples[1::2]
    found = search(fit, data.labels)
    before = MacroF1(data.labels).score(rest)["macro_f1"]
    after = MacroF1(data.labels, found.by_label).score(rest)["macro_f1"]
    assert before + 0.02 < after < found.macro_f1_by_label


def test_order_and_rows_without_labels_do_not_matter() -> None:
    data = generated()
    samples = data.samples()
    found = search(samples, data.labels)
    assert search([Sample("text", "", "a", "a"), *samples[::-1]], data.labels) == found
    # At a threshold of 0 everything is predicted, except where there is nothing.
    assert search([Sample("text"), row("1", {"joy": 0.0}, ["joy"])], ["joy"]).macro_f1_overall == 1.0


def test_a_label_that_is_never_true_keeps_half() -> None:
    found = search([row("1", {"joy": 0.2, "rage": 0.9}, ["joy"])], ["joy", "rage"])
    assert found.by_label == {"joy": 0.2, "rage": 0.5}
    assert (found.f1_after["rage"], found.macro_f1_by_label) == (0.0, 0.5)
    unused = search([row("1", {"joy": 0.2, "rage": 0.1}, ["joy"])], ["joy", "rage"])
    assert math.isnan(unused.f1_after["rage"])
    assert unused.macro_f1_by_label == 1.0


def test_example_in_the_docstring_holds() -> None:
    outcome = doctest.testmod(thresholds)
    assert outcome.attempted
    assert not outcome.failed


def test_what_cannot_be_searched_is_refused() -> None:
    fine = row("1", {"joy": 0.2}, ["joy"])
    with pytest.raises(UsageError, match="Got 'accuracy'"):
        search([fine], ["joy"], objective="accuracy")
    with pytest.raises(UsageError, match="each label once"):
        search([fine], ["joy", "joy"])
    with pytest.raises(EmptyInputError, match="true label"):
        search([row("1", {"joy": 0.2}, []), Sample("2")], ["joy"])
    with pytest.raises(InputError, match="'rage'"):
        search([fine], ["rage"])


def test_thresholds_of_one_file_are_used_on_another(tmp_path: Path) -> None:
    rows = [{"joy": 0.4, "fear": 0.1}, {"joy": 0.3, "fear": 0.9}, {"joy": 0.1, "fear": 0.2}]
    gold = [["joy"], ["joy", "fear"], []]
    path, out = tmp_path / "rows.jsonl", tmp_path / "thresholds.json"
    lines = [
        {"id": str(n), "labels": {"scores": one, "gold": two}}
        for n, (one, two) in enumerate(zip(rows, gold, strict=True))
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = invoke("thresholds", path, "--out", out)
    assert found.exit_code == 0, found.stderr
    assert "joy" in found.stdout
    assert json.loads(out.read_text()) == {"joy": 0.3, "fear": 0.9}
    scored = invoke("score", path, "--into", tmp_path / "a", "--thresholds", out, "--draws", 0, "--json")
    assert json.loads(scored.stdout)["metrics"]["macro_f1"]["value"] == 1.0
    plain = invoke("score", path, "--into", tmp_path / "b", "--draws", 0, "--json")
    assert json.loads(plain.stdout)["metrics"]["macro_f1"]["value"] == 0.5
    out.write_text('{"joy": "high"}')
    assert_fails(invoke("score", path, "--into", tmp_path / "c", "--thresholds", out), InputError.exit_code, "joy")
    (tmp_path / "texts.jsonl").write_text('{"id": "1", "reference": "a", "prediction": "b"}\n')
    assert_fails(invoke("thresholds", tmp_path / "texts.jsonl"), InputError.exit_code, "labels")
