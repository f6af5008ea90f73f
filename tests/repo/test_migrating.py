"""docs/migrating.md answers for everything that the predecessor's documents name.

The documents are not part of the repository. What they name is listed here; where they lie beside it, the lists are
compared with them.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/migrating.md").read_text(encoding="utf-8")
DOCUMENTS = ROOT.parent / "shared/predecessors"

FLAGS = (
    "--alpha", "--ast_weight", "--batch_size", "--critical_token_weight", "--device", "--dropout_rate",
    "--enable_dynamic_weighting", "--enable_epoch_sampling", "--enable_token_weighting", "--epochs", "--fp16",
    "--generate_distillation_data", "--gradient_accumulation_steps", "--log_file", "--loss_components",
    "--loss_function", "--loss_weights", "--lr", "--max_input_len", "--max_output_len", "--max_train_samples",
    "--max_val_samples", "--model_name", "--no-generate_distillation_data", "--num_workers", "--output_dir",
    "--pans_weight", "--pin_memory", "--sampling_seed", "--seed", "--semantic_loss_scale", "--student_limit",
    "--student_model_path", "--teacher_data", "--temperature", "--train_data_path", "--training_dir",
    "--use_enhanced_metrics", "--val_data_path", "--validation_frequency", "--warmup_ratio", "--warmup_steps",
    "--weight_decay",
)  # fmt: skip
# Of other programs: python --version, tensorboard --logdir, every --help.
FOREIGN = {"--help", "--version", "--logdir"}
OUTPUTS = (
    "training_report.json", "training_metrics.csv", "epoch_N_summary.json", "distillation_log.txt",
    "predictions_final.jsonl", "metrics_final.csv", "metrics_summary_final.json",
    "multi_component_loss_summary.json", "final_model/", "best_model/", "step_metrics.csv", "tensorboard/",
    "evaluation_metrics.json", "distillation_data_training.jsonl", "distillation_data_validation.jsonl",
)  # fmt: skip
# Inputs that examples invent, and a file of another program.
INPUTS = {
    "large_dataset.jsonl", "raw_training.jsonl", "raw_validation.jsonl", "training.jsonl", "validation.jsonl",
    "requirements.txt",
}  # fmt: skip
GROUPS = (
    "training", "optimizer", "LR schedule", "model and dropout", "generation", "distillation", "PANS", "AST",
    "evaluation", "metrics", "temperature decay", "alpha adaptation", "progressive scheduling", "hardware", "memory",
    "data", "augmentation", "regularisation", "early stopping", "debugging", "experiment", "token weighting",
)  # fmt: skip
PROGRAMS = (
    "knowledge_distillation.py",
    "train_codet5_assertions.py",
    "evaluate_assertions.py",
    "analyse_loss_scaling.py",
)
PRESETS = ("quick_start", "high_quality", "memory_constrained", "code_quality_focused")


def rows(heading: str) -> list[str]:
    """First cells of the tables under a heading."""
    section = re.split(r"^#+ ", PAGE.split(f"# {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    return [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")]


@pytest.mark.parametrize("flag", FLAGS)
def test_every_option_has_a_row(flag):
    cells = [*rows("Options of a student"), *rows("Options of a teacher"), *rows("Options of the evaluation")]
    assert any(f"`{flag}`" in cell for cell in cells)


@pytest.mark.parametrize("name", OUTPUTS)
def test_every_output_is_accounted_for(name):
    assert f"`{name}`" in PAGE
    if not name.startswith("distillation_data"):
        assert f"`{name}`" in rows("Outputs")


def test_every_group_of_the_configuration_has_a_row():
    assert rows("Groups of its configuration")[1:] == list(GROUPS)


@pytest.mark.parametrize("name", [*PROGRAMS, *PRESETS])
def test_every_program_and_preset_is_named(name):
    assert any(name in cell for cell in rows("Programs")) or f"`{name}`" in PAGE


def test_parameters_that_are_named_for_groups_exist():
    from kdtrain.config import sections

    known = {name for section in sections().values() for name in section.model_fields}
    section = PAGE.split("# Groups of its configuration\n", 1)[1].split("\n#", 1)[0]
    named = {*re.findall(r"`([a-z][a-z0-9]*(?:_[a-z0-9]+)+)`", section)}
    assert len(named) > 30
    assert named <= known


def _documents() -> str:
    if not DOCUMENTS.is_dir():
        pytest.skip("the predecessor's documents are not beside the repository")
    return "".join(path.read_text(encoding="utf-8") for path in sorted(DOCUMENTS.glob("java-distillation*.md")))


def test_the_list_of_options_is_complete():
    assert {*re.findall(r"--[a-z][\w-]+", _documents())} == {*FLAGS, *FOREIGN}


def test_the_list_of_outputs_is_complete():
    found = {*re.findall(r"\w+\.(?:json|jsonl|csv|txt)\b|\w+_model/|tensorboard/", _documents())}
    assert found - INPUTS == {*OUTPUTS}


def test_the_commands_that_are_tested_are_those_of_the_documents():
    """Every call of a training program, but for those with placeholders, which are listed by their options alone."""
    listed = (ROOT / "tests/kdtrain/predecessor_commands.txt").read_text(encoding="utf-8").splitlines()
    ours = {" ".join(line.split()[2:]) for line in listed if line.startswith("kdtrain ")}
    text = re.sub(r"\\\n\s*", "", _documents())
    calls = re.findall(r"^python (?:knowledge_distillation|train_codet5_assertions)\.py +(.*)$", text, re.MULTILINE)
    assert len(calls) > 20
    for call in calls:
        words = call.split("[")[0].strip()
        if words not in ("", "--help", "--seed 42", "--seed 42 --sampling_seed 42 --enable_epoch_sampling"):
            assert words in ours, words
