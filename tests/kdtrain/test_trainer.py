"""The training loop: it learns, adds up batches exactly, resumes to the bit, and stops before damage."""

import csv
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from kdstore.errors import MismatchError, TrainingError
from kdtrain import checkpoint, rundir
from kdtrain.config import resolve
from kdtrain.log import RunLog
from kdtrain.losses.ce import CrossEntropy
from kdtrain.mix import LossOut, Mix
from kdtrain.run import Stores, train

EXACT = ("step", "epoch", "split", "loss", "ce_loss", "kl_loss", "lr", "grad_norm", "label_tokens")


@pytest.fixture
def fit(stores, model_dir, tmp_path):
    """A function that trains and returns its run directory: ``fit("name", epochs=2, ...)``."""

    def run(name="run", *, resume=False, val=stores[1], **options):
        options = {"model_name": str(model_dir), "device": "cpu", "batch_size": 8, "lr": 5e-3, "epochs": 2, **options}
        run = rundir.claim(tmp_path / name, "model", resume=resume)
        train(Stores((stores[0],), val or None), resolve({}, options), run, resume=resume)
        return run

    return run


def metrics(run, split):
    with run.metrics.open() as file:
        return [row for row in csv.DictReader(file) if row["split"] == split]


def exact(run):
    return [[row[c] for c in EXACT] for split in ("train", "val") for row in metrics(run, split)]


def weights(run):
    return load_file(run.final_model / "model.safetensors")


def test_a_run_learns_and_leaves_what_it_promises(fit):
    run = fit(epochs=6, lr=2e-2, temperature=1.0)
    losses = [float(row["loss"]) for row in metrics(run, "val")]
    assert len(losses) == 7
    assert losses[-1] < 0.7 * losses[0]
    steps = metrics(run, "train")
    assert [int(row["step"]) for row in steps] == list(range(1, 73))
    assert steps[0]["epoch"] == "1"
    assert steps[-1]["epoch"] == "6"
    # 15 % of 72 steps: the rate rises for 11 steps, then falls to nearly nothing.
    rates = [float(row["lr"]) for row in steps]
    assert max(rates) == rates[10] == 2e-2
    assert 0 < rates[-1] < 1e-3
    for row in steps:
        assert float(row["loss"]) == pytest.approx((float(row["ce_loss"]) + float(row["kl_loss"])) / 2, rel=1e-5)
    names = {path.name for path in run.root.iterdir()}
    assert names == {
        "final_model", "best_model", "training_metrics.csv", "distillation_log.txt", "tensorboard", "config.json",
        "config.sha256", "command.txt", "checkpoints",
    }  # fmt: skip
    assert [path.name for path in sorted(run.checkpoints.iterdir())] == ["step-00000060", "step-00000072"]
    assert any(run.tensorboard.iterdir())
    for path in (run.final_model, run.best_model):
        model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
        assert model.get_output_embeddings().weight.shape[0] == len(tokenizer)


def test_accumulated_batches_equal_one_large_batch(fit):
    # The preset has no dropout, so that the runs see the same network.
    same = {"from_scratch": "micro", "epochs": 1, "max_steps": 4, "val": False}
    large = metrics(fit("large", batch_size=8, **same), "train")
    small = metrics(fit("small", batch_size=4, gradient_accumulation_steps=2, **same), "train")
    for one, other in zip(large, small, strict=True):
        assert one["label_tokens"] == other["label_tokens"]
        for column in ("loss", "ce_loss", "kl_loss", "grad_norm"):
            assert float(one[column]) == pytest.approx(float(other[column]), rel=1e-4)


@pytest.mark.parametrize("stop", [2, 5, 12, 20])
def test_an_interrupted_run_continues_to_the_bit(fit, monkeypatch, stop, capsys):
    options = {"checkpoint_steps": 4, "gradient_accumulation_steps": 1}
    whole = fit("whole", **options)
    row = RunLog.row

    def interrupted(self, step, epoch, split, values):
        row(self, step, epoch, split, values)
        if step == stop and split == "train":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "row", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit("parts", **options)
    torch.manual_seed(99)
    parts = fit("parts", resume=True, **options)
    said = capsys.readouterr().err
    assert ("starting fresh" if stop == 2 else f"continuing after step {4 * ((stop - 1) // 4)}") in said
    assert exact(parts) == exact(whole)
    ours, theirs = weights(parts), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    best, other = (load_file(run.best_model / "model.safetensors") for run in (parts, whole))
    assert all(torch.equal(best[name], other[name]) for name in other)


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
    [("progress", {"stp": 1}), ("progress", None), ("optimizer", {}), ("loader", None), ("rng", [1]), ("rng", None)],
)
def test_a_state_that_does_not_fit_is_refused(fit, monkeypatch, key, value):
    fit(max_steps=1)
    load = checkpoint.load
    monkeypatch.setattr(checkpoint, "load", lambda *a: {**load(*a), key: value})
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
        (lambda lines: [lines[0], lines[1], b"x" + lines[2][1:], *lines[3:]], 3),
        (lambda lines: [*lines[:3], b"\xff" + lines[3], *lines[4:]], 4),
        (lambda lines: [lines[0], lines[1].strip() + b",1,2\r\n", *lines[2:]], 2),
        (lambda lines: [b"a,b\r\n", *lines[1:]], 1),
        (lambda lines: [], 1),
    ],
    ids=["step", "bytes", "values", "columns", "empty"],
)
def test_damaged_metrics_are_refused(fit, damage, line):
    run = fit(max_steps=3)
    run.metrics.write_bytes(b"".join(damage(run.metrics.read_bytes().splitlines(keepends=True))))
    with pytest.raises(TrainingError, match=rf"training_metrics\.csv\. Got .* in line {line}\."):
        fit(max_steps=3, resume=True)
    run.metrics.unlink()
    fit(max_steps=3, resume=True)


def test_a_loss_that_is_not_finite_stops_before_the_step(fit, monkeypatch):
    call, stepped = CrossEntropy.__call__, []

    def poisoned(self, logits_LV, labels_L, signal, temperature):
        value = call(self, logits_LV, labels_L, signal, temperature)
        return value * float("nan") if len(stepped) == 3 else value

    monkeypatch.setattr(CrossEntropy, "__call__", poisoned)
    step = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self, *a: (stepped.append(1), step(self, *a)))
    with pytest.raises(TrainingError, match=r"nan as the loss component 'ce' at step 4, in the samples row-\d+, .*"):
        fit(val=False)
    assert len(stepped) == 3


def test_a_gradient_that_is_not_finite_stops_before_the_step(fit, monkeypatch):
    call = Mix.__call__

    def steep(self, logits_LV, labels_L, signal):
        out = call(self, logits_LV, labels_L, signal)
        return LossOut(out.total * 1e30 * 1e30, out.components)

    monkeypatch.setattr(Mix, "__call__", steep)
    with pytest.raises(TrainingError, match="gradient's norm at step 1"):
        fit(val=False)


def test_without_validation_there_is_no_best_model(fit):
    run = fit(val=False, max_steps=2)
    assert run.final_model.is_dir()
    assert not run.best_model.exists()
    assert metrics(run, "val") == []


def test_bf16_runs_on_a_cpu(fit):
    run = fit(dtype="bf16", max_steps=2)
    assert weights(run)["shared.weight"].dtype == torch.float32


def test_subsets_bound_an_epoch(fit):
    run = fit(epochs=1, max_train_samples=20, max_val_samples=5)
    assert len(metrics(run, "train")) == 3
    run = fit("all", epochs=1)
    assert int(metrics(run, "val")[0]["label_tokens"]) > 24
