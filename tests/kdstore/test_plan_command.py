"""`kdstore plan`: what is measured, what is recommended, and the command that builds it."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from kdstore.codecs import CODECS
from kdstore.errors import CapabilityError, EmptyInputError, ModelError, UnknownNameError, UsageError
from kdstore.store.reader import Store

from .conftest import Run, make_rows, write_rows
from .test_fidelity_command import fails

SAMPLE = ("--sample-positions", 1200, "--no-teacher-prediction")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("plan") / "rows.jsonl", make_rows(120))


@pytest.fixture(scope="module")
def planned(kdstore: Run, source: Path, teacher: Path) -> dict[str, Any]:
    """Everything that is tried by default."""
    result = kdstore("plan", source, "--teacher", teacher, *SAMPLE, "--target-angle", 80, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def worst(trial: dict[str, Any]) -> float:
    angles = {record["temperature"]: record["angle_deg"] for record in trial["fidelity"]}
    return max(angles.get(T, 180.0) for T in (1.0, 2.0, 4.0))


def recommended(plan: dict[str, Any]) -> dict[str, Any]:
    (trial,) = [trial for trial in plan["trials"] if trial["recommended"]]
    return trial


def test_every_setting_of_every_codec_but_dense_is_tried(planned: dict[str, Any]) -> None:
    found = [(trial["codec"], trial["settings"]) for trial in planned["trials"]]
    expected = [
        (name, CODECS.get(name).Config.model_validate(rung).model_dump(mode="json"))
        for name in CODECS.names()
        for rung in CODECS.get(name).ladder
        if name != "dense"
    ]
    assert found == expected


def test_numbers_add_up(planned: dict[str, Any], kdstore: Run, source: Path, teacher: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.kd"
    assert kdstore("build", source, "--tokenizer", teacher, "--out", tokens).exit_code == 0
    manifest = Store(tokens).manifest
    assert (planned["rows"], planned["label_tokens"]) == (manifest.rows, manifest.label_tokens)
    for trial in planned["trials"]:
        size = trial["bytes_per_token"] * planned["label_tokens"] + trial["shared_bytes"]
        assert trial["total_bytes"] == pytest.approx(size, abs=2)
        assert trial["minutes"] > 0
        assert all(record["divergence"] == "kl" and record["positions"] >= 300 for record in trial["fidelity"])


def test_the_fewest_bytes_within_the_angle(planned: dict[str, Any]) -> None:
    best = recommended(planned)
    assert worst(best) <= 80
    assert not [t for t in planned["trials"] if worst(t) <= 80 and t["bytes_per_token"] < best["bytes_per_token"]]


def test_the_printed_command_builds_what_was_planned(
    kdstore: Run, source: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--teacher", teacher, *SAMPLE, "--max-output-len", 12, "--limit", 90, "--seed", 3]
    result = kdstore("plan", source, *options, "--codecs", "topk,topp", "--target-bytes", 60)
    assert result.exit_code == 0, result.stderr
    program, *command = shlex.split(result.stdout.splitlines()[-1])
    assert program == "kdstore"
    built = kdstore(*command)
    assert built.exit_code == 0, built.stderr
    store = Store(tmp_path / "train.kd")
    assert (store.rows, store.head.seed, store.head.limits.max_output_tokens) == (90, 3, 12)
    assert store.head.codec.name in ("topk", "topp")
    assert f"* {store.head.codec.name}" in " ".join(result.stdout.replace("*", "* ").split())
    assert "text/teacher_prediction" not in {field.name for field in store.schema.fields}


def test_a_budget_is_for_the_whole_signal(planned: dict[str, Any], kdstore: Run, source: Path, teacher: Path) -> None:
    sizes = sorted(t["total_bytes"] for t in planned["trials"] if t["codec"] in ("lowrank", "topk"))
    budget = sizes[len(sizes) // 2] + 1  # sizes were rounded
    options = ["--teacher", teacher, *SAMPLE, "--codecs", "lowrank,topk", "--json"]
    plan = json.loads(kdstore("plan", source, *options, "--disk", f"{budget / 1000:.3f}kB").stdout)
    best = recommended(plan)
    fitting = [trial for trial in plan["trials"] if trial["total_bytes"] <= budget]
    assert 0 < len(fitting) < len(plan["trials"])
    assert best in fitting
    assert worst(best) == min(map(worst, fitting))


def test_a_target_out_of_reach_is_said_after_the_table(
    kdstore: Run, source: Path, teacher: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "a.png"
    result = kdstore(
        "plan", source, "--teacher", teacher, *SAMPLE, "--codecs", "topk", "--disk", "10B", "--plot", picture
    )
    fails(result, CapabilityError, "Expected", "at least", "--limit")
    assert result.stdout.count("topk k=") == len(CODECS.get("topk").ladder)
    assert "Recommended" not in result.stdout
    with Image.open(picture) as drawn:
        assert drawn.format == "PNG"


def test_dense_is_tried_when_it_is_named(kdstore: Run, source: Path, teacher: Path) -> None:
    result = kdstore("plan", source, "--teacher", teacher, *SAMPLE, "--codecs", "dense", "--json")
    plan = json.loads(result.stdout)
    assert [trial["settings"]["dtype"] for trial in plan["trials"]] == ["int4", "int8", "f16", "f32"]
    assert worst(plan["trials"][-1]) < 0.1


def test_predictions_cost_time(kdstore: Run, source: Path, teacher: Path) -> None:
    options = ["--sample-positions", 300, "--codecs", "topk", "--json"]
    plan = json.loads(kdstore("plan", source, "--teacher", teacher, *options).stdout)
    assert plan["prediction_minutes"] > 0
    assert all(trial["minutes"] > plan["prediction_minutes"] for trial in plan["trials"])


def test_nothing_is_left_behind(
    kdstore: Run, source: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert kdstore("plan", source, "--teacher", teacher, *SAMPLE, "--codecs", "topk").exit_code in (0, 7)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (["--disk", "50 elephants"], UsageError, ("size such as 50GB", "elephants")),
        (["--disk", "50GB, or so"], UsageError, ("size such as 50GB", "or so")),
        (["--disk", "0GB"], UsageError, ("0GB",)),
        (["--disk", "-5GB"], UsageError, ("-5GB",)),
        (["--disk", "5GB", "--target-angle", "3"], UsageError, ("--disk", "Got several")),
        (["--target-angle", "91"], UsageError, ("91",)),
        (["--codecs", "topk,lowrnk"], UnknownNameError, ("lowrnk", "lowrank")),
        (["--codecs", ""], UnknownNameError, ("codec",)),
        (["--plot", "a.gif"], UsageError, ("a.gif", ".png")),
        (["--teacher", "no/such/model"], ModelError, ("no/such/model",)),
        (["--student", "no/such/model"], ModelError, ("no/such/model",)),
    ],
)
def test_wrong_options(
    kdstore: Run, source: Path, teacher: Path, options: list[str], error: type, words: tuple[str, ...]
) -> None:
    fails(kdstore("plan", source, "--teacher", teacher, *SAMPLE, *options), error, *words)


def test_too_few_rows(kdstore: Run, teacher: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "one.jsonl", make_rows(1))
    fails(kdstore("plan", rows, "--teacher", teacher, *SAMPLE), EmptyInputError, "measure", "Got 1")
