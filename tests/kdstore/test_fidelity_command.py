"""`kdstore fidelity`: what the manifest says, and what a new measurement of the stored signal says."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForSeq2SeqLM

from kdstore.errors import CapabilityError, MismatchError, UsageError
from kdstore.fidelity.plot import DPI, SIZE
from kdstore.store.reader import Store

from .conftest import Run, make_rows, write_rows


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, teacher: Path, kdstore: Run) -> Path:
    """A store of 160 rows in parts of 32, fitted on the first thousand label tokens; several settings were tried."""
    folder = tmp_path_factory.mktemp("fidelity")
    rows = write_rows(folder / "rows.jsonl", make_rows(160))
    result = kdstore(
        "build", rows, "--teacher", teacher, "--out", folder / "train.kd", "--val-out", folder / "val.kd",
        "--val-fraction", 0.2, "--codec", "lowrank", "--target-bytes", 1000, "--fit-positions", 1000,
        "--part-rows", 32, "--block-rows", 8, "--no-teacher-prediction",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    return folder / "train.kd"


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory, teacher: Path) -> Path:
    """A model like the teacher with other weights."""
    return perturbed(teacher, tmp_path_factory.mktemp("student") / "model", scale=0.3)


def perturbed(model: Path, out: Path, scale: float) -> Path:
    shutil.copytree(model, out)
    torch.manual_seed(1)
    other = AutoModelForSeq2SeqLM.from_pretrained(model)
    for parameter in other.parameters():
        parameter.data += scale * parameter.std() * torch.randn_like(parameter)
    other.save_pretrained(out)
    return out


def shown(kdstore: Run, *args: Any) -> dict[str, Any]:
    result = kdstore("fidelity", *args, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def fails(result: Any, error: type, *words: str) -> None:
    lines = [line for line in result.stderr.splitlines() if "error:" in line]
    assert result.exit_code == error.exit_code, result.output
    assert len(lines) == 1
    assert all(word in lines[0] for word in words), lines[0]


def test_it_shows_what_the_manifest_says(kdstore: Run, store: Path) -> None:
    found = shown(kdstore, store)
    manifest = Store(store).manifest
    assert found["fidelity"] == [r.model_dump(mode="json") for r in manifest.head.codec.fidelity]
    assert found["measured"] == "build"
    shared = sum(path.stat().st_size for path in (store / "shared").rglob("*") if path.is_file())
    assert found["shared_bytes"] == shared
    assert found["total_bytes_per_token"] == pytest.approx(manifest.signal_bytes_per_token + shared / 1e6, abs=2e-3)
    ratios = {ref.index: Store(store).part(ref.index).record.signal_kl for ref in manifest.parts}
    assert found["drift"]["part"] == max(ratios, key=ratios.get)


def test_the_table_has_a_line_for_every_record(kdstore: Run, store: Path) -> None:
    result = kdstore("fidelity", store)
    assert result.exit_code == 0, result.stderr
    records = Store(store).head.codec.fidelity
    lines = [line for line in result.stdout.splitlines() if {"kl", "jsd", "reverse_kl"} & {*line.split()}]
    assert len(lines) == len(records)
    assert f"{records[0].angle_deg:.2f}" in lines[0]
    assert records[0].reference in result.stdout


def test_what_is_stored_is_as_true_as_the_sample_was(kdstore: Run, store: Path, teacher: Path) -> None:
    at_build = shown(kdstore, store)["fidelity"]
    now = shown(kdstore, store, "--teacher", teacher, "--positions", 400)
    assert now["measured"] == "now"
    assert {(r["divergence"], r["temperature"]) for r in now["fidelity"]} == {
        (loss, T) for loss in ("kl", "jsd", "reverse_kl") for T in (1.0, 2.0, 4.0)
    }
    for new, old in zip(now["fidelity"], at_build, strict=False):
        assert 400 <= new["positions"] < 440
        assert new["kl_mean"] == pytest.approx(old["kl_mean"], rel=0.5)
        assert new["bytes_per_token"] == pytest.approx(now["signal_bytes_per_token"], abs=1e-3)


def test_it_compares_the_rows_and_positions_that_belong_together(
    kdstore: Run, tmp_path: Path, rows: Path, teacher: Path
) -> None:
    """Full logits are exact: any row out of place would show. Batches of the build were made otherwise."""
    out = tmp_path / "dense.kd"
    built = kdstore("build", rows, "--teacher", teacher, "--out", out, "--codec", "dense", "--codec-set", "dtype=f32")
    assert built.exit_code == 0, built.stderr
    for record in shown(kdstore, out, "--teacher", teacher, "--positions", 300)["fidelity"]:
        assert record["angle_deg"] < 0.1
        assert record["kl_p99"] < 1e-5


def test_a_damaged_signal_is_measured_as_it_is(kdstore: Run, store: Path, teacher: Path, tmp_path: Path) -> None:
    """The store is decoded with another basis: a measurement that encoded anew would not notice."""
    from kdstore.encode.remeasure import remeasure

    opened = Store(store)
    codec = opened.codec()
    codec.shared["basis"] = -codec.shared["basis"]
    opened.codec = lambda: codec
    whole = remeasure(Store(store), str(teacher), None, "cpu", 400)
    broken = remeasure(opened, str(teacher), None, "cpu", 400)
    assert broken[0].angle_deg > 5 * whole[0].angle_deg


def test_a_trained_student_is_asked(kdstore: Run, store: Path, teacher: Path, student: Path) -> None:
    (first, *_) = shown(kdstore, store, "--teacher", teacher, "--student", student, "--positions", 200)["fidelity"]
    assert first["reference"].startswith(f"student {student}")


def test_rows_of_the_fit_are_left_out(kdstore: Run, store: Path, teacher: Path) -> None:
    from kdstore.encode.remeasure import _unseen_rows

    opened = Store(store)
    total = opened.manifest.label_tokens
    unseen = _unseen_rows(opened, total)
    fitted = opened.head.codec.fit_positions
    assert 1000 <= fitted < total
    assert unseen.offsets("labels")[-1] == total - fitted
    everything = [block.row(index) for block in opened.scan() for index in range(block.rows)]
    last = unseen.row(unseen.rows - 1)
    assert last["labels"].tolist() == everything[-1]["labels"].tolist()
    for name, values in last["teacher"].items():
        assert values.tolist() == everything[-1]["teacher"][name].tolist()
    # The fit of a validation store's codec saw rows of the training store only.
    validation = Store(store.with_name("val.kd"))
    assert _unseen_rows(validation, 10**6).offsets("labels")[-1] == validation.manifest.label_tokens


def test_the_plot_is_a_picture(kdstore: Run, store: Path, tmp_path: Path) -> None:
    result = kdstore("fidelity", store, "--plot", tmp_path / "a.png")
    assert result.exit_code == 0, result.stderr
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.format == "PNG"
        assert picture.size == (SIZE[0] * DPI, SIZE[1] * DPI)
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 50


def test_another_teacher_is_refused(kdstore: Run, store: Path, student: Path) -> None:
    expected = Store(store).head.teacher.weights_sha256[:12]
    fails(kdstore("fidelity", store, "--teacher", student), MismatchError, expected, str(student))


def test_stores_that_have_nothing_to_show(kdstore: Run, tmp_path: Path, rows: Path, teacher: Path) -> None:
    tokens = tmp_path / "tokens.kd"
    assert kdstore("build", rows, "--tokenizer", teacher, "--out", tokens).exit_code == 0
    fails(kdstore("fidelity", tokens), CapabilityError, "tokens only", "--teacher")
    few, one = write_rows(tmp_path / "few.jsonl", make_rows(1)), tmp_path / "one.kd"
    assert kdstore("build", few, "--teacher", teacher, "--out", one, "--fidelity-positions", 1).exit_code == 0
    fails(kdstore("fidelity", one), CapabilityError, "manifest", "--teacher")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--plot", "a.jpg"], ("--plot", ".png", "a.jpg")),
        (["--plot", "no/such/a.png"], ("--plot", "no/such")),
        (["--student", "s"], ("--teacher",)),
    ],
)
def test_wrong_options(kdstore: Run, store: Path, options: list[str], words: tuple[str, ...]) -> None:
    fails(kdstore("fidelity", store, *options), UsageError, *words)
