"""The training loop: it learns, adds up batches exactly, resumes to the bit, and stops before damage."""

import csv
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from kdstore.errors import MismatchError, TrainingError, UsageError
from kdtrain import checkpoint, rundir
from kdtrain.config import resolve
from kdtrain.distributed import Processes
from kdtrain.logs.run_log import RunLog
from kdtrain.losses.ce import CrossEntropy
from kdtrain.losses.fused import LossOut
from kdtrain.run import Stores, train
from kdtrain.student import Student
from kdtrain.validators import VALIDATORS, Validator

TIMED = {
    "timestamp", "tokens_per_second", "data_wait", "memory_usage_mb", "elapsed_time_seconds", "sampling_seconds",
    "validation_seconds", "metrics_seconds",
}  # fmt: skip
# What a store of top-k signals can serve.
PLAIN = {"loss_function": "traditional", "temperature_decay": False}
# Everything that learns on the way, or changes.
LEARNING = {"enable_dynamic_weighting": True, "normalize_components": True, "enable_token_weighting": True}


@pytest.fixture
def fit(stores, model_dir, tmp_path):
    """A function that trains on cross-entropy and KL: ``fit("name", epochs=2, ...)`` gives its run directory."""

    def run(name="run", *, resume=False, val=stores[1], **options):
        return fit_on(stores[0], val, model_dir, tmp_path / name, resume, {**PLAIN, **options})

    return run


@pytest.fixture
def fit_default(dense_stores, model_dir, tmp_path):
    """The same with the default loss: focal, jsd and semantic at a temperature that falls."""

    def run(name="run", *, resume=False, val=dense_stores[1], **options):
        return fit_on(dense_stores[0], val, model_dir, tmp_path / name, resume, options)

    return run


def fit_on(store, val, model_dir, root, resume, options):
    options = {"model_name": str(model_dir), "device": "cpu", "batch_size": 8, "lr": 5e-3, "epochs": 2, **options}
    run = rundir.claim(root, "model", resume=resume)
    train(Stores((store,), val or None), resolve({}, options), run, resume=resume)
    return run


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def steps_of(run):
    return read(run.step_metrics)


def validations_of(run):
    return [row for row in read(run.metrics) if row["val_loss"]]


def exact(run):
    """All that was logged but times and memory."""
    rows = [row for path in (run.step_metrics, run.metrics, run.component_gradients) for row in read(path)]
    return [{name: value for name, value in row.items() if name not in TIMED} for row in rows]


def total_of(row, weights, column="{}_loss_raw"):
    """The sum of a row's components with the weights of another; beta is 5."""
    names = [name.removesuffix("_weight") for name in weights if name.endswith("_weight")]
    beta = {"semantic": 5}
    return sum(
        float(weights[f"{name}_weight"]) * beta.get(name, 1) * float(row[column.format(name)] or 0) for name in names
    )


def interrupt_after(monkeypatch, stop):
    """End abruptly, without a checkpoint, as soon as the row of this step is written."""
    row = RunLog.step

    def interrupted(self, record):
        row(self, record)
        if record.step == stop:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunLog, "step", interrupted)


def weights(run):
    return load_file(run.final_model / "model.safetensors")


def test_a_run_learns_and_leaves_what_it_promises(fit):
    run = fit(epochs=6, lr=2e-2, temperature=1.0)
    losses = [float(row["val_loss"]) for row in validations_of(run)]
    assert len(losses) == 7
    assert losses[-1] < 0.7 * losses[0]
    steps = steps_of(run)
    assert [int(row["step"]) for row in steps] == list(range(1, 73))
    assert steps[0]["epoch"] == "1"
    assert steps[-1]["epoch"] == "6"
    # 15 % of 72 steps: the rate rises for 11 steps, then falls to nearly nothing.
    rates = [float(row["learning_rate"]) for row in steps]
    assert max(rates) == rates[10] == 2e-2
    assert 0 < rates[-1] < 1e-3
    for row in steps:
        assert float(row["total_loss_weighted"]) == pytest.approx(
            (float(row["ce_loss_raw"]) + float(row["kl_loss_raw"])) / 2, rel=1e-5
        )
        assert (row["ce_weight"], row["kl_weight"], row["temperature"]) == ("0.5", "0.5", "1")
    names = {path.name for path in run.root.iterdir()}
    assert names == {
        "final_model", "best_model", "step_metrics.csv", "training_metrics.csv", "component_gradients.csv",
        "training_report.json", "multi_component_loss_summary.json", "distillation_log.txt", "tensorboard",
        "config.json", "config.sha256", "config_sources.json", "command.txt", "checkpoints",
        *(f"epoch_{epoch}_summary.json" for epoch in range(1, 7)),
    }  # fmt: skip
    assert [path.name for path in sorted(run.checkpoints.iterdir())] == ["step-00000060", "step-00000072"]
    assert any(run.tensorboard.iterdir())
    for path in (run.final_model, run.best_model):
        model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
        assert model.get_output_embeddings().weight.shape[0] == len(tokenizer)


def test_the_default_loss_learns_at_a_falling_temperature(fit_default):
    run = fit_default(epochs=6, lr=2e-2)
    losses = [float(row["val_loss"]) for row in validations_of(run)]
    assert losses[-1] < 0.7 * losses[0]
    for name in ("focal", "jsd", "semantic"):
        means = [float(row[f"val_{name}_loss"]) for row in validations_of(run)]
        assert means[-1] < means[0], name
    steps = steps_of(run)
    temperatures = [float(row["temperature"]) for row in steps]
    assert (temperatures[0], temperatures[-1]) == (4, 1.5)
    assert temperatures == sorted(temperatures, reverse=True)
    for row in steps:
        assert (row["focal_weight"], row["jsd_weight"], row["semantic_weight"]) == ("0.5", "0.5", "0.05")
        assert float(row["semantic_loss_weighted"]) == pytest.approx(0.25 * float(row["semantic_loss_raw"]), rel=1e-5)
        assert float(row["total_loss_weighted"]) == pytest.approx(total_of(row, row), rel=1e-5)
    # What the encoder's states are mapped by for the semantic loss is no part of the model.
    assert not any("projection" in name for name in weights(run))


def test_validation_is_at_the_weights_and_temperature_of_the_last_step(fit_default):
    """So that losses of different epochs compare."""
    run = fit_default("falling", loss_weights=[1, 2, 0.3], introduce_at=[0, 0.5, 0.2])
    steps, validations = steps_of(run), validations_of(run)
    assert float(steps[0]["jsd_weight"]) == 0 < float(steps[-1]["jsd_weight"])
    assert len(validations) == 3
    for row in validations:
        assert float(row["val_loss"]) == pytest.approx(total_of(row, steps[-1], "val_{}_loss"), rel=1e-5)
    constant = fit_default("constant", temperature=1.5, temperature_decay=False, max_steps=1)
    hot = fit_default("hot", temperature_decay=False, max_steps=1)
    ours, theirs, other = (float(validations_of(one)[0]["val_jsd_loss"]) for one in (run, constant, hot))
    assert ours == theirs != pytest.approx(other, rel=1e-3)


@pytest.mark.parametrize("options", [PLAIN, {}, LEARNING], ids=["traditional", "default", "learning"])
def test_accumulated_batches_equal_one_large_batch(fit_default, options):
    # The preset has no dropout, so that the runs see the same network.
    same = {"from_scratch": "micro", "epochs": 1, "max_steps": 4, "val": False, **options}
    large = steps_of(fit_default("large", batch_size=8, **same))
    small = steps_of(fit_default("small", batch_size=4, gradient_accumulation_steps=2, **same))
    assert len(large) == 4
    columns = [name for name in large[0] if name.endswith(("_raw", "_weighted", "_weight")) or "grad_norm" in name]
    assert len(columns) >= 11
    for one, other in zip(large, small, strict=True):
        assert one["label_tokens"] == other["label_tokens"]
        assert one["effective_batch_size"] == other["effective_batch_size"] == "8"
        for column in columns:
            assert float(one[column]) == pytest.approx(float(other[column]), rel=1e-4)


def test_critical_tokens_count_more_in_what_looks_at_labels(fit_default):
    same = {"loss_components": ["ce", "kl"], "max_steps": 1, "val": False}
    (plain,), (weighted,) = (
        steps_of(fit_default(name, **same, **options))
        for name, options in (("plain", {}), ("weighted", {"enable_token_weighting": True}))
    )
    assert float(plain["ce_loss_raw"]) < float(weighted["ce_loss_raw"]) < 2 * float(plain["ce_loss_raw"])
    assert plain["kl_loss_raw"] == weighted["kl_loss_raw"]


@pytest.mark.parametrize("stop", [2, 5, 12, 20])
def test_an_interrupted_run_continues_to_the_bit(fit, monkeypatch, stop, capsys):
    continues_to_the_bit(fit, monkeypatch, capsys, stop, {})


@pytest.mark.parametrize("stop", [5, 20])
def test_an_interrupted_run_whose_weights_learn_continues_to_the_bit(fit_default, monkeypatch, stop, capsys):
    """Running averages, what validation took from alpha, and the linear map of the semantic loss are kept too."""
    # A few rows at a high rate, so that validation gets worse and the labels' share is cut.
    options = {**LEARNING, "lr": 0.1, "max_train_samples": 32, "epochs": 6}
    state = continues_to_the_bit(fit_default, monkeypatch, capsys, stop, options)
    assert state["weights"]["taken"] > 0
    assert state["weights"]["averages"].keys() == {"focal", "jsd", "semantic"}


def continues_to_the_bit(fit, monkeypatch, capsys, stop, options):
    """Interrupt a run after some step, continue it, and compare with one of a piece; its last state."""
    options = {"checkpoint_steps": 4, "gradient_accumulation_steps": 1, **options}
    whole = fit("whole", **options)
    with monkeypatch.context() as patch:
        interrupt_after(patch, stop)
        with pytest.raises(KeyboardInterrupt):
            fit("parts", **options)
    torch.manual_seed(99)
    parts = fit("parts", resume=True, **options)
    said = capsys.readouterr().err
    assert ("starting fresh" if stop == 2 else f"continuing after step {4 * ((stop - 1) // 4)}") in said
    for one, other in zip(exact(parts), exact(whole), strict=True):
        assert one == other
    ours, theirs = (load_file(checkpoint.latest(run.checkpoints) / "model.safetensors") for run in (parts, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    ours, theirs = weights(parts), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    best, other = (load_file(run.best_model / "model.safetensors") for run in (parts, whole))
    assert all(torch.equal(best[name], other[name]) for name in other)
    states = [
        torch.load(checkpoint.latest(run.checkpoints) / "state.pt", weights_only=True) for run in (parts, whole)
    ]
    assert states[0]["stepper"]["weights"] == states[1]["stepper"]["weights"]
    return states[0]["stepper"]


def test_resuming_a_finished_run_changes_nothing(fit):
    run = fit()
    before, rows = weights(run), exact(run)
    fit(resume=True)
    assert exact(run) == rows
    assert all(torch.equal(value, before[name]) for name, value in weights(run).items())


def test_resume_with_other_settings_is_refused(fit):
    fit(max_steps=2)
    with pytest.raises(MismatchError, match=r"lr = 0.005 .* Got 0.001"):
        fit(max_steps=2, lr=1e-3, resume=True)


def test_a_checkpoint_knows_its_settings_too(fit):
    run = fit(max_steps=2)
    run.config.unlink()
    with pytest.raises(MismatchError, match=r"lr = 0.005 .* Got 0.001"):
        fit(max_steps=2, lr=1e-3, resume=True)


def test_a_damaged_checkpoint_is_refused(fit):
    run = fit(max_steps=2)
    path = checkpoint.latest(run.checkpoints)
    (path / "state.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(TrainingError, match="Expected a checkpoint"):
        fit(max_steps=2, resume=True)
    shutil.rmtree(path)
    fit(max_steps=2, resume=True)


def test_resume_sweeps_what_a_killed_run_left(fit):
    run = fit(max_steps=2)
    left = [run.root / ".final_model-abcdefgh", run.checkpoints / ".step-00000002-abcdefgh"]
    for path in left:
        path.mkdir()
    run.best_model.rename(run.root / ".best_model.old")
    fit(max_steps=2, resume=True)
    assert run.best_model.is_dir()
    assert not any(path.name.startswith(".") for path in run.root.rglob("*"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("progress", {"stp": 1}), ("progress", None), ("loader", None), ("stepper", None), ("stepper", {}),
        ("machine", None), ("machine", {}),
        ("stepper.optimizer", {"model.shared.weight": {"exp_avg": torch.ones(3)}}),
        ("stepper.optimizer", {"nothing": {}}), ("stepper.weights", None), ("stepper.weights", {"taken": 0}),
        ("stepper.weights", {"taken": 0, "best": 1, "averages": {"ce": 1}}),
    ],
    ids=str,
)  # fmt: skip
def test_a_state_that_does_not_fit_is_refused(fit, monkeypatch, key, value):
    fit(max_steps=1)
    load = checkpoint.load

    def changed(path):
        weights, state = load(path)
        inside, _, name = key.rpartition(".")
        (state[inside] if inside else state)[name] = value
        return weights, state

    monkeypatch.setattr(checkpoint, "load", changed)
    with pytest.raises(TrainingError, match=r"Expected a checkpoint .* does not fit"):
        fit(max_steps=1, resume=True)


@pytest.mark.parametrize(("first", "second"), [("val", "train"), ("val", None), (None, "val")])
def test_resume_with_another_validation_store_is_refused(fit, stores, first, second):
    known = {"train": stores[0], "val": stores[1], None: None}
    names = [store.manifest.fingerprint if store else "None" for store in (known[first], known[second])]
    fit(max_steps=1, val=known[first])
    with pytest.raises(MismatchError, match=rf"\(--val\) with fingerprint {names[0]} .* Got {names[1]}\."):
        fit(max_steps=1, val=known[second], resume=True)


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda lines: [lines[0], lines[1], lines[2].replace(b",1,2,", b",1,x,"), *lines[3:]], 3),
        (lambda lines: [*lines[:3], b"\xff" + lines[3], *lines[4:]], 4),
        (lambda lines: [lines[0], lines[1].strip() + b",1,2\r\n", *lines[2:]], 2),
        (lambda lines: [b"a,b\r\n", *lines[1:]], 1),
        (lambda lines: [], 1),
    ],
    ids=["step", "bytes", "values", "columns", "empty"],
)
def test_damaged_metrics_are_refused(fit, damage, line):
    run = fit(max_steps=3)
    run.step_metrics.write_bytes(b"".join(damage(run.step_metrics.read_bytes().splitlines(keepends=True))))
    with pytest.raises(TrainingError, match=rf"step_metrics\.csv\. Got .* in line {line}\."):
        fit(max_steps=3, resume=True)
    run.step_metrics.unlink()
    fit(max_steps=3, resume=True)


def test_a_loss_that_is_not_finite_stops_before_the_step(fit, monkeypatch):
    call, stepped = CrossEntropy.__call__, []

    def poisoned(self, log_q_L):
        value_L, slope_L = call(self, log_q_L)
        return value_L * float("nan") if len(stepped) == 3 else value_L, slope_L

    monkeypatch.setattr(CrossEntropy, "__call__", poisoned)
    step = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self, *a: (stepped.append(1), step(self, *a)))
    with pytest.raises(TrainingError, match=r"nan as the loss component 'ce' at step 4, in the samples row-\d+, .*"):
        fit(val=False)
    assert len(stepped) == 3


def test_a_gradient_that_is_not_finite_stops_before_the_step(fit, monkeypatch):
    forward = Student.forward

    def steep(self, batch, step):
        out = forward(self, batch, step)
        return LossOut(out.total * 1e30 * 1e30, out.components)

    monkeypatch.setattr(Student, "forward", steep)
    with pytest.raises(TrainingError, match="gradient's norm at step 1"):
        fit(val=False)


def test_without_validation_there_is_no_best_model(fit):
    run = fit(val=False, max_steps=2)
    assert run.final_model.is_dir()
    assert not run.best_model.exists()
    assert validations_of(run) == []


def test_bf16_runs_on_a_cpu(fit, fit_default):
    for run in (fit(dtype="bf16", max_steps=2), fit_default("default", dtype="bf16", max_steps=2)):
        assert weights(run)["shared.weight"].dtype == torch.float32


def test_subsets_bound_an_epoch(fit):
    run = fit(epochs=1, max_train_samples=20, max_val_samples=5)
    assert len(steps_of(run)) == 3
    run = fit("all", epochs=1)
    assert int(validations_of(run)[0]["val_label_tokens"]) > 24


def test_training_stops_early_and_keeps_the_best_weights(fit_default):
    """At a rate at which validation gets worse."""
    options = {"lr": 0.3, "warmup_steps": 1, "epochs": 20, "max_train_samples": 16, "early_stopping_patience": 3}
    run = fit_default(**options)
    losses = [float(row["val_loss"]) for row in validations_of(run)]
    assert len(losses) < 21
    assert min(losses) < min(losses[-3:])
    report = json.loads(run.training_report.read_text())["run"]
    assert report["stopped_early"]
    assert report["best_validation_loss"] == pytest.approx(min(losses), rel=1e-6)
    best, final = (load_file(path / "model.safetensors") for path in (run.best_model, run.final_model))
    last = load_file(checkpoint.latest(run.checkpoints) / "model.safetensors")
    assert all(torch.equal(final[name], value) for name, value in best.items())
    assert not torch.equal(last["model.shared.weight"], best["shared.weight"])
    before = exact(run)
    assert exact(fit_default(resume=True, **options)) == before


def test_early_stopping_needs_validation(fit):
    with pytest.raises(UsageError, match=r"--early-stopping-patience\. Got none\. Name one with --val"):
        fit(val=False, early_stopping_patience=1)


def test_a_validator_scores_what_the_student_writes(fit):
    run = fit(validator="java", validation_samples=10, use_enhanced_metrics=True, validation_frequency=2, epochs=3)
    rows = validations_of(run)
    assert [row["epoch"] for row in rows] == ["0", "2", "3"]
    for row in rows:
        assert 0 <= float(row["f1"]) <= 1
        assert 0 <= float(row["ast_validity"]) <= 1
        assert 0 < float(row["metrics_seconds"]) < float(row["validation_seconds"])
    # Nothing that is drawn for it, and no time of the loader, changes training.
    plain = fit("plain", epochs=3, validation_frequency=2)
    assert [row["total_loss_weighted"] for row in steps_of(run)] == [
        row["total_loss_weighted"] for row in steps_of(plain)
    ]


def test_another_number_of_threads_is_said(fit, capsys):
    fit(max_steps=1)
    torch.set_num_threads(2)
    try:
        fit(max_steps=1, resume=True)
    finally:
        torch.set_num_threads(1)
    assert "not bit-exact: this run had threads 1 so far, and goes on with 2" in capsys.readouterr().err


def test_one_run_at_a_time_in_a_directory(tmp_path):
    with rundir.claimed(tmp_path / "run", "model", Processes(), resume=False) as run:
        with (
            pytest.raises(TrainingError, match=r"alone in .*run\. Got another process training there"),
            rundir.claimed(run.root, "model", Processes(), resume=True),
        ):
            pass
        assert run.root.is_dir()
    # Nothing was written: nothing is left, and the directory is free.
    assert not run.root.exists()


def test_models_learn_with_every_option_of_the_model(fit):
    whole = fit("plain", from_scratch="micro", max_steps=3)
    for name, options in {
        "recomputed": {"gradient_checkpointing": True},
        "deterministic": {"deterministic": True},
        "no-dropout": {"dropout_rate": 0.0},
    }.items():
        run = fit(name, from_scratch="micro", max_steps=3, **options)
        for one, other in zip(steps_of(run), steps_of(whole), strict=True):
            assert float(one["total_loss_weighted"]) == pytest.approx(float(other["total_loss_weighted"]), rel=1e-5)


def test_a_validator_that_fails_ends_no_run(fit, monkeypatch, capsys):
    """It is another's code."""

    class Broken(Validator):
        names = ("score",)

        def score(self, predictions, references):
            raise ZeroDivisionError("no texts of mine")

    monkeypatch.setattr(VALIDATORS, "get", lambda name: Broken)
    run = fit(validator="broken", epochs=1)
    assert [row["score"] for row in validations_of(run)] == ["", ""]
    said = "the validator 'broken' failed: ZeroDivisionError: no texts of mine; its columns stay empty"
    assert said in capsys.readouterr().err
    assert run.log.read_text().count(said) == 2


def test_a_validation_loss_that_is_not_finite_stops(fit, monkeypatch):
    call = CrossEntropy.__call__

    def poisoned(self, log_q_L):
        value_L, slope_L = call(self, log_q_L)
        return value_L if torch.is_grad_enabled() else value_L * float("nan"), slope_L

    monkeypatch.setattr(CrossEntropy, "__call__", poisoned)
    with pytest.raises(
        TrainingError, match=r"validation rows\. Got nan as the loss component 'ce', in the samples row-"
    ):
        fit()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: lines[:-2], "the end at step 10, before that of the checkpoint, 12"),
        (lambda lines: [*lines[:4], *lines[5:]], "step 5 after step 3"),
        (lambda lines: [*lines[:4], *lines[3:]], "step 3 after step 3"),
    ],
    ids=["end", "middle", "twice"],
)
def test_lost_rows_are_noticed(fit, change, said):
    run = fit(epochs=1)
    run.step_metrics.write_bytes(b"".join(change(run.step_metrics.read_bytes().splitlines(keepends=True))))
    with pytest.raises(TrainingError, match=said):
        fit(epochs=1, resume=True)


def test_a_run_that_ends_within_an_epoch_says_how_far_it_came(fit):
    run = fit(max_steps=2)
    assert "epoch 1: 2 of the 12 steps of the epoch" in run.log.read_text()
    assert json.loads((run.root / "epoch_1_summary.json").read_text())["account"] == "2 of the 12 steps of the epoch"
