"""What a store's signal says of its teacher, held against the teacher itself."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from scipy.special import rel_entr

from kdeval.data import StoreRows
from kdeval.predict import load_model
from kdeval.results import COMPARISON, PREDICTIONS, Settings, read_predictions
from kdeval.run import evaluate
from kdstore.cli import main as kdstore
from kdstore.errors import CapabilityError

from .conftest import OUTPUT_TOKENS, ROWS, assert_fails, invoke, make_model

METRICS = [
    "knowledge_retention", "f1", "ast_validity", "token_accuracy", "loss", "calibration", "critical_token_accuracy",
    "kl", "top1_agreement",
]  # fmt: skip


def build(world, path, *options):
    arguments = [
        "build", world.raw, "--teacher", world.model, "--out", path, "--max-output-len", OUTPUT_TOKENS, "--device",
        "cpu", *options,
    ]  # fmt: skip
    result = CliRunner().invoke(kdstore, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture(scope="module")
def dense(world, tmp_path_factory):
    return build(world, tmp_path_factory.mktemp("dense") / "dense.kd", "--codec", "dense", "--codec-set", "dtype=f32")


@pytest.fixture
def settings(encoder):
    return Settings(device="cpu", embedding_model=encoder, draws=50)


def test_a_teacher_keeps_all_of_itself(world, dense, settings, tmp_path):
    """Evaluated as the student of its own store, it agrees with itself, and has the values of the store."""
    results = evaluate(world.model, dense, tmp_path / "run", settings, METRICS)
    assert results.data.rows == ROWS
    assert results.metrics["knowledge_retention"].value == pytest.approx(1)
    assert results.metrics["top1_agreement"].value == 1
    assert results.metrics["kl"].value == pytest.approx(0, abs=1e-5)
    stored = results.teacher.metrics
    for name in ("f1", "ast_validity", "code_quality", "token_accuracy", "loss", "calibration"):
        assert stored[name].value == pytest.approx(results.metrics[name].value, abs=1e-5), name
        assert results.gaps[name].value == pytest.approx(0, abs=1e-5), name
    flat = json.loads((tmp_path / "run" / COMPARISON).read_text())["metrics"]
    assert flat["loss"]["student"] == pytest.approx(flat["loss"]["teacher"], abs=1e-5)
    assert flat["critical_junit"]["gap"] == pytest.approx(0)
    assert flat["kl"]["teacher"] is None


def test_kl_is_that_of_the_two_models(world, dense, settings, tokenizer, tmp_path):
    """From the stored signal, and from both models' own logits with scipy."""
    other = make_model(tmp_path / "other", len(tokenizer), tokenizer, seed=1)
    evaluate(other, dense, tmp_path / "run", settings, ["kl", "top1_agreement"])
    samples = {sample.id: sample for sample in read_predictions(tmp_path / "run" / PREDICTIONS)}
    models = [load_model(path, "cpu", 4) for path in (world.model, other)]
    for item in StoreRows(dense, None, 2.0).items():
        both = []
        for model in models:
            encoded = model.encode([item.input_ids])
            both.append(model.score(encoded, [item.label_ids]).logits_LV)
        p_LV, q_LV = (torch.softmax(logits_LV.double() / 2, -1).numpy() for logits_LV in both)
        tokens = samples[item.id].tokens
        np.testing.assert_allclose(tokens.teacher_kl, rel_entr(p_LV, q_LV).sum(-1), rtol=1e-4, atol=2e-5)
        assert tokens.teacher_agrees == (both[0].argmax(-1) == both[1].argmax(-1)).tolist()


def test_the_teacher_alone(world, dense, settings, tmp_path):
    """Without a model, the store's predictions and signal are evaluated: the numbers beside a student's."""
    beside = evaluate(world.model, dense, tmp_path / "run", settings, METRICS).teacher
    alone = evaluate(None, dense, tmp_path / "alone", settings)
    assert alone.model.kind == "stored"
    assert alone.model.name == beside.name
    assert alone.speed is None
    assert alone.teacher is None
    assert not alone.left_out, "the teacher is not compared with itself"
    for name, metric in beside.metrics.items():
        assert alone.metrics[name] == metric, name


def test_teacher_limit(world, dense, settings, tmp_path):
    fewer = settings.model_copy(update={"teacher_limit": 10})
    results = evaluate(world.model, dense, tmp_path / "run", fewer, ["f1", "knowledge_retention"])
    first = evaluate(world.model, dense, tmp_path / "first", settings.model_copy(update={"limit": 10}), ["f1"])
    assert results.data.rows == ROWS
    assert results.teacher.rows == 10
    assert results.teacher.metrics["f1"] == first.teacher.metrics["f1"]
    assert results.gaps["f1"] == first.gaps["f1"]
    assert results.metrics["f1"].value != first.metrics["f1"].value
    assert results.metrics["knowledge_retention"].value == pytest.approx(1)
    assert results.metrics["output_agreement"].value == pytest.approx(1)
    scores = [sample.teacher_scores for sample in read_predictions(tmp_path / "run" / PREDICTIONS)]
    assert [one is not None for one in scores] == [True] * 10 + [False] * (ROWS - 10)


@pytest.mark.parametrize(
    ("codec", "options"), [("topk", ["k=16"]), ("lowrank", ["rank=8"]), ("dense", ["dtype=int8"])]
)
def test_other_codecs(world, settings, tmp_path, codec, options):
    path = build(world, tmp_path / "a.kd", "--codec", codec, *(x for one in options for x in ("--codec-set", one)))
    results = evaluate(world.model, path, tmp_path / "run", settings, ["kl", "top1_agreement", "loss"])
    assert results.metrics["kl"].value == pytest.approx(0, abs=0.05)
    assert results.metrics["top1_agreement"].value > 0.95
    assert results.teacher.metrics["loss"].value == pytest.approx(results.metrics["loss"].value, abs=1e-4)


def test_draws_say_nothing_of_single_tokens(world, settings, tmp_path):
    path = build(world, tmp_path / "a.kd", "--codec", "sampled")
    results = evaluate(world.model, path, tmp_path / "run", settings)
    assert "signal" in results.left_out["kl"]
    with pytest.raises(CapabilityError, match="kl"):
        evaluate(world.model, path, tmp_path / "run", settings, ["kl"])


def test_a_temperature_that_is_not_kept(world, settings, tmp_path):
    path = build(world, tmp_path / "a.kd", "--codec", "topk")
    odd = settings.model_copy(update={"temperature": 3.0})
    with pytest.raises(CapabilityError, match="kl"):
        evaluate(world.model, path, tmp_path / "run", odd, ["kl"])


def test_predecessors_options(world, dense, tmp_path):
    result = invoke(
        "run", "--teacher_data", dense, "--student_model_path", world.model, "--student_limit", 5, "--device", "cpu",
        "--temperature", "1.5", "--teacher-limit", 3, "--metrics", "f1,kl", "--into", tmp_path / "run", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["data"]["rows"] == 5
    assert found["teacher"]["rows"] == 3
    assert found["settings"]["temperature"] == 1.5


def test_teacher_alone_by_command(dense, world, tokenizer, tmp_path):
    result = invoke("run", "--teacher_data", dense, "--into", tmp_path / "run", "--metrics", "f1,loss")
    assert result.exit_code == 0, result.stderr
    assert "Cross-entropy" in result.stdout
    assert_fails(invoke("run", "--data", dense), 2, "--into")
    assert_fails(invoke("run", "--into", tmp_path), 2, "--data")
    assert_fails(invoke("run", world.model, "--data", dense, "--teacher-data", dense), 2, "both")
    result = invoke("run", "--data", world.raw, "--into", tmp_path / "raw")
    assert_fails(result, CapabilityError.exit_code, "predictions of a teacher")


def test_rows_with_a_teachers_predictions(world, settings, tmp_path):
    """Raw rows may hold what a teacher wrote, as the predecessor's do."""
    rows = [json.loads(line) for line in world.raw.read_text().splitlines()]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row | {"teacher_prediction": row["assertion"]}) + "\n" for row in rows))
    alone = evaluate(None, path, tmp_path / "alone", settings, ["exact_match", "f1"])
    assert alone.metrics["exact_match"].value == 1
    both = evaluate(world.model, path, tmp_path / "both", settings, ["exact_match", "output_agreement"])
    assert both.teacher.metrics["exact_match"].value == 1
    assert both.gaps["exact_match"].value == both.metrics["exact_match"].value - 1
    path.write_text(path.read_text() + json.dumps(rows[0] | {"teacher_prediction": 3}) + "\n")
    assert evaluate(None, path, tmp_path / "bad", settings, ["f1"]).data.rejected == 1
