"""The main job from Java source to report, through the commands alone, on a part of examples/java."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click import Command
from click.testing import CliRunner

import kdeval.cli
import kdstore.cli
import kdtrain.cli

from ..encoders import sentence_encoder

EXAMPLES = Path(__file__).parents[2] / "examples" / "java"


def run(program: Command, *args: object) -> str:
    result = CliRunner().invoke(program, [str(arg) for arg in args])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that the main job leaves behind."""
    root = tmp_path_factory.mktemp("job")
    for side in ("main", "test"):
        for domain in ("money", "text", "geometry", "collections"):
            folder = Path("src") / side / "java" / "dev" / "kdexamples" / domain
            shutil.copytree(EXAMPLES / folder, root / "java" / folder)
    sizes = ["--max-input-len", 128, "--max-output-len", 48]
    run(kdstore.cli.main, "mine", root / "java", "--out", root / "rows.jsonl", "--repo", "kdexamples/java")
    run(
        kdtrain.cli.main, "teacher", root / "rows.jsonl", "--output-dir", root / "teacher", "--from-scratch", "micro",
        "--vocab-size", 600, "--batch-size", 16, "--lr", 3e-3, "--max-steps", 30, *sizes, "--no-after",
    )  # fmt: skip
    teacher = root / "teacher" / "final_model"
    run(
        kdstore.cli.main, "build", root / "rows.jsonl", "--teacher", teacher,
        "--out", root / "train.kd", "--val-out", root / "val.kd", "--codec", "lowrank", *sizes,
    )  # fmt: skip
    run(
        kdtrain.cli.main, "student", root / "train.kd", "--val", root / "val.kd", "--output-dir", root / "student",
        "--from-scratch", "micro", "--batch-size", 16, "--lr", 3e-3, "--epochs", 2, *sizes,
        "--loss-function", "traditional", "--no-after",
    )  # fmt: skip
    encoder = ["--embedding-model", sentence_encoder()]
    run(kdeval.cli.main, "run", root / "student" / "final_model", "--data", root / "val.kd", *encoder)
    run(kdeval.cli.main, "run", teacher, "--data", root / "val.kd", "--into", root / "teacher", *encoder)
    run(kdeval.cli.main, "report", root / "student", "--teacher-run", root / "teacher", "--out", root / "report.html")
    return root


def test_the_run_directory_holds_what_its_users_look_for(job: Path) -> None:
    for name in (
        "final_model/model.safetensors", "final_model/tokenizer.json", "best_model/model.safetensors",
        "best_model/tokenizer.json", "step_metrics.csv", "training_metrics.csv", "training_report.json",
        "multi_component_loss_summary.json", "epoch_2_summary.json", "distillation_log.txt", "tensorboard",
        "config.json",
        "config.sha256", "command.txt", "predictions_final.jsonl", "metrics_summary_final.json", "metrics_final.csv",
        "evaluation_metrics.json",
    ):  # fmt: skip
        assert (job / "student" / name).exists(), name


def test_the_student_learns_from_the_store(job: Path) -> None:
    with (job / "student" / "training_metrics.csv").open() as file:
        losses = [float(row["val_loss"]) for row in csv.DictReader(file)]
    assert len(losses) == 3
    assert losses[-1] < 0.9 * losses[0]


def test_predictions_are_the_models_own(job: Path) -> None:
    lines = [json.loads(line) for line in (job / "student" / "predictions_final.jsonl").read_text().splitlines()]
    info = json.loads(run(kdstore.cli.main, "inspect", job / "val.kd", "--json"))
    assert len(lines) == info["rows"] > 0
    assert any(line["prediction"].strip() for line in lines)


def test_trainer_and_evaluation_measure_the_same_loss(job: Path) -> None:
    """Two programs, two ways through the model, one number."""
    with (job / "student" / "training_metrics.csv").open() as file:
        last = [float(row["val_ce_loss"]) for row in csv.DictReader(file)][-1]
    summary = json.loads((job / "student" / "metrics_summary_final.json").read_text())
    assert summary["metrics"]["loss"]["value"] == pytest.approx(last, rel=1e-4)


def test_stored_and_fresh_teacher_score_the_same(job: Path) -> None:
    stored = json.loads((job / "student" / "metrics_summary_final.json").read_text())["teacher"]["metrics"]
    fresh = json.loads((job / "teacher" / "metrics_summary_final.json").read_text())["metrics"]
    for name in ("exact_match", "f1", "code_quality", "token_accuracy", "loss"):
        assert stored[name]["value"] == pytest.approx(fresh[name]["value"], abs=0.02), name


def test_the_report_shows_both_models(job: Path) -> None:
    page = (job / "report.html").read_text()
    assert "Student" in page
    assert "Teacher" in page
    assert "<svg" in page
    assert (job / "report.md").read_text().startswith("# ")


@pytest.mark.long
def test_an_ablation_measures_a_component_before_and_after(job: Path, tmp_path: Path) -> None:
    out = tmp_path / "ablation.json"
    command = [
        sys.executable, EXAMPLES.parents[1] / "tools" / "ablation.py", job / "train.kd", "--val", job / "val.kd",
        "--start", job / "student" / "final_model", "--steps", 40, "--lr", 1e-3, "--limit", 4, "--only", "pans,ce",
        "--json", out,
    ]  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    records = json.loads(out.read_text(encoding="utf-8"))
    assert [record["name"] for record in records] == ["ce", "pans"]
    for record in records:
        before, after = record["components"][record["name"]]
        assert after < before
        assert record["step_ms"] > 0
        assert {"f1", "bleu", "ast_validity", "critical_accuracy", "other_accuracy"} <= record["after"].keys()
