"""``kdtrain show-config``: what a run would have, and where from; a DeepSpeed configuration that matches."""

import json

import pytest
from click.testing import CliRunner

from kdtrain.cli import main
from kdtrain.config import Config, read_recipe, resolve, sections
from kdtrain.schedules import rate


def show(*words, code=0):
    result = CliRunner().invoke(main, ["show-config", *map(str, words)])
    assert result.exit_code == code, result.stderr
    return result


def test_the_listing_names_values_sources_and_checksum():
    text = show("--preset", "quick_start", "--lr", 1e-4, "--set", "run.seed=3").stdout
    lines = {line.split()[0]: line.split(maxsplit=2)[1:] for line in text.splitlines() if line.startswith("  ")}
    assert lines["lr"] == ["0.0001", "--lr"]
    assert lines["seed"] == ["3", "--set run.seed"]
    assert lines["max_train_samples"] == ["200", "preset quick_start"]
    assert lines["validator"] == ['"java"', "recipe java_student"]
    assert lines["alpha"] == ["0.5", "default"]
    digest = json.loads(show("--preset", "quick_start", "--lr", 1e-4, "--set", "run.seed=3", "--json").stdout)
    assert text.splitlines()[-1] == f"sha256 {digest['sha256']}"


def test_json_has_every_value_with_its_source():
    found = json.loads(show("--json", "--epochs", 2).stdout)
    config = Config.model_validate(found["config"])
    assert config == resolve(read_recipe("java_student"), {"epochs": 2})
    assert found["sha256"] == config.sha256()
    for section, kind in sections().items():
        assert found["sources"][section].keys() == kind.model_fields.keys()
    assert found["sources"]["schedule"]["epochs"] == "--epochs"


def test_toml_is_a_recipe_for_the_same(tmp_path):
    words = ["--preset", "code_quality_focused", "--loss-weights", "1", "2", "3", "4", "5", "--json"]
    first = json.loads(show(*words).stdout)
    (tmp_path / "mine.toml").write_text(show(*words[:-1], "--toml").stdout)
    again = json.loads(show("--recipe", tmp_path / "mine.toml", "--json").stdout)
    assert again["config"] == first["config"]
    assert again["sources"]["loss"]["loss_weights"] == f"recipe {tmp_path / 'mine.toml'}"


def test_it_is_what_the_run_records(stores, model_dir, tmp_path):
    words = [
        stores[0].root, "--val", stores[1].root, "--model-name", model_dir, "--device", "cpu", "--max-steps", 1,
        "--loss-function", "traditional", "--no-temperature-decay", "--no-after", "--output-dir", tmp_path / "run",
        "--set", "run.gradient_steps=0",
    ]  # fmt: skip
    shown = json.loads(show(*words, "--json").stdout)
    result = CliRunner().invoke(main, ["student", *map(str, words)])
    assert result.exit_code == 0, result.stderr
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == shown["config"]
    assert (tmp_path / "run" / "config.sha256").read_text().split()[0] == shown["sha256"]
    sources = json.loads((tmp_path / "run" / "config_sources.json").read_text())
    assert sources == {
        f"{section}.{key}": source
        for section, table in shown["sources"].items()
        for key, source in table.items()
        if source != "default"
    }
    assert sources["loss.temperature_decay"] == "--temperature-decay"


def test_of_a_teacher():
    found = json.loads(show("rows.jsonl", "--for", "teacher", "--val-fraction", 0.2, "--json").stdout)
    assert found["config"]["model"]["model_name"] == "Salesforce/codet5p-770m"
    assert found["config"]["loss"]["loss_components"] == ["ce"]
    assert found["sources"]["loss"]["alpha"] == "teachers"
    refused = show("--for", "teacher", "--alpha", 0.5, code=2)
    assert "no --alpha" in refused.stderr
    assert "no --vocab-size" in show("--vocab-size", 500, code=2).stderr


def test_deepspeed_trains_as_we_do():
    words = ["--batch-size", 32, "--gradient-accumulation-steps", 2, "--dtype", "bf16", "--max-steps", 40]
    found = json.loads(show(*words, "--lr", 1e-3, "--adam-beta2", 0.95, "--deepspeed", "--processes", 4).stdout)
    assert found["train_batch_size"] == 64
    assert found["train_micro_batch_size_per_gpu"] * found["gradient_accumulation_steps"] * 4 == 64
    assert found["zero_optimization"]["stage"] == 2
    assert found["gradient_clipping"] == 1
    assert found["bf16"] == {"enabled": True}
    assert "fp16" not in found
    assert found["optimizer"] == {
        "type": "AdamW", "params": {"lr": 1e-3, "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.01},
    }  # fmt: skip
    assert found["scheduler"]["type"] == "WarmupDecayLR"
    course = found["scheduler"]["params"]
    assert (course["warmup_num_steps"], course["total_num_steps"], course["warmup_max_lr"]) == (6, 40, 1e-3)
    # The highest rate is reached at the same step, and both are linear on either side of it.
    assert rate(course["warmup_num_steps"] - 1, 6, 40) == 1


def test_deepspeed_has_a_cosine_with_an_end_above_zero_and_no_such_line():
    words = ["--max-steps", 40, "--final-lr-factor", 0.1, "--deepspeed"]
    found = json.loads(show(*words, "--lr-decay", "cosine").stdout)["scheduler"]
    assert found["type"] == "WarmupCosineLR"
    assert found["params"]["cos_min_ratio"] == 0.1
    result = show(*words)
    assert "scheduler" not in json.loads(result.stdout)
    assert "no scheduler" in result.stderr


@pytest.mark.parametrize(
    ("options", "batches"),
    [
        ([], 12),
        (["--batch-size", 10], 10),
        (["--batch-size", 10, "--last-batch", "drop"], 9),
        (["--max-train-samples", 40], 5),
        (["--epoch-samples", 17], 3),
        (["--max-train-samples", 9, "--epoch-samples", 17], 2),
    ],
    ids=str,
)
def test_deepspeed_counts_the_steps_of_a_store(stores, options, batches):
    import torch

    from kdtrain.loaders import Needs, make_loaders

    words = ["--batch-size", 8, *options, "--epochs", 3, "--gradient-accumulation-steps", 2]
    found = json.loads(show(stores[0].root, *words, "--deepspeed").stdout)
    expected = 3 * -(-batches // 2)
    assert found["scheduler"]["params"]["total_num_steps"] == expected
    config = Config.model_validate(json.loads(show(*words, "--json").stdout)["config"])
    loader, _ = make_loaders(stores[:1], None, config, torch.device("cpu"), Needs(True))
    assert loader.batches == batches


def test_deepspeed_needs_to_know_how_long_and_how_many(stores):
    assert "--max-steps" in show("--deepspeed", code=2).stderr
    assert "3 processes" in show("--deepspeed", "--max-steps", 1, "--processes", 3, code=2).stderr
