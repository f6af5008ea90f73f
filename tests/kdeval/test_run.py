"""Evaluation of a model on a store and on raw rows."""

import gzip
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import T5ForConditionalGeneration

from kdeval.data import RawRows
from kdeval.predict import load_model
from kdeval.results import (
    COMPARISON,
    PREDICTIONS,
    SAMPLES_TABLE,
    STATISTICS,
    SUMMARY,
    read_predictions,
    read_results,
)
from kdstore.errors import (
    CapabilityError,
    CorruptStoreError,
    EmptyInputError,
    MismatchError,
    ModelError,
    UnknownNameError,
)
from kdstore.store.manifest import Limits
from kdstore.store.reader import Store

from .conftest import METRIC_NAMES, OUTPUT_TOKENS, ROWS, assert_fails, invoke, make_model, make_tokenizer, write_store


def predictions(directory: Path) -> list[str]:
    return [sample.prediction for sample in read_predictions(directory / PREDICTIONS)]


def test_files(world, evaluated, tmp_path):
    results = evaluated()
    samples = list(read_predictions(tmp_path / "run" / PREDICTIONS))
    assert [sample.id for sample in samples] == [f"row-{index}" for index in range(ROWS)]
    assert [sample.reference for sample in samples] == world.assertions
    assert samples[3].prompt.endswith("void test() {")
    assert (samples[0].repo, samples[0].path) == ("demo", "src/DemoTest.java")
    assert {*METRIC_NAMES} <= {*samples[0].scores}
    assert samples[0].teacher_scores["exact_match"] == 1.0
    assert read_results(tmp_path / "run") == results
    files = {PREDICTIONS, SUMMARY, SAMPLES_TABLE, COMPARISON, STATISTICS}
    assert {path.name for path in (tmp_path / "run").iterdir()} == files
    for name, checksum in ((PREDICTIONS, results.predictions_sha256), (STATISTICS, results.statistics_sha256)):
        assert checksum == hashlib.sha256((tmp_path / "run" / name).read_bytes()).hexdigest()


def test_summary(world, evaluated):
    results = evaluated()
    store = Store(world.store)
    assert results.data.fingerprint == store.manifest.content_sha256
    assert (results.data.rows, results.data.tokens) == (ROWS, store.manifest.label_tokens)
    assert list(results.metrics) == METRIC_NAMES
    assert results.speed.rows == ROWS
    assert results.speed.tokens > 0
    assert results.settings.max_output_tokens == OUTPUT_TOKENS
    assert results.settings.device == "cpu"
    assert results.versions["torch"] == torch.__version__


def test_stored_teacher_predictions_are_measured(evaluated):
    teacher = evaluated().teacher
    assert teacher.name == "the-teacher"
    assert teacher.metrics["exact_match"].value == (ROWS + 1) // 2 / ROWS
    assert teacher.metrics["ast_validity"].value == 1.0
    assert "loss" not in teacher.metrics


def test_store_without_teacher_predictions(tokenizer, evaluated, tmp_path):
    store = write_store(tmp_path / "plain.kd", tokenizer, ["a b"], ["f();"], teacher=False)
    assert evaluated(store).teacher is None


def test_loss_and_accuracy_agree_with_the_model_itself(world, evaluated):
    results = evaluated()
    model = T5ForConditionalGeneration.from_pretrained(world.model).eval()
    nll = correct = tokens = 0.0
    for block in Store(world.store).scan(["input_ids", "labels"]):
        for index in range(block.rows):
            row = {name: torch.tensor([ids.tolist()]) for name, ids in block.row(index).items()}
            with torch.no_grad():
                output = model(input_ids=row["input_ids"], labels=row["labels"])
            count = row["labels"].numel()
            tokens += count
            nll += output.loss.item() * count
            correct += (output.logits.argmax(-1) == row["labels"]).sum().item()
    assert results.metrics["loss"].value == pytest.approx(nll / tokens, rel=1e-5)
    assert results.metrics["token_accuracy"].value == pytest.approx(correct / tokens)


def test_greedy_predictions_do_not_depend_on_batch_size_or_run(evaluated, tmp_path):
    seen = []
    for size in (1, 5, 64):
        evaluated(into=f"run-{size}", batch_size=size)
        seen.append(predictions(tmp_path / f"run-{size}"))
    assert seen[0] == seen[1] == seen[2]
    assert len(set(seen[0])) > 1, "a model that always writes the same would prove nothing"
    evaluated(into="again")
    assert predictions(tmp_path / "again") == seen[0]


def test_limit_takes_the_first_rows(evaluated, tmp_path):
    evaluated()
    results = evaluated(into="some", limit=9)
    assert results.data.rows == 9
    assert predictions(tmp_path / "some") == predictions(tmp_path / "run")[:9]


def test_raw_rows_give_what_the_store_gives(world, evaluated, tmp_path):
    stored = evaluated()
    raw = evaluated(world.raw, into="raw", max_output_tokens=OUTPUT_TOKENS)
    assert predictions(tmp_path / "raw") == predictions(tmp_path / "run")
    assert raw.metrics == stored.metrics
    assert raw.data.kind == "jsonl"
    assert raw.data.fingerprint == hashlib.sha256(world.raw.read_bytes()).hexdigest()


def test_beams(evaluated, tmp_path):
    assert evaluated(num_beams=3, limit=5).data.rows == 5
    assert len(predictions(tmp_path / "run")) == 5


def test_long_prompts_lose_their_start(world, tokenizer):
    limits = Limits(max_input_tokens=6, max_output_tokens=4, overlong="truncate")
    model = load_model(world.model, "cpu", 1)
    item = next(RawRows(world.raw, model, limits, "java_assertion").items())
    whole = tokenizer(item.prompt).input_ids
    assert item.input_ids == whole[-6:]
    assert len(item.label_ids) == 4
    assert item.label_ids[-1] == tokenizer.eos_token_id


def test_bad_rows_are_counted_and_told(world, evaluated, tmp_path, capsys):
    lines = world.raw.read_text().splitlines()[:4]
    raw = tmp_path / "bad.jsonl.gz"
    raw.write_bytes(gzip.compress("\n".join([lines[0], "{not json", '{"focal_method": "f"}', *lines[1:]]).encode()))
    results = evaluated(raw)
    assert (results.data.rows, results.data.rejected) == (4, 2)
    assert "bad.jsonl.gz:2" in capsys.readouterr().err


def test_no_usable_row(evaluated, tmp_path):
    raw = tmp_path / "rows.jsonl"
    raw.write_text("[]\n")
    with pytest.raises(EmptyInputError, match=r"rows\.jsonl:1"):
        evaluated(raw)
    assert not (tmp_path / "run").exists(), "a failed evaluation leaves nothing behind"


def test_vocabulary_of_another_size_is_refused(world, tokenizer, tmp_path):
    model = make_model(tmp_path / "m", len(tokenizer) + 8, None)
    result = invoke("run", model, "--data", world.store)
    assert_fails(result, MismatchError.exit_code, str(len(tokenizer)), str(len(tokenizer) + 8))


def test_another_vocabulary_of_the_same_size_is_refused(world, tokenizer, tmp_path):
    other = make_tokenizer(["zebra quartz fjord " * 9, "vexing wizards jumped"])
    model = make_model(tmp_path / "m", len(tokenizer), other)
    assert_fails(invoke("run", model, "--data", world.store), MismatchError.exit_code, "store's tokenizer")


def test_raw_rows_with_a_tokenizer_larger_than_the_model(world, tokenizer, tmp_path):
    model = make_model(tmp_path / "m", 100, tokenizer)
    assert_fails(invoke("run", model, "--data", world.raw), MismatchError.exit_code, "100", str(len(tokenizer)))


def test_infinite_weights_are_refused(world, tokenizer, tmp_path):
    model = T5ForConditionalGeneration.from_pretrained(world.model)
    with torch.no_grad():
        model.shared.weight[5] = float("nan")
    model.save_pretrained(tmp_path / "m")
    assert_fails(invoke("run", tmp_path / "m", "--data", world.store), ModelError.exit_code, "finite logits")


def test_damaged_store_is_refused(tokenizer, world, tmp_path):
    store = write_store(tmp_path / "bad.kd", tokenizer, ["a b"] * 4, ["f();"] * 4)
    next((store / "parts" / "00000" / "labels" / "values").rglob("c/*")).unlink()
    result = invoke("run", world.model, "--data", store, "--into", tmp_path / "run")
    assert_fails(result, CorruptStoreError.exit_code, "labels/values")


@pytest.mark.parametrize(
    ("option", "value", "largest"),
    [
        ("--batch-size", 10**30, 65536),
        ("--num-beams", 100_000, 64),
        ("--max-input-len", 16_385, 16384),
        ("--max-output-len", 10**12, 16384),
        ("--limit", 10**30, 1 << 53),
    ],
)
def test_settings_without_measure_are_refused(world, tmp_path, option, value, largest):
    result = invoke("run", world.model, "--data", world.store, "--into", tmp_path, option, value, "--device", "cpu")
    assert_fails(result, 2, option, f"<={largest}")


@pytest.mark.parametrize("name", ["max_input_tokens", "max_output_tokens"])
def test_store_with_limits_without_measure_is_refused(world, tokenizer, tmp_path, name):
    store = write_store(tmp_path / "long.kd", tokenizer, ["a b"], ["f();"], **{name: 16_385})
    result = invoke("run", world.model, "--data", store, "--into", tmp_path / "run", "--limit", 1)
    assert_fails(result, CapabilityError.exit_code, "16384", "16385", "long.kd")


@pytest.mark.parametrize(
    ("arguments", "error", "word"),
    [
        (("nowhere", "--data", "rows.jsonl"), ModelError, "nowhere"),
        ((".", "--data", "rows.jsonl"), ModelError, "seq2seq model"),
    ],
)
def test_missing_model(arguments, error, word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_fails(invoke("run", *arguments), error.exit_code, word)


def test_a_run_directory_is_no_model(world, tmp_path):
    assert_fails(invoke("run", world.model.parent, "--data", world.store), ModelError.exit_code, "final_model")


def test_unknown_metric_is_refused_before_anything_is_loaded(tmp_path):
    result = invoke("run", tmp_path / "nowhere", "--data", "x", "--metrics", "f1,bleau")
    assert_fails(result, UnknownNameError.exit_code, "'bleau'", "'bleu'")


def test_command_prints_a_table_and_writes_beside_the_model(world):
    result = invoke(
        "run", world.model, "--data", world.store, "--metrics", "f1,loss", "--limit", 3, "--device", "cpu"
    )
    assert result.exit_code == 0, result.stderr
    assert "Token F1" in result.stdout
    assert "teacher" in result.stdout
    assert (world.model.parent / SUMMARY).is_file()


def test_command_prints_json(world, encoder, tmp_path):
    arguments = ("--limit", 3, "--json", "--into", tmp_path, "--device", "cpu", "--embedding-model", encoder)
    result = invoke("run", world.model, "--data", world.store, *arguments)
    assert json.loads(result.stdout) == json.loads((tmp_path / SUMMARY).read_text())


def test_help_imports_no_torch():
    program = (
        "import sys, click.testing; from kdeval.cli import main\n"
        "for command in ['run', 'report']:\n"
        "    assert click.testing.CliRunner().invoke(main, [command, '--help']).exit_code == 0\n"
        "sys.exit('torch' in sys.modules or 'jinja2' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
