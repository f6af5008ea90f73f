"""The commands as a user meets them: exit codes, one line of error, the run directory."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from kdstore.store.manifest import ImportRecord
from kdtrain.cli import main
from kdtrain.config import LossConfig

# What a store of top-k signals can serve.
PLAIN = ("--loss-function", "traditional", "--no-temperature-decay")


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def fails(result, code, *words):
    """The command ended with ``code`` and one line on stderr that holds all ``words``."""
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert result.exit_code == code, result.stderr
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("kdtrain: error: ")
    assert all(word in lines[0] for word in words), lines[0]


@pytest.fixture
def student(stores, model_dir, tmp_path):
    """Run ``kdtrain student`` on the small store, on cross-entropy and KL: one step unless asked for more."""

    def run(*arguments, store=stores[0].root, name="run", model=("--model-name", model_dir), steps=1):
        common = [
            "--output-dir",
            tmp_path / name,
            "--device",
            "cpu",
            "--max-steps",
            steps,
            "--no-after",
            *model,
            *PLAIN,
        ]
        return invoke("student", store, "--val", stores[1].root, *common, *arguments)

    return run


def test_help_imports_no_torch():
    program = (
        "import sys, click.testing; from kdtrain.cli import main\n"
        "for command in ['student', 'teacher']:\n"
        "    assert click.testing.CliRunner().invoke(main, [command, '--help']).exit_code == 0\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_student(student, tmp_path):
    result = student("--temperature", 2, "--loss-components", "ce", "jsd", "--alpha", 0.25)
    assert result.exit_code == 0, result.stderr
    assert "validation loss at start" in result.stdout
    config = (tmp_path / "run" / "config.json").read_bytes()
    told = {
        "loss_function": "traditional", "loss_components": ["ce", "jsd"], "alpha": 0.25, "temperature": 2.0,
        "temperature_decay": False,
    }  # fmt: skip
    assert json.loads(config)["loss"] == {**LossConfig().model_dump(mode="json"), **told}
    recorded = (tmp_path / "run" / "config.sha256").read_text().split()
    assert recorded == [hashlib.sha256(config).hexdigest(), "config.json"]
    assert "torch 2" in (tmp_path / "run" / "command.txt").read_text()
    assert "jsd_loss_raw" in (tmp_path / "run" / "step_metrics.csv").read_text()
    # A store of a few rows says nothing of its fidelity: that is told, and kept.
    assert "nobody measured" in result.stderr
    assert "nobody measured" in (tmp_path / "run" / "distillation_log.txt").read_text()


def test_output_directory_in_use(student, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    fails(student(), 9, "in use", "--resume auto")
    result = student("--resume", "auto")
    assert result.exit_code == 0
    assert "starting fresh" in result.stderr
    result = student("--resume", "auto")
    assert result.exit_code == 0
    assert "continuing after step 1" in result.stderr


def test_output_directory_is_a_file(student, tmp_path):
    (tmp_path / "run").write_text("mine")
    fails(student(), 9, "directory")


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write anywhere")
def test_output_directory_is_read_only(student, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    fails(student(name="locked/run"), 9, "writable")


def test_settings_that_cannot_work_are_refused(student, tmp_path, make_store):
    fails(student("--temperature", 3), 7, "1, 2, 4", "Got 3")
    fails(student("--dtype", "fp16"), 7, "bf16")
    fails(student("--device", "cuda:99"), 7, "cuda:99")
    fails(student("--batch-size", 0), 2, "batch_size")
    fails(student("--loss-components", "ce,kll"), 2, "'kll'", "'kl'")
    fails(student("--max-input-len", 32), 4, "32", "64", "--max-input-len")
    fails(student("--from-scratch", "tiny"), 2, "both")
    fails(student(model=("--from-scratch", "tinny")), 2, "tinny", "tiny")
    fails(student(model=("--model-name", tmp_path / "nothing")), 8, "Give a local directory")
    fails(student(store=tmp_path / "nothing.kd"), 5, "nothing.kd")
    fails(student("--recipe", "java_studnt"), 2, "java_student")
    tokens = make_store(tmp_path / "tokens.kd", 20, codec=None)
    fails(student(store=tokens.root), 7, "--alpha 1")
    assert not (tmp_path / "run").exists()
    assert student("--alpha", 1, store=tokens.root).exit_code == 0


def test_vocabularies_must_match(student, make_store, model_dir, vocab_size, tmp_path):
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    model = AutoModelForSeq2SeqLM.from_pretrained(model_dir)
    model.resize_token_embeddings(vocab_size + 8)
    model.save_pretrained(tmp_path / "wide")
    fails(student(model=("--model-name", tmp_path / "wide")), 4, str(vocab_size), str(vocab_size + 8))
    # Of the right width but with another tokenizer: every token would be another one.
    model.resize_token_embeddings(vocab_size)
    model.save_pretrained(tmp_path / "other")
    assert student(model=("--model-name", tmp_path / "other"), name="bare").exit_code == 0
    tokenizer = json.loads((model_dir / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["!"], vocabulary["#"] = vocabulary["#"], vocabulary["!"]
    AutoTokenizer.from_pretrained(model_dir).save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "tokenizer.json").write_text(json.dumps(tokenizer))
    fails(student(model=("--model-name", tmp_path / "other")), 4, "tokenizer", "has id")


def test_stores_must_match(student, make_store, tmp_path, stores):
    from kdstore.store.manifest import TokenizerRecord

    other = TokenizerRecord(**{**stores[0].head.tokenizer.model_dump(), "sha256": "1" * 64})
    strange = make_store(tmp_path / "strange.kd", 20, tokenizer=other)
    fails(student(store=strange.root), 4, "tokenizer", "111111", "000000")


@pytest.mark.parametrize("codec", ["topk", "dense", "sampled"])
def test_signals_must_lie_at_their_labels(student, make_store, tmp_path, codec):
    shifted = make_store(tmp_path / "shifted.kd", 40, codec=codec, shift=1)
    told = ("--temperature", 1)
    fails(student(*told, store=shifted.root), 4, "nats away", "of the label before", "shifted by one", "row 'row-0'")
    # Labels alone are not shifted.
    assert student(*told, "--alpha", 1, store=shifted.root).exit_code == 0


def test_the_template_must_be_the_tasks(student, make_store, tmp_path):
    other = make_store(tmp_path / "other.kd", 20, template="{focal_method}")
    fails(student(store=other.root), 4, "{test_method}", "Got '{focal_method}'")


@pytest.mark.parametrize("key", ["decoder_start_token_id", "eos_token_id", "pad_token_id"])
def test_special_ids_must_be_the_stores(student, model_dir, tmp_path, key):
    other = shutil.copytree(model_dir, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    expected = config[key]
    (other / "config.json").write_text(json.dumps({**config, key: 5}))
    fails(student(model=("--model-name", other)), 4, f"{key} {expected}", "Got 5")


def test_a_store_that_is_not_true_enough_is_refused(student, make_store, tmp_path):
    fidelity = [("kl", 1.0, 4.0), ("kl", 2.0, 46.6), ("kl", 4.0, 33.9), ("jsd", 4.0, 3.0)]
    store = make_store(tmp_path / "store.kd", 40, fidelity=fidelity).root
    words = ("10 degrees", "33.9 degrees", "'kl'", "T = 4", "label frequencies", "--codec lowrank", "--temperature 1")
    fails(student(store=store), 7, *words, "--accept-infidelity")
    fails(student("--max-angle", 3, "--temperature", 1, store=store), 7, "3 degrees", "4.0 degrees")
    assert not (tmp_path / "run").exists()
    assert student("--temperature", 1, store=store, name="cold").exit_code == 0
    assert student("--loss-components", "ce,jsd", store=store, name="jsd").exit_code == 0
    assert student("--max-angle", 34, store=store, name="wide").exit_code == 0
    assert student("--alpha", 1, store=store, name="labels").exit_code == 0


def test_what_is_accepted_is_recorded(student, make_store, tmp_path):
    store = make_store(tmp_path / "store.kd", 40, fidelity=[("kl", 4.0, 33.9)]).root
    result = student("--accept-infidelity", store=store)
    assert result.exit_code == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["loss"]["accept_infidelity"] is True
    for told in (result.stderr, (tmp_path / "run" / "distillation_log.txt").read_text()):
        assert "33.9 degrees" in told
        assert "accepted by --accept-infidelity" in told


def test_a_temperature_outside_those_measured_must_be_accepted(student, make_store, tmp_path):
    store = make_store(tmp_path / "store.kd", 40, fidelity=[("kl", 2.0, 2.0), ("kl", 4.0, 3.0)]).root
    fails(student("--temperature", 1, store=store), 7, "at T = 1", "T = 2 to 4", "--accept-infidelity")
    accepted = student("--temperature", 1, "--accept-infidelity", store=store)
    assert accepted.exit_code == 0
    assert "T = 2 to 4, accepted" in " ".join(accepted.stderr.split())
    assert "accepted" not in student("--temperature", 2, store=store, name="between").stderr


def test_a_recipe_may_accept_too(student, make_store, tmp_path):
    store = make_store(tmp_path / "store.kd", 40, fidelity=[("kl", 4.0, 33.9)]).root
    (tmp_path / "mine.toml").write_text("[loss]\naccept_infidelity = true\n")
    assert student("--recipe", tmp_path / "mine.toml", store=store).exit_code == 0


def test_draws_serve_one_loss_and_no_other(student, make_store, tmp_path):
    store = make_store(tmp_path / "drawn.kd", 40, codec="sampled", codec_config={"temperature": 2}).root
    asked = ("--temperature", 2, "--loss-components", "ce", "jsd")
    fails(student(*asked, store=store), 7, "'sampled'", "Got 'jsd'", "lowrank")
    fails(student("--temperature", 1, store=store), 7, "2", "Got 1")
    result = student("--temperature", 2, store=store)
    assert result.exit_code == 0, result.stderr
    assert "does not serve T = 1" in result.stderr


def test_sequences_for_a_causal_model_are_refused(student, make_store, tmp_path):
    imported = ImportRecord(format="openai", settings={}, headers=(), causal=True)
    store = make_store(tmp_path / "causal.kd", 20, teacher=None, imported=imported).root
    fails(student(store=store), 7, "openai", "one sequence")


def test_a_corrupt_store_is_refused(make_store, student, tmp_path):
    store = make_store(tmp_path / "broken.kd", 20)
    next((store.root / "parts/00000/labels/values").rglob("c/*")).unlink()
    fails(student(store=store.root), 6, "labels")


RECIPE = """
[run]
after = ["python", "-c", "import sys, pathlib; pathlib.Path(sys.argv[1], 'after.txt').write_text(sys.argv[2])", "{run}", "{val}"]
"""  # noqa: E501


def test_the_command_after_training(stores, model_dir, tmp_path):
    def run(name, recipe, *arguments):
        path = tmp_path / f"{name}.toml"
        path.write_text(recipe)
        common = ["--recipe", path, "--output-dir", tmp_path / name, "--model-name", model_dir, "--max-steps", 1]
        return invoke("student", stores[0].root, *common, *PLAIN, *arguments)

    assert run("good", RECIPE, "--val", stores[1].root).exit_code == 0
    assert (tmp_path / "good" / "after.txt").read_text() == str(stores[1].root)
    skipped = run("skipped", RECIPE)
    assert skipped.exit_code == 0
    assert "no validation store" in skipped.stderr
    failed = run("failed", '[run]\nafter = ["python", "-c", "raise SystemExit(3)"]')
    assert failed.exit_code == 9
    assert "exit code 3" in failed.stderr
    assert (tmp_path / "failed" / "final_model").is_dir()
    missing = run("missing", '[run]\nafter = ["no-such-program"]')
    assert missing.exit_code == 9
    assert run("off", '[run]\nafter = ["no-such-program"]', "--no-after").exit_code == 0


def test_recipes_and_options(student, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[optimizer]\nlr = 0.002\n[schedule]\nwarmup_steps = 5\n")
    assert student("--recipe", path, "--lr", 0.001).exit_code == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["optimizer"]["lr"] == 0.001
    assert config["schedule"]["warmup_steps"] == 5
    assert config["data"]["batch_size"] == 4
    path.write_text("[optimiser]\nlr = 1\n")
    fails(student("--recipe", path, name="x"), 2, "'optimiser'", "'optimizer'")
    path.write_text("[schedule]\nepoch = 1\n")
    fails(student("--recipe", path, name="x"), 2, "'epoch'", "'epochs'", "[schedule]")
    path.write_text("[schedule\n")
    fails(student("--recipe", path, name="x"), 2, "TOML")
    path.write_text("schedule = 3\n")
    fails(student("--recipe", path, name="x"), 2, "[schedule]")


def rows(path, count):
    with path.open("w") as file:
        for i in range(count):
            row = {
                "focal_method": f"int size{i}() {{ return {i}; }}",
                "test_method": f"void test{i}() {{ List list = new List();",
                "assertion": f"assertEquals({i % 7}, list.size());",
                "repo": "r",
                "path": f"T{i % 12}.java",
            }
            file.write(json.dumps(row) + "\n")
    return path


def test_teacher(tmp_path):
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    source, run = rows(tmp_path / "rows.jsonl", 60), tmp_path / "teacher"
    options = ["--from-scratch", "micro", "--vocab-size", 300, "--max-steps", 3, "--device", "cpu", "--no-after"]
    result = invoke("teacher", source, "--output-dir", run, *options)
    assert result.exit_code == 0, result.stderr
    assert (run / "data" / "train.kd" / "manifest.json").is_file()
    assert (run / "data" / "val.kd" / "manifest.json").is_file()
    assert (run / "best_model").is_dir()
    model, tokenizer = (kind.from_pretrained(run / "final_model") for kind in (AutoModelForSeq2SeqLM, AutoTokenizer))
    assert model.config.vocab_size == len(tokenizer) <= 300
    text = "assertEquals(3, list.size());  // é\n"
    ids = tokenizer(text).input_ids
    assert ids[-1] == tokenizer.eos_token_id == 1
    assert tokenizer.pad_token_id == model.config.decoder_start_token_id == 0
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    fails(invoke("teacher", source, "--output-dir", run, *options), 9, "in use")
    again = invoke("teacher", source, "--output-dir", run, "--resume", "auto", *options)
    assert again.exit_code == 0, again.stderr
    assert "continuing after step 3" in again.stderr


@pytest.mark.parametrize(
    ("code", "options"),
    [
        (7, ["--dtype", "fp16"]),
        (7, ["--device", "cuda:99"]),
        (2, ["--from-scratch", "tinny"]),
        *((2, ["--val-fraction", value]) for value in ("nan", "-1", "0", "1", "inf")),
    ],
)
def test_teacher_settings_are_refused_before_anything_is_written(tmp_path, code, options):
    source, run = rows(tmp_path / "rows.jsonl", 20), tmp_path / "teacher"
    common = ["--output-dir", run, "--from-scratch", "micro", "--vocab-size", 300, "--device", "cpu"]
    fails(invoke("teacher", source, *common, *options), code, options[1])
    assert not run.exists()


def test_teacher_without_usable_rows(tmp_path):
    source = tmp_path / "rows.jsonl"
    source.write_text("not json\n{}\n")
    fails(invoke("teacher", source, "--output-dir", tmp_path / "t", "--from-scratch", "micro"), 3, "usable row")
    fails(invoke("teacher", tmp_path / "no.jsonl", "--output-dir", tmp_path / "t", "--from-scratch", "micro"), 3)


def test_ctrl_c_keeps_the_last_checkpoint(stores, model_dir, tmp_path):
    run = tmp_path / "run"
    command = [Path(sys.executable).with_name("kdtrain"), "student", stores[0].root, "--output-dir", run]
    command += [*PLAIN, "--model-name", model_dir, "--epochs", "2000", "--device", "cpu", "--checkpoint-steps", "5"]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(run.glob("checkpoints/step-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert list(run.glob("checkpoints/step-*/state.pt"))
    assert "stopped at step" in (run / "distillation_log.txt").read_text()
