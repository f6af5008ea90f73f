"""What ``kdtrain`` says of streaming: the budget, epochs of fewer rows, several stores, the doctor."""

import csv
import json
import re

import pytest
from click.testing import CliRunner

from kdtrain.cli import main


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def train(stores, model_dir, tmp_path):
    """Run ``kdtrain student``; the result, the rows of its steps, and the text of its log."""

    def run(*arguments, name="run", trained=(stores[0],)):
        result = invoke(
            "student", *(store.root for store in trained), "--val", stores[1].root, "--output-dir", tmp_path / name,
            "--device", "cpu", "--no-after", "--model-name", model_dir, "--batch-size", 8,
            "--loss-function", "traditional", "--no-temperature-decay", *arguments,
        )  # fmt: skip
        if result.exit_code:
            return result, [], ""
        with (tmp_path / name / "step_metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        return result, rows, (tmp_path / name / "distillation_log.txt").read_text()

    return run


def numbers(rows):
    return [(row["step"], row["epoch"], row["total_loss_raw"], row["grad_norm_total"]) for row in rows]


def test_a_limit_is_kept_printed_and_changes_nothing(train):
    wide, expected, _ = train("--epochs", 2)
    assert "the whole store in memory" in wide.stderr
    tight, found, log = train(
        "--epochs", 2, "--ram-limit", "160MiB", "--residency", "window", "--read-threads", 2, name="b"
    )
    assert tight.exit_code == 0, tight.stderr
    planned = re.search(r"at most (\d+) MiB of the (\d+) MiB that --ram-limit leaves it", log)
    assert int(planned[1]) <= int(planned[2]) <= 160
    assert "reading threads: 2;" in " ".join(tight.stderr.split())
    assert numbers(found) == numbers(expected)
    refused, _, _ = train("--ram-limit", "1MiB", name="c")
    assert refused.exit_code == 7
    assert "--ram-limit" in refused.stderr


@pytest.mark.parametrize(
    "spelling",
    [
        ["--epoch-samples", 40, "--sampling-seed", 7],
        ["--enable_epoch_sampling", "--max_train_samples", 40, "--sampling_seed", 7],
    ],
    ids=["ours", "predecessor"],
)
def test_epochs_of_fewer_rows(train, spelling):
    _, rows, log = train("--epochs", 3, *spelling)
    assert [row["epoch"] for row in rows] == ["1"] * 5 + ["2"] * 5 + ["3"] * 5
    assert re.findall(r"epoch \d: (\d+) rows, .*; ([\d.]+) % of the rows that take part seen so far", log) == [
        ("40", "41.7"), ("40", "83.3"), ("40", "100.0"),
    ]  # fmt: skip


def test_more_rows_than_there_are_means_all_of_them_and_is_said(train, stores):
    all_rows, expected, _ = train("--epochs", 2)
    result, rows, log = train("--epochs", 2, "--epoch-samples", 1000, "--max-train-samples", 1000, name="b")
    assert numbers(rows) == numbers(expected)
    for option in ("--epoch-samples", "--max-train-samples"):
        assert f"{option} 1,000, and it has {stores[0].rows} rows" in " ".join(result.stderr.split())
        assert option in log
    assert "rows: all of them" not in all_rows.stderr


def test_the_sampling_seed_is_the_seed_unless_given(train):
    _, default, _ = train("--seed", 5, "--max-steps", 3)
    _, same, _ = train("--seed", 5, "--sampling-seed", 5, "--max-steps", 3, name="b")
    _, other, _ = train("--seed", 5, "--sampling-seed", 6, "--max-steps", 3, name="c")
    assert numbers(default) == numbers(same) != numbers(other)


def test_several_stores(train, make_store, stores, tmp_path):
    other = make_store(tmp_path / "other.kd", 40, seed=5, codec="lowrank")
    result, rows, log = train("--mix", "1,3", "--epochs", 2, trained=(stores[0], other))
    assert result.exit_code == 0, result.stderr
    assert len(rows) == 2 * (96 // 8 + 40 // 8)
    shares = re.findall(r"epoch 2: .*train.kd: ([\d.]+) of its epochs; .*other.kd: ([\d.]+) of its epochs", log)
    assert float(shares[0][0]) * 12 + float(shares[0][1]) * 5 == pytest.approx(34, abs=0.2)
    assert float(shares[0][1]) > 4
    wrong, _, _ = train("--mix", "1", name="b", trained=(stores[0], other))
    assert (wrong.exit_code, "--mix 3,1" in wrong.stderr) == (2, True)
    foreign = make_store(tmp_path / "foreign.kd", 8, codec=None, vocab_size=999)
    unlike, _, _ = train(name="c", trained=(stores[0], foreign))
    assert unlike.exit_code == 7  # it has no signal


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--streams", 3], 2, "--batch-size"),
        (["--ram-limit", "lots"], 2, "valid --ram-limit"),
        (["--mix", "a,b"], 2, "3,1"),
        (["--enable-epoch-sampling"], 2, "--epoch-samples"),
        (["--last-batch", "repeat"], 2, "uneven"),
        (["--group-blocks", 0], 2, "valid --group-blocks"),
        (["--mix", "1"], 2, "several stores"),
        (["--epoch-sampling", "rows"], 2, "--epoch-samples"),
    ],
    ids=str,
)
def test_options_that_cannot_be_are_refused(train, options, code, words):
    result, _, _ = train(*options)
    assert result.exit_code == code
    assert words in result.stderr


def test_doctor(stores):
    text = invoke("doctor", stores[0].root, "--batch-size", 16, "--device", "cpu")
    assert text.exit_code == 0, text.stderr
    assert "design effect of batches of 16" in text.stdout
    assert "bound by: " in text.stdout
    assert re.search(r"a training step on 16 rows takes more than [\d.]+ ms", text.stdout)
    found = invoke("doctor", stores[0].root, "--batch-size", 16, "--device", "cpu", "--group-blocks", 1, "--json")
    measured = json.loads(found.stdout)
    assert [stage["name"] for stage in measured["stages"]] == ["read", "decode", "gather"]
    assert all(stage["rows_per_s"] > 0 for stage in measured["stages"])
    # Batches of 16 from blocks of 16: all of one block, where a perfect shuffle of 96 rows gives 1 + 15 * 15 / 95.
    assert measured["effect_mean"] == measured["effect_worst"] == pytest.approx(16 / (1 + 15 * 15 / 95))
    assert measured["plan"]["expected_peak"] > 0
    assert measured["bound"] == min(measured["stages"], key=lambda stage: stage["rows_per_s"])["name"]
