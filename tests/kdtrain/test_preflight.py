"""``kdtrain preflight``: a healthy set-up is ready and leaves no trace; each planted fault is found by its check."""

import fcntl
import json
import shutil
import subprocess
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from kdstore.store.shared import publish_shared, stage_shared
from kdstore.store.writer import begin, finalize, prepare, write_part
from kdtrain.cli import main
from kdtrain.config import resolve
from kdtrain.models import tokenizer as tokenizers
from kdtrain.preflight.findings import go_through
from kdtrain.preflight.flight import Flight, Request
from kdtrain.preflight.memory import Need, largest_batch, longest, measure, peak_bytes
from kdtrain.preflight.order import CHECKS
from kdtrain.preflight.surroundings import unmet

# What a store of top-k signals can serve.
PLAIN = ("--loss-function", "traditional", "--no-temperature-decay")


def invoke(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def contents(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


class Setup:
    """A set-up that can be trained, in files of its own; a test spoils one of them, or an option."""

    def __init__(self, root, stores, model_dir):
        self.train, self.val, self.model = root / "train.kd", root / "val.kd", root / "model"
        for source, copy in zip((stores[0].root, stores[1].root, model_dir), self.paths, strict=True):
            shutil.copytree(source, copy)
        self.out = root / "run"
        self.loss, self.options, self.after = PLAIN, [], ["--no-after"]

    @property
    def paths(self):
        return self.train, self.val, self.model

    @property
    def words(self):
        common = ["--model-name", self.model, "--device", "cpu", "--output-dir", self.out, "--batch-size", 8]
        return [self.train, "--val", self.val, *common, *self.loss, *self.after, *self.options]

    def check(self):
        """The exit code, and the findings by check: lists of (status, text)."""
        result = invoke("preflight", *self.words, "--json")
        assert result.exit_code in (0, 9), result.output
        found = json.loads(result.stdout)
        assert found["ready"] == (result.exit_code == 0)
        return result.exit_code, {
            one["check"]: [(finding["status"], finding["text"]) for finding in one["findings"]]
            for one in found["checks"]
        }


@pytest.fixture
def setup(stores, model_dir, tmp_path):
    return Setup(tmp_path, stores, model_dir)


def test_a_healthy_set_up_is_ready_and_nothing_is_written(setup, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = contents(tmp_path)
    result = invoke("preflight", *setup.words, "--gradient-accumulation-steps", 4)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[-1].startswith("ready: ")
    assert "fail" not in result.stdout
    text = " ".join(result.stdout.split())
    assert "15 steps of 32 rows" in text
    assert "the teacher's first choice is the label for" in text
    assert "recommended: --batch-size 32 --gradient-accumulation-steps 1" in text
    assert "s a step" in text
    assert contents(tmp_path) == before
    assert not setup.out.exists()


def flip_a_bit(setup):
    path = max(setup.train.glob("parts/00000/labels/**/c/*"), key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def remove_a_file(setup):
    max(setup.val.glob("parts/*/input_ids/**/c/*"), key=lambda path: path.stat().st_size).unlink()


def break_the_manifest(setup):
    (setup.train / "manifest.json").write_text("{")


def other_tokenizer(setup):
    texts = ["public static void main", "return value;", "for (int i = 0; i < n; i++)"] * 3
    tokenizers.train(texts, 280).save_pretrained(setup.model)


def other_special_ids(setup):
    config = json.loads((setup.model / "config.json").read_text())
    (setup.model / "config.json").write_text(json.dumps({**config, "pad_token_id": 7}))


def no_numbers_in_the_model(setup):
    path = setup.model / "model.safetensors"
    weights = load_file(path)
    weights["encoder.block.0.layer.1.layer_norm.weight"][3] = torch.nan
    save_file(weights, path, {"format": "pt"})


def no_model(setup):
    (setup.model / "model.safetensors").write_bytes(b"nothing")


def validation_is_training(setup):
    setup.val = setup.train


def directory_in_use(setup):
    setup.out.mkdir()
    (setup.out / "thesis.tex").write_text("years of work")


def no_program(setup):
    setup.after = ["--set", "run.after=['no-such-program']"]


def option(*words):
    def change(setup):
        setup.options += words

    return change


def loss(*words):
    def change(setup):
        setup.loss = words

    return change


FAULTS = {
    "a flipped bit": (flip_a_bit, "integrity", "checksum"),
    "a missing file": (remove_a_file, "integrity", "Got none"),
    "a broken manifest": (break_the_manifest, "stores", "manifest.json"),
    "another tokenizer": (other_tokenizer, "tokenizer", "Expected the tokenizer of"),
    "other special ids": (other_special_ids, "tokenizer", "pad_token_id 0"),
    "NaN in the weights": (no_numbers_in_the_model, "model", "layer_norm.weight"),
    "no weights": (no_model, "model", "model.safetensors"),
    "validation rows in training": (validation_is_training, "leak", "96 of 96 validation rows"),
    "a directory in use": (directory_in_use, "output", "in use"),
    "rows that are too long": (option("--max-output-len", 8), "compatibility", "at most 8 tokens (--max-output-len)"),
    "too little memory for streaming": (option("--ram-limit", "4MiB"), "streaming", "--ram-limit"),
    "a batch that is too large": (option("--batch-size", 10**8, "--ram-limit", "100TiB"), "memory", "to fit into"),
    "an unknown validator": (option("--validator", "jave"), "validator", "'java'"),
    "a program that is not there": (no_program, "command", "no-such-program"),
    "a device that is not there": (option("--device", "cuda:99"), "device", "cuda:99"),
    "a disk that is too small": (
        option("--epochs", 2**31 - 1, "--checkpoint-steps", 1, "--keep-checkpoints", 2**31 - 1), "disk", "too little"
    ),
    "a temperature that the signal lacks": (
        loss("--loss-function", "traditional", "--temperature", 3, "--no-temperature-decay"), "fidelity", "T"
    ),
    "an embedding that is not there": (
        loss(
            "--loss-components", "ce,semantic", "--semantic-embedding", "codebert",
        ), "loss", "an embedding for 'semantic'"
    ),
    "a learning rate that breaks the model": (
        option("--lr", 10, "--warmup-ratio", 0), "step", "Use a lower --lr"
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_by_its_check(setup, fault):
    plant, check, cause = FAULTS[fault]
    plant(setup)
    code, found = setup.check()
    assert code == 9
    failures = [text for status, text in found[check] if status == "fail"]
    assert any(cause in text for text in failures), found[check]


def test_several_faults_are_all_found_at_once(setup):
    flip_a_bit(setup)
    directory_in_use(setup)
    no_numbers_in_the_model(setup)
    option("--validator", "jave")(setup)
    result = invoke("preflight", *setup.words)
    assert result.exit_code == 9
    failed = {line.split()[0] for line in result.stdout.splitlines() if line[14:].startswith("fail ")}
    assert {"integrity", "output", "model", "validator"} <= failed
    assert result.stdout.splitlines()[-1] == f"not ready: {len(failed)} checks failed"


@pytest.mark.parametrize(
    ("change", "check", "cause"),
    [
        ({"shift": 1}, "alignment", "shifted by one token"),
        ({"fidelity": [("kl", T, 40.0) for T in (1.0, 2.0, 4.0)]}, "fidelity", "40.0 degrees"),
        ({"fidelity": [("kl", 1.0, 2.0)]}, "fidelity", "measured for 'kl' at T = 4"),
    ],
    ids=["signals of other tokens", "an unfit signal", "a signal measured elsewhere"],
)
def test_a_signal_that_cannot_be_trained_on(setup, make_store, tmp_path, change, check, cause):
    setup.train = make_store(tmp_path / "bad.kd", 48, **change).root
    code, found = setup.check()
    assert code == 9
    assert any(cause in text for status, text in found[check] if status == "fail"), found[check]


def test_numbers_that_are_none_in_a_signal(setup, dense_stores, tmp_path):
    """They were there before anything was summed: only decoding finds them."""
    store = dense_stores[0]
    rows = [block.row(index) for block in store.scan(limit=64) for index in range(block.rows)]
    for values in rows[40]["teacher"].values():
        if values.dtype.kind == "f":
            values[0] = np.nan
    setup.train = tmp_path / "nan.kd"
    head = store.head.model_copy(update={"segments": (store.head.segments[0].model_copy(update={"rows": 64}),)})
    begin(setup.train, head)
    stage_shared(setup.train, {})
    publish_shared(setup.train)
    shutil.copytree(store.tokenizer_path, setup.train / "tokenizer")
    prepare(setup.train)
    write_part(setup.train, head, 0, head.schema_.pack(rows))
    finalize(setup.train, head)
    code, found = setup.check()
    assert code == 9
    assert any("NaN" in text for status, text in found["integrity"] if status == "fail"), found["integrity"]


@pytest.fixture
def trained(setup):
    """A set-up with a run of two epochs that can be continued."""
    setup.options = ["--resume", "auto", "--epochs", 2, "--validator", "none", "--gradient-steps", 0]
    result = invoke("student", *setup.words)
    assert result.exit_code == 0, result.stderr
    return setup


def test_a_run_that_can_be_continued(trained):
    before = contents(trained.out)
    code, found = trained.check()
    assert code == 0, found
    assert ("pass", f"{trained.out} holds a run of this configuration, which goes on") in found["output"]
    assert any("step 24 of 24" in text for _, text in found["checkpoints"])
    assert contents(trained.out) == before

    path = max(trained.out.glob("checkpoints/step-*")) / "state.pt"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    code, found = trained.check()
    assert code == 9
    assert any("state.pt" in text for status, text in found["checkpoints"] if status == "fail")
    path.write_bytes(whole)

    table = trained.out / "step_metrics.csv"
    rows = table.read_bytes()
    table.write_bytes(rows.replace(b"learning_rate", b"lr", 1))
    code, found = trained.check()
    assert code == 9
    assert any("step_metrics.csv. Got other columns" in text for _, text in found["checkpoints"])
    table.write_bytes(rows)

    with (trained.out / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _, found = trained.check()
    assert any("another process" in text for status, text in found["output"] if status == "fail")

    trained.options += ["--lr", 1e-4]
    code, found = trained.check()
    assert code == 9
    assert any("lr = " in text for status, text in found["output"] if status == "fail")


def test_settings_that_deserve_a_word(dense_stores, model_dir, tmp_path):
    setup = Setup(tmp_path, dense_stores, model_dir)
    setup.options = ["--warmup-steps", 500, "--gradient-accumulation-steps", 50, "--lr", 1e-9, "--temperature", 0.5]
    setup.loss = ("--loss-function", "traditional")
    code, found = setup.check()
    words = " ".join(text for status, text in found["settings"] if status == "warn")
    for name in ("--warmup-steps", "--gradient-accumulation-steps", "--lr", "--temperature", "--checkpoint-steps"):
        assert name in words, name
    assert code == 0, found


@contextmanager
def disk(directory, size):
    """A file system of so many bytes."""
    directory.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)]
    mounted = subprocess.run(options, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"only root may mount a disk: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def test_a_full_disk(setup, tmp_path):
    with disk(tmp_path / "small", 64 << 10):
        setup.out = tmp_path / "small" / "run"
        code, found = setup.check()
    assert code == 9
    assert any("too little" in text for status, text in found["disk"] if status == "fail")


def test_the_default_loss_without_validation(dense_stores, tmp_path):
    words = [dense_stores[0].root, "--from-scratch", "tiny", "--device", "cpu", "--output-dir", tmp_path / "run"]
    result = invoke("preflight", *words, "--json")
    assert result.exit_code == 0, result.output
    found = {one["check"]: one["findings"] for one in json.loads(result.stdout)["checks"]}
    assert found["leak"][0]["status"] == "skipped"
    assert any("no --val" in one["text"] for one in found["settings"])
    gradients = next(one["text"] for one in found["step"] if "gradients" in one["text"])
    assert all(name in gradients for name in ("focal", "jsd", "semantic"))
    assert result.stderr.splitlines()[-1].startswith("ready: ")


def test_requirements():
    assert unmet(["torch>=2", "click", "nothing-of-this-name; extra == 'dev'"]) == {}
    assert "Got none" in unmet(["nothing-of-this-name>=1"])["nothing-of-this-name"]
    assert f"Got {torch.__version__}" in unmet(["torch>=99"])["torch"]


def test_the_recommended_batch_fits_and_keeps_the_effective_one():
    need = Need(base=100.0, row=10.0)
    assert largest_batch(need, 100 + 10 * 40, 64, 1, 1) == 32
    assert largest_batch(need, 1e9, 64, 1, 1) == 64
    assert largest_batch(need, 1e9, 24, 1, 1) == 8
    assert largest_batch(need, 1e9, 3, 1, 2) is None
    assert largest_batch(need, 105, 8, 1, 1) is None
    assert largest_batch(need, 1e9, 12, 4, 1) == 4


def test_memory_that_is_measured_with_few_rows_tells_that_of_many(dense_stores):
    config = resolve({}, {"from_scratch": "tiny", "device": "cpu"})
    with ExitStack() as stack:
        flight = Flight(Request(config, (dense_stores[0].root,), None, None, False, ()), stack)
        results = list(go_through([one for one in CHECKS if one.name not in ("memory", "batch", "step")], flight))
        assert not any(result.failed for result in results), results
        need = measure(flight)
        assert need.of(32) == pytest.approx(peak_bytes(flight.trainer, longest(flight, 32)), rel=0.1)
