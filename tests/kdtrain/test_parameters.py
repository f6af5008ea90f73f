"""No dead parameter: what each one's ``probe`` names differs between two runs that differ in it alone.

Whatever is no matter of the loss or of steps also leaves every step and the weights as they were.
"""

import csv
import json
import shutil
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

import pytest
import torch
import torch.distributed as dist
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from kdstore.errors import CapabilityError, MismatchError
from kdtrain import rundir
from kdtrain.cli import main
from kdtrain.config import resolve, sections
from kdtrain.distributed import Processes
from kdtrain.run import Stores, assembled, settle, train
from kdtrain.sections import PLACES

FIELDS = {name: field for kind in sections().values() for name, field in kind.model_fields.items()}
WEIGHTS = "model.safetensors"
TABLES = ("step_metrics.csv", "training_metrics.csv", "component_gradients.csv")
# What differs between two runs of the same.
TIMED = ("timestamp", "memory_usage_mb", "*elapsed*", "data_wait", "tokens_per_second", "*_seconds", "gpu_*")


@dataclass(frozen=True)
class Case:
    """A value of a parameter, and what else both runs have in common."""

    value: Any
    base: dict[str, Any] = field(default_factory=dict)
    stores: str = "one"


def dynamic(**options):
    return {"enable_dynamic_weighting": True, **options}


SHORT = {"max_steps": 3}
CASES = {
    "batch_size": Case(4, SHORT),
    "max_train_samples": Case(16),
    "max_val_samples": Case(3, SHORT),
    "epoch_samples": Case(16),
    "epoch_sampling": Case("rows", {"epoch_samples": 16}),
    "sampling_seed": Case(7, SHORT),
    "group_blocks": Case(1, SHORT),
    "mix": Case([3.0, 1.0], {}, "two"),
    "streams": Case(2, SHORT),
    "last_batch": Case("drop", {"batch_size": 16}),
    "length_grouped": Case(True, SHORT),
    "ram_limit": Case("300MiB", {"ram_limit": "200MiB", **SHORT}),
    "residency": Case("window", SHORT),
    "read_threads": Case(2, {"read_threads": 1, **SHORT}),
    "model_name": Case("other", SHORT),
    "from_scratch": Case("micro", SHORT),
    "dropout_rate": Case(0.5, SHORT),
    "lr": Case(1e-3, SHORT),
    "weight_decay": Case(1.0, SHORT),
    "clip_norm": Case(1e-3, SHORT),
    "adam_beta1": Case(0.5, SHORT),
    "adam_beta2": Case(0.5, SHORT),
    "adam_epsilon": Case(1e-2, SHORT),
    "epochs": Case(1),
    "max_steps": Case(2, SHORT),
    "gradient_accumulation_steps": Case(2, SHORT),
    "warmup_steps": Case(1, SHORT),
    "warmup_ratio": Case(0.9, SHORT),
    "lr_decay": Case("cosine"),
    "final_lr_factor": Case(0.5, SHORT),
    "early_stopping_patience": Case(1, {"lr": 0.5, "epochs": 4}),
    "early_stopping_delta": Case(100.0, {"early_stopping_patience": 1}),
    "loss_function": Case("traditional", SHORT),
    "loss_components": Case(["focal", "jsd"], SHORT),
    "loss_weights": Case([1.0, 0.5, 0.1], SHORT),
    "focal_gamma": Case(0.5, SHORT),
    "focal_alpha": Case(0.5, SHORT),
    "pans_max_n": Case(1, {"loss_components": ["ce", "pans"], **SHORT}),
    "pans_decay": Case(2.0, {"loss_components": ["ce", "pans"], **SHORT}),
    "pans_weight": Case(0.5, {"loss_function": "enhanced", **SHORT}),
    "ast_weight": Case(0.5, {"loss_function": "ast_enhanced", **SHORT}),
    "ast_samples": Case(5, {"loss_components": ["ce", "ast"], "lr": 0.05, "epochs": 4}, "semicolons"),
    "contrastive_temperature": Case(1.0, {"loss_components": ["ce", "contrastive"], **SHORT}),
    "contrastive_embedding": Case("mini", {"loss_components": ["ce", "contrastive"], **SHORT}, "embedded"),
    "semantic_embedding": Case("codebert", {"semantic_embedding": "mini", **SHORT}, "embedded"),
    "semantic_loss_scale": Case(1.0, SHORT),
    "alpha": Case(0.2, SHORT),
    "enable_dynamic_weighting": Case(True, SHORT),
    "end_weights": Case([0.1, 0.1, 0.8], dynamic(**SHORT)),
    "weight_shape": Case("cosine", dynamic()),
    "introduce_at": Case([0.0, 0.5, 0.0], SHORT),
    "normalize_components": Case(True, SHORT),
    "temperature": Case(2.0, SHORT),
    "temperature_decay": Case(False, SHORT),
    "final_temperature": Case(3.0, SHORT),
    "temperature_shape": Case("linear", SHORT),
    "enable_token_weighting": Case(True, SHORT),
    "critical_token_weight": Case(3.5, {"enable_token_weighting": True, **SHORT}),
    "validation_frequency": Case(2),
    "validator": Case("java", SHORT),
    "use_enhanced_metrics": Case(True, {"validator": "java", **SHORT}),
    "validation_samples": Case(1, {"validator": "java", "lr": 0.02}, "semicolons"),
    "seed": Case(7, SHORT),
    "dtype": Case("bf16", SHORT),
    "gradient_steps": Case(2, SHORT),
    "checkpoint_steps": Case(1, SHORT),
    "keep_checkpoints": Case(1, {"checkpoint_steps": 1, **SHORT}),
}  # fmt: skip
# Seen elsewhere than in a run's files: each has its own test below.
ELSEWHERE = {
    "max_input_len", "max_output_len", "vocab_size", "gradient_checkpointing", "compile", "max_angle",
    "accept_infidelity", "device", "deterministic", "parallel", "ddp_timeout", "after",
}  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """What two runs are compared by: tables by column, the log's lines, weights, names of checkpoints."""

    tables: dict[str, dict[str, list[str]]]
    log: list[str]
    weights: dict[str, bytes]
    checkpoints: list[str]

    def at(self, probe: str) -> object:
        """What a probe names."""
        place, _, detail = probe.partition(": ")
        if place in TABLES:
            return {name: cells for name, cells in self.tables[place].items() if fnmatch(name, detail)}
        if place == "distillation_log.txt":
            return [line for line in self.log if detail in line]
        return {"final_model": self.weights, "checkpoints": self.checkpoints}[place]


@pytest.fixture(scope="module")
def data(make_store, tmp_path_factory):
    """Stores by name: one for training, two, and one with a second embedding, each beside one for validation."""
    root = tmp_path_factory.mktemp("parameters")
    same = {"codec": "dense", "texts": True, "part_rows": 16, "block_rows": 4}
    first, second = (make_store(root / f"train{seed}.kd", 40, seed=seed, **same) for seed in (0, 1))
    val = make_store(root / "val.kd", 12, seed=2, **same)
    both = {"embeddings": ("mini", "codebert"), **same}
    embedded = [make_store(root / f"{name}.kd", rows, **both) for name, rows in (("embedded", 24), ("other", 8))]
    # What a student soon learns to write is a Java statement; rows differ in length.
    same |= {"ids": (29, 30)}
    semicolons = [make_store(root / f"{name};.kd", rows, **same) for name, rows in (("a", 40), ("b", 12))]
    return {
        "one": Stores((first,), val), "two": Stores((first, second), val),
        "embedded": Stores((embedded[0],), embedded[1]), "semicolons": Stores((semicolons[0],), semicolons[1]),
    }  # fmt: skip


@pytest.fixture(scope="module")
def common(model_dir, tmp_path_factory):
    """What all runs have in common; a second model lies beside the first."""
    other = tmp_path_factory.mktemp("model") / "other"
    shutil.copytree(model_dir, other)
    weights = load_file(model_dir / "model.safetensors")
    save_file({name: 0.5 * value for name, value in weights.items()}, other / "model.safetensors", {"format": "pt"})
    return {"model_name": str(model_dir), "device": "cpu", "batch_size": 8, "lr": 5e-3, "epochs": 2}, str(other)


@pytest.fixture(scope="module")
def see(data, common, tmp_path_factory):
    """A function that trains, and tells what was seen; a run of the same is not repeated."""
    known = {}

    def run(stores, options):
        key = (stores, json.dumps(options, sort_keys=True))
        if key not in known:
            known[key] = seen(data[stores], {**common[0], **options}, tmp_path_factory.mktemp("runs") / "run")
        return known[key]

    return run


def seen(stores, options, root):
    run = rundir.claim(root, "model", resume=False)
    train(stores, resolve({}, options), run, resume=False)
    tables = {}
    for name in TABLES:
        with (root / name).open() as file:
            rows = list(csv.DictReader(file))
        columns = [column for column in (rows[0] if rows else ()) if not any(fnmatch(column, one) for one in TIMED)]
        tables[name] = {column: [row[column] for row in rows] for column in columns}
    log = [line.partition(" ")[2].partition(" ")[2] for line in run.log.read_text().splitlines()]
    weights = {name: value.numpy().tobytes() for name, value in load_file(run.final_model / WEIGHTS).items()}
    return Seen(tables, log, weights, sorted(path.name for path in run.checkpoints.iterdir()))


def probe_of(name):
    return FIELDS[name].json_schema_extra["probe"]


@pytest.mark.parametrize("name", FIELDS)
def test_every_parameter_says_where_its_effect_is_seen(name):
    place, _, detail = probe_of(name).partition(": ")
    if name in ELSEWHERE:
        assert place in PLACES or place == "final_model"
        assert f"test_{name}" in globals()
    else:
        assert place in {*TABLES, "distillation_log.txt", "final_model", "checkpoints"}
        assert detail
        assert name in CASES


def test_no_parameter_is_listed_that_is_gone():
    assert {*CASES, *ELSEWHERE} == {*FIELDS}


@pytest.mark.parametrize("name", CASES)
def test_it_is_seen_there(see, common, name):
    case, probe = CASES[name], probe_of(name)
    value = common[1] if name == "model_name" else case.value
    one, other = see(case.stores, case.base), see(case.stores, {**case.base, name: value})
    assert one.at(probe) != other.at(probe)
    assert one.at(probe) or other.at(probe)
    place = probe.partition(": ")[0]
    if place not in {"step_metrics.csv", "final_model"}:
        assert {**one.tables, place: None} == {**other.tables, place: None}
        assert one.weights == other.weights


@pytest.fixture
def start(data, common, tmp_path):
    """A function that does all that comes before the first step."""

    def run(*, stores="one", processes=None, **options):
        config = resolve({}, {**common[0], **options})
        stores = data[stores] if isinstance(stores, str) else stores
        root = rundir.RunDir(tmp_path / "run")
        with assembled(stores, config, root, processes or Processes()) as (trainer, _):
            return trainer

    return run


@pytest.mark.parametrize(("name", "least"), [("max_input_len", 64), ("max_output_len", 16)])
def test_limits(start, name, least):
    """A store that may hold longer rows is refused."""
    start(**{name: least})
    with pytest.raises(MismatchError, match=f"--{name.replace('_', '-')} {least}"):
        start(**{name: least - 1})


test_max_input_len = test_max_output_len = test_limits


def test_max_angle(start, make_store, tmp_path):
    fidelity = [(name, temperature, 20.0) for name in ("jsd", "kl") for temperature in (1.0, 2.0, 4.0)]
    measured = Stores((make_store(tmp_path / "measured.kd", 24, codec="dense", fidelity=fidelity),), None)
    start(stores=measured, max_angle=21)
    start(stores=measured, accept_infidelity=True)
    with pytest.raises(CapabilityError, match="10 degrees"):
        start(stores=measured)


test_accept_infidelity = test_max_angle


def test_device():
    assert settle(resolve({}, {"device": "cpu"}))[0].type == "cpu"
    with pytest.raises(CapabilityError, match="cuda:99"):
        settle(resolve({}, {"device": "cuda:99"}))


def test_vocab_size(tmp_path):
    rows = [
        {"focal_method": f"int size{i}() {{}}", "test_method": f"void t{i}() {{", "assertion": f"assertNull(a{i});"}
        for i in range(30)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = []
    for size in (270, 290):
        words = [
            "teacher", tmp_path / "rows.jsonl", "--from-scratch", "micro", "--vocab-size", size, "--max-steps", 1,
            "--device", "cpu", "--output-dir", tmp_path / str(size), "--recipe", "quickstart_teacher",
        ]  # fmt: skip
        result = CliRunner().invoke(main, list(map(str, words)))
        assert result.exit_code == 0, result.stderr
        found.append(json.loads((tmp_path / str(size) / "final_model" / "config.json").read_text())["vocab_size"])
    assert found == [270, 290]


def test_gradient_checkpointing(data, common, tmp_path):
    """Fewer bytes are kept for the backward pass, and the losses are the same."""
    kept, losses = [], []

    def keep(value):
        kept[-1] += value.nbytes
        return value

    for again in (False, True):
        kept.append(0)
        options = {**common[0], **SHORT, "gradient_checkpointing": again, "dropout_rate": 0.0}
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
            found = seen(data["one"], options, tmp_path / str(again))
        losses.append([float(value) for value in found.tables["step_metrics.csv"]["total_loss_weighted"]])
    assert kept[1] < 0.8 * kept[0]
    assert losses[1] == pytest.approx(losses[0])


def test_compile(start, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda call, **options: (compiled.append(call), call)[1])
    start()
    assert compiled == []
    start(compile=True)
    assert len(compiled) == 2


def test_deterministic(data, common, tmp_path, monkeypatch):
    told, step = [], torch.optim.AdamW.step
    enabled = torch.are_deterministic_algorithms_enabled
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self, *a: (told.append(enabled()), step(self, *a))[1])
    for wanted in (False, True):
        seen(data["one"], {**common[0], "max_steps": 1, "deterministic": wanted}, tmp_path / str(wanted))
    assert told == [False, True]
    assert not enabled()


def test_parallel(start, monkeypatch):
    """Each of two processes holds all weights, or a share; the other one is not there, since nothing is sent."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    try:
        held = {}
        for parallel in ("ddp", "fsdp"):
            trainer = start(processes=Processes(0, 2, 0), parallel=parallel, gradient_steps=0)
            shares = [getattr(one, "to_local", lambda one=one: one)() for one in trainer.student.model.parameters()]
            held[parallel] = sum(one.numel() for one in shares)
    finally:
        dist.destroy_process_group()
    assert held["fsdp"] == pytest.approx(held["ddp"] / 2, rel=0.1)


def test_ddp_timeout(data, monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    for port, seconds in ((29511, 1), (29512, 2)):
        monkeypatch.setenv("MASTER_PORT", str(port))
        words = ["student", data["one"].train[0].root, "--ddp-timeout", seconds, "--device", "cpu"]
        result = CliRunner().invoke(main, list(map(str, words)))
        assert result.exit_code == 9, result.exception
        assert f"{seconds} seconds" in result.stderr
        assert "--ddp-timeout" in result.stderr


def test_after(data, common, tmp_path):
    for word in ("one", "two"):
        (tmp_path / f"{word}.toml").write_text(
            f"""[run]\nafter = ["python", "-c", "open('{tmp_path}/after-{word}', 'w')"]\n"""
        )
        words = [
            "student", data["one"].train[0].root, "--recipe", tmp_path / f"{word}.toml", "--max-steps", 1,
            "--model-name", common[0]["model_name"], "--output-dir", tmp_path / word, "--device", "cpu",
        ]  # fmt: skip
        assert CliRunner().invoke(main, list(map(str, words))).exit_code == 0
        assert (tmp_path / f"after-{word}").is_file()
