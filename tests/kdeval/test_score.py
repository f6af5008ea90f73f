"""Predictions that somebody has made: `kdeval score`, and the files about samples."""

import csv
import json

import pytest

from kdeval.results import PREDICTIONS, SAMPLES_TABLE, STATISTICS, SUMMARY, Settings, read_predictions
from kdeval.run import rescore
from kdeval.schemas import schemas
from kdstore.errors import CapabilityError, EmptyInputError, InputError

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
        text(1, "assertTrue(f(a));", teacher_prediction="assertEquals(1, f(a));"),
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


def test_into_the_same_directory(evaluated, tmp_path):
    results = evaluated(draws=0)
    again = rescore(tmp_path / "run" / PREDICTIONS, tmp_path / "run", FAST, ["f1"])
    assert again.metrics["f1"].value == results.metrics["f1"].value
    assert [*again.metrics] == ["f1"]


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
