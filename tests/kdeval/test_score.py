"""Predictions that somebody has made: `kdeval score`, and the files about samples."""

import csv
import json

import pytest

from kdeval.rescore import rescore
from kdeval.results import (
    PREDICTIONS,
    SAMPLES_TABLE,
    STATISTICS,
    SUMMARY,
    Settings,
    read_predictions,
    read_results,
)
from kdeval.schemas import schemas
from kdstore.errors import CapabilityError, EmptyInputError, InputError, UsageError

from .conftest import assert_fails, invoke

FAST = Settings(draws=20)


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def text(number, prediction, **more):
    return {"id": f"row-{number}", "reference": "assertEquals(1, f(a));", "prediction": prediction, **more}


@pytest.fixture
def some(tmp_path):
    return write(
        tmp_path / "mine.jsonl",
        text(0, "assertEquals(1, f(a));", repo="r", path="A.java"),
        text(1, "assertTrue(f(a));"),
        text(2, ""),
    )


def test_scoring_again_gives_the_same(world, evaluated, tmp_path):
    """What a run has written can be measured without the model: every value and interval of texts and tokens."""
    results = evaluated(draws=50)
    again = rescore(tmp_path / "run" / PREDICTIONS, tmp_path / "again", Settings(draws=50), [*results.metrics])
    assert again.metrics == results.metrics
    assert again.teacher.metrics == results.teacher.metrics
    assert again.gaps == results.gaps
    assert again.statistics_sha256 == results.statistics_sha256
    assert again.predictions_sha256 == results.predictions_sha256
    assert again.model.kind == "file"
    assert again.speed is None


def test_results_of_a_run_are_not_written_over(evaluated, tmp_path):
    results = evaluated(draws=0)
    with pytest.raises(UsageError, match="another directory"):
        rescore(tmp_path / "run" / PREDICTIONS, tmp_path / "run", FAST, ["f1"])
    assert read_results(tmp_path / "run") == results


def test_a_directory_is_one_evaluations(some, tmp_path):
    """Two at once would mix their rows: the second is refused, and leaves the first alone."""
    from kdeval.rundir import writing

    with writing(tmp_path / "out"), pytest.raises(InputError, match="alone"):
        rescore(some, tmp_path / "out", FAST, ["f1"])
    (tmp_path / "out").mkdir()
    left = tmp_path / "out" / f".{PREDICTIONS}.abc"
    left.write_text("of a process that was killed")
    rescore(some, tmp_path / "out", FAST, ["f1"])
    assert not left.exists()
    with pytest.raises(UsageError, match="Expected a directory"):
        rescore(some, some, FAST, ["f1"])


@pytest.mark.parametrize(
    "other",
    [
        text(9, "f();"),
        {"id": "9", "labels": {"scores": {"joy": 0.5}, "gold": []}},
        text(
            9, "f();", teacher_prediction="g();", tokens={"nll": [], "confidence": [], "correct": [], "critical": {}}
        ),
    ],
)
def test_every_line_has_what_the_first_has(tmp_path, other):
    """Else a value would be of fewer rows than the summary says."""
    path = write(tmp_path / "mine.jsonl", text(0, "f();", teacher_prediction="g();"), other)
    with pytest.raises(InputError, match="in every line"):
        rescore(path, tmp_path / "out", FAST, ["f1"])


def test_texts_must_be_there(tmp_path):
    with pytest.raises(InputError, match="'reference'"):
        rescore(write(tmp_path / "mine.jsonl", {"id": "1", "prediction": "f();"}), tmp_path / "out", FAST, ["f1"])


def test_kl_keeps_the_temperature_it_was_measured_at(tmp_path):
    tokens = {
        "nll": [1.0], "confidence": [0.5], "correct": [True], "critical": {}, "teacher_kl": [0.3],
        "teacher_agrees": [True], "temperature": 4.0,
    }  # fmt: skip
    path = write(tmp_path / "mine.jsonl", text(0, "f();", tokens=tokens))
    results = rescore(path, tmp_path / "out", FAST, ["kl"])
    assert results.settings.temperature == 4
    assert "T = 4" in results.metrics["kl"].title
    assert "T = 4" in results.metrics["kl"].implementation, "what decides whether two may be compared"


def test_table_of_samples(some, tmp_path):
    rescore(some, tmp_path / "out", FAST, ["exact_match", "f1"])
    with (tmp_path / "out" / SAMPLES_TABLE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["row-0", "row-1", "row-2"]
    assert [row["exact_match"] for row in rows] == ["1.0", "0.0", "0.0"]
    assert [row["predicted_kind"] for row in rows] == ["assertEquals", "assertTrue", "none"]
    assert rows[0]["repo"] == "r"
    assert {"f1", "precision", "recall"} <= {*rows[0]}
    scores = [sample.scores for sample in read_predictions(tmp_path / "out" / PREDICTIONS)]
    assert [float(row["recall"]) for row in rows] == [one["recall"] for one in scores]


def test_confusion(some, tmp_path):
    found = rescore(some, tmp_path / "out", FAST, ["f1"]).confusion
    assert found == {"assertEquals": {"assertEquals": 1, "assertTrue": 1, "none": 1}}


def test_what_the_lines_lack_is_left_out(some, tmp_path):
    results = rescore(some, tmp_path / "out", Settings(draws=0, embedding_model="/nowhere"))
    assert "f1" in results.metrics
    assert {"loss", "semantic_similarity", "code_quality", "kl"} <= {*results.left_out}
    with pytest.raises(CapabilityError, match="loss"):
        rescore(some, tmp_path / "out", FAST, ["loss"])


def test_classification_and_retrieval(tmp_path):
    labels = write(
        tmp_path / "labels.jsonl",
        {"id": "1", "labels": {"scores": {"joy": 0.9, "fear": 0.1}, "gold": ["joy"]}},
        {"id": "2", "labels": {"scores": {"joy": 0.2, "fear": 0.3}, "gold": ["fear"]}},
    )
    results = rescore(labels, tmp_path / "a", FAST)
    assert results.metrics["subset_accuracy"].value == 0.5
    assert {"f1_joy", "f1_fear"} <= {*results.metrics["label_f1"].parts}
    assert results.confusion == {}
    queries = write(
        tmp_path / "queries.jsonl",
        {"id": "1", "ranking": {"scores": [3, 2, 1], "relevance": [0, 1, 0]}},
        {"id": "2", "ranking": {"scores": [1, 2], "relevance": [0, 1]}},
    )
    assert rescore(queries, tmp_path / "b", FAST).metrics["mrr"].value == 0.75


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("[]", "mine.jsonl:2"),
        ('{"id": 3}', "id"),
        ('{"id": "x", "scores": {"a": "NaN"}}', "scores"),
        ('{"id": "x", "unknown": 1}', "unknown"),
        ('{"id": "x", "labels": {"scores": {"joy": 0.5}}}', "gold"),
        ('{"id": "x", "tokens": {"nll": [1.0], "confidence": [], "correct": [], "critical": {}}}', "as many"),
        (
            '{"id": "x", "tokens": {"nll": [1.0], "confidence": [1], "correct": [true], "critical": {"a": [1]}}}',
            "crit",
        ),
        ('{"id": "x", "tokens": {"nll": [-5], "confidence": [1], "correct": [true], "critical": {}}}', "nats"),
        (
            '{"id": "x", "tokens": {"nll": [1], "confidence": [7], "correct": [true], "critical": {}}}',
            "probabilities",
        ),
        ('{"id": "x", "prediction": "\\ud800"}', "mine.jsonl:2"),
        ("{", "mine.jsonl:2"),
    ],
)
def test_damaged_lines_are_named(tmp_path, line, word):
    path = write(tmp_path / "mine.jsonl", text(0, "a"))
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(InputError, match=word):
        rescore(path, tmp_path / "out", FAST, ["f1"])
    assert not (tmp_path / "out" / SUMMARY).exists()


def test_no_line(tmp_path):
    with pytest.raises(EmptyInputError):
        rescore(write(tmp_path / "mine.jsonl"), tmp_path / "out", FAST, ["f1"])
    with pytest.raises(InputError, match="nothing there"):
        rescore(tmp_path / "none.jsonl", tmp_path / "out", FAST, ["f1"])


def test_command(some, tmp_path):
    result = invoke("score", some, "--into", tmp_path / "out", "--metrics", "f1", "--draws", 20, "--limit", 2)
    assert result.exit_code == 0, result.stderr
    assert "Token F1" in result.stdout
    assert_fails(invoke("score", tmp_path / "none", "--into", tmp_path), InputError.exit_code, "none")


def test_schemas_describe_what_is_written(some, tmp_path):
    from jsonschema import Draft202012Validator

    rescore(some, tmp_path / "out", FAST, ["f1", "exact_match"])
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {*schemas()}
    for name, schema in schemas().items():
        if name.endswith((".json", ".jsonl")):
            Draft202012Validator.check_schema(schema)
            lines = (tmp_path / "out" / name).read_text()
            for document in lines.splitlines() if name.endswith("l") else [lines]:
                Draft202012Validator(schema).validate(json.loads(document))
    with (tmp_path / "out" / SAMPLES_TABLE).open(newline="") as file:
        columns = next(csv.reader(file))
    named = [field["name"] for field in schemas()[SAMPLES_TABLE]["fields"]]
    assert columns[: len(named) - 2] == named[:-2]


def test_schema_command():
    assert json.loads(invoke("schema", SUMMARY).stdout)["title"] == SUMMARY
    assert {*json.loads(invoke("schema").stdout)} >= {STATISTICS, SAMPLES_TABLE}
    assert_fails(invoke("schema", "x.json"), 2, "x.json")
