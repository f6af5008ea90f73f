"""The logs of a run: the columns that users know, sums that agree, and the same files after an interruption."""

import csv
import json
import re
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kdstore.errors import TrainingError
from kdtrain.logs import columns as columns_module
from kdtrain.logs import health
from kdtrain.logs.columns import gradient_columns, metrics_columns, step_columns
from kdtrain.logs.run_log import RunLog, describe
from kdtrain.logs.summaries import EpochSummary, LossSummary, TrainingReport
from kdtrain.rundir import RunDir

from .log_records import COMPONENTS, METRICS, gradient_record, step_record, told, validation_record, write, written

__all__ = ["written"]

# What differs between two runs of the same.
TIMED = {"timestamp", "memory_usage_mb"}
SUMMARIES = ("epoch_1_summary.json", "epoch_2_summary.json", "epoch_3_summary.json", "training_report.json",
             "multi_component_loss_summary.json")  # fmt: skip


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def exact(run):
    """All tables and summaries, but times and memory."""
    tables = [
        [{name: cell for name, cell in row.items() if name not in TIMED} for row in rows(path)]
        for path in (run.step_metrics, run.metrics, run.component_gradients)
    ]
    summaries = [json.loads((run.root / name).read_text()) for name in SUMMARIES]
    for summary in summaries:
        summary.pop("memory_usage_mb", None)
    return tables, summaries


def test_the_columns_of_steps_are_those_that_users_know(written):
    known = (
        "timestamp,epoch,step,mini_batch_idx,focal_loss_raw,focal_loss_weighted,jsd_loss_raw,jsd_loss_weighted,"
        "semantic_loss_raw,semantic_loss_weighted,total_loss_raw,total_loss_weighted,grad_norm_total,"
        "grad_norm_encoder,grad_norm_decoder,learning_rate,temperature,alpha,effective_batch_size,memory_usage_mb,"
        "elapsed_time_seconds,focal_weight,jsd_weight,semantic_weight,data_wait,tokens_per_second,gpu_memory_mb,"
        "gpu_util,sampling_seconds"
    )
    assert written.step_metrics.read_text().splitlines()[0] == f"{known},label_tokens"
    assert written.metrics.read_text().splitlines()[0] == ",".join(metrics_columns(COMPONENTS, METRICS))
    assert written.component_gradients.read_text().splitlines()[0] == ",".join(gradient_columns(COMPONENTS))


def test_a_step_in_figures(written):
    first, second = rows(written.step_metrics)[:2]
    third = rows(written.step_metrics)[2]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", first["timestamp"])
    assert (second["epoch"], second["step"], second["mini_batch_idx"]) == ("1", "2", "3")
    assert float(third["semantic_loss_weighted"]) == pytest.approx(
        5 * float(third["semantic_weight"]) * float(third["semantic_loss_raw"])
    )
    for total in ("raw", "weighted"):
        parts = sum(float(third[f"{name}_loss_{total}"]) for name in COMPONENTS)
        assert float(third[f"total_loss_{total}"]) == pytest.approx(parts)
    assert (first["jsd_loss_raw"], first["jsd_loss_weighted"], first["jsd_weight"]) == ("", "", "0")
    assert float(first["tokens_per_second"]) == 91 / 0.5
    assert 10 < float(first["memory_usage_mb"]) < 1e5
    assert (first["gpu_memory_mb"], first["gpu_util"]) == ("", ""), "there is no GPU"


def test_rows_of_validations_hold_means_since_the_row_before(written):
    start, first, second, third = rows(written.metrics)
    steps = rows(written.step_metrics)
    assert [row["step"] for row in (start, first, second, third)] == ["0", "4", "8", "12"]
    assert start["train_loss"] == start["learning_rate"] == start["tokens_per_second"] == ""
    assert start["label_tokens"] == "0"
    for row, span in ((first, steps[:4]), (second, steps[4:8]), (third, steps[8:])):
        mean = sum(float(step["total_loss_weighted"]) for step in span) / 4
        assert float(row["train_loss"]) == pytest.approx(mean, rel=1e-7)
        assert int(row["label_tokens"]) == sum(int(step["label_tokens"]) for step in span)
        assert float(row["tokens_per_second"]) == pytest.approx(int(row["label_tokens"]) / 2, rel=1e-6)
        assert row["learning_rate"] == span[-1]["learning_rate"]
    with_jsd = [float(step["jsd_loss_raw"]) for step in steps[2:4]]
    assert float(first["train_jsd_loss"]) == pytest.approx(sum(with_jsd) / 2), "over the steps that have it"
    assert float(first["f1"]) == 0.08
    assert first["best"] == "1"
    # The epoch without a validation has a row all the same.
    assert [second[name] for name in ("val_loss", "val_jsd_loss", "f1", "best", "val_label_tokens")] == [""] * 5
    assert second["elapsed_time_seconds"] == "4"


def test_gradients_and_their_shares(written):
    first, second, _ = rows(written.component_gradients)
    assert (first["focal_decoder_norm"], first["focal_decoder_share"]) == ("3", "0.75")
    assert (first["semantic_decoder_norm"], first["semantic_decoder_share"]) == ("", "")
    assert [float(first[f"{name}_encoder_share"]) for name in COMPONENTS] == [0.5, 0.25, 0.25]
    assert float(second["semantic_encoder_norm"]) == pytest.approx(0.5 / 6)


@pytest.mark.parametrize("stop", list(told()), ids=lambda at: f"{at[0]}-{at[1]}")
def test_an_interrupted_run_leaves_the_same_files(written, tmp_path, stop):
    """Whatever was told last, and whichever checkpoint the run goes on from."""
    checkpoints = {0, stop[1] - 2, stop[1] // 4 * 4 if stop[0] == "epoch" else (stop[1] - 1) // 4 * 4}
    for after in (step for step in checkpoints if step >= 0):
        parts = RunDir(tmp_path / f"parts-{after}")
        write(parts, stop=stop)
        write(parts, after)
        assert exact(parts) == exact(written)


def test_a_resumed_run_that_was_finished_leaves_the_same_files(written):
    before = exact(written)
    write(written, after=12)
    assert exact(written) == before


def test_summaries_can_be_read_back(written):
    for name, model in zip(SUMMARIES, [EpochSummary] * 3 + [TrainingReport, LossSummary], strict=True):
        text = (written.root / name).read_bytes()
        assert model.model_validate_json(text).is_written_as(text), name
    assert not list(written.root.glob(".*")), "nothing half-written"


def test_the_summary_of_an_epoch(written):
    first, second, third = (json.loads(written.epoch_summary(epoch).read_text()) for epoch in (1, 2, 3))
    assert (first["steps"], first["step"], first["account"]) == (4, 4, "32 rows, coverage 33%")
    assert first["components"]["jsd"]["raw"]["count"] == 2, "it came with the third step"
    assert first["components"]["focal"]["raw"]["first"] > first["components"]["focal"]["raw"]["last"]
    assert first["temperature"]["last"] == 3.6
    assert first["tokens_per_second"] == pytest.approx((91 + 92 + 93 + 94) / 2)
    assert first["validation"]["metrics"] == {"exact_match": 0.04, "f1": 0.08}
    assert second["validation"] is None
    assert third["validation"]["step"] == 12
    assert third["data_wait_seconds"] == pytest.approx(0.04)


def test_the_report_of_a_run(written):
    report = json.loads(written.training_report.read_text())
    assert report["run"] == {"steps": 12, "best_loss": None, "stores": ["train.kd"], "config_sha256": "ab"}
    assert (report["steps"], report["label_tokens"]) == (12, sum(90 + step for step in range(1, 13)))
    assert [(line["epoch"], line["step"], line["val_loss"] is None) for line in report["epochs"]] == [
        (1, 4, False), (2, 8, True), (3, 12, False),
    ]  # fmt: skip
    assert [one["step"] for one in report["validations"]] == [0, 4, 12]
    assert report["best"] == report["validations"][-1]
    assert report["warnings"] == []


def test_the_summary_of_components(written):
    summary = json.loads(written.loss_summary.read_text())
    shares = [summary["components"][name]["loss_share"] for name in COMPONENTS]
    assert sum(shares) == pytest.approx(1)
    jsd = summary["components"]["jsd"]
    assert (jsd["weight_start"], jsd["weight_end"]) == (0, 0.5)
    assert jsd["gradients"]["decoder"] == {"norm": 1, "share": 0.25}
    assert summary["components"]["semantic"]["gradients"]["decoder"] is None
    assert summary["gradient_measurements"] == 3


def test_tensorboard_has_the_groups_that_users_know(written):
    events = EventAccumulator(str(written.tensorboard))
    events.Reload()
    tags = events.Tags()["scalars"]
    assert {tag.partition("/")[0] for tag in tags} == {
        "Loss", "Loss_Raw", "Loss_Weighted", "Weights", "Gradients", "Hyperparams", "Validation", "Training",
    }  # fmt: skip
    assert {"Loss/total", "Loss_Raw/jsd", "Validation/f1", "Gradients/norm_total", "Hyperparams/alpha"} <= set(tags)
    assert [event.step for event in events.Scalars("Loss_Raw/jsd")] == list(range(3, 13))
    assert [event.step for event in events.Scalars("Validation/loss")] == [0, 4, 12]


def test_tensorboard_forgets_steps_that_were_undone(tmp_path):
    run = RunDir(tmp_path / "run")
    write(run, stop=("step", 7))
    write(run, after=4)
    events = EventAccumulator(str(run.tensorboard))
    events.Reload()
    assert [event.step for event in events.Scalars("Loss/total")] == list(range(1, 13))


def test_the_text_log(written):
    lines = written.log.read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S", line) for line in lines)
    assert "step 4: validation loss 4.9660 (focal 1.2824, jsd 2.8236, semantic 0.8600, " in lines[1]
    assert lines[1].endswith("f1 0.0800), the best")
    assert re.search(r" epoch 2: 64 rows, coverage 67%; [\d,]+ MiB in memory$", lines[-3])


def test_a_step_in_words():
    assert describe(step_record(3), 5) == ("epoch 1/5, loss 2.563 (focal 1.43, jsd 3.26, semantic 0.87), lr 0.000333")


def warned(run, after=0, until=130):
    """A run that begins to swing at once, and whose gradient is far too large."""
    with RunLog(run, COMPONENTS, METRICS, after) as log:
        for step in range(after + 1, until + 1):
            weighted = {"focal": 3.0 + 2 * (step % 2), "jsd": 2.0, "semantic": 0.3}
            log.step(step_record(step, epoch=1, weighted=weighted, norms={"total": 60.0}))
        log.validation(validation_record(until))
        log.epoch(1, until, "all rows")
        log.finish({})


def test_warnings_are_said_once_and_kept(tmp_path, capsys):
    run = RunDir(tmp_path)
    warned(run)
    said = [line for line in run.log.read_text().splitlines() if " warning at step " in line]
    assert [re.search(r"step (\d+) \((\w+)\)", line).groups() for line in said] == [
        ("50", "gradient_large"), ("100", "loss_oscillation"),
    ]  # fmt: skip
    assert capsys.readouterr().err.count("warning at step") == 2
    for path in (run.epoch_summary(1), run.training_report):
        assert [one["kind"] for one in json.loads(path.read_text())["warnings"]] == [
            "gradient_large",
            "loss_oscillation",
        ]
    kept = json.loads(run.training_report.read_text())["warnings"]
    warned(run, after=70)
    assert capsys.readouterr().err.count("warning at step") == 1, "the swing, whose row was dropped"
    assert json.loads(run.training_report.read_text())["warnings"] == kept


def test_half_a_row_is_dropped_and_cannot_be_taken_for_a_number(written, tmp_path):
    whole = exact(written)
    for path in (written.step_metrics, written.metrics):
        path.write_bytes(path.read_bytes()[:-3])
    write(written, after=8)
    assert exact(written) == whole


@pytest.mark.parametrize("name", ["step_metrics", "metrics", "component_gradients"])
@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda lines: [lines[0], lines[1].replace(b",", b",x", 2), *lines[2:]], 2),
        (lambda lines: [*lines[:2], b"\xff" + lines[2], *lines[3:]], 3),
        (lambda lines: [lines[0], lines[1].strip() + b",1,2\r\n", *lines[2:]], 2),
        (lambda lines: [lines[0], lines[1][:30] + b"\r\n", *lines[2:]], 2),
        (lambda lines: [b"a,b\r\n", *lines[1:]], 1),
        (lambda lines: [], 1),
    ],
    ids=["number", "bytes", "too many", "too few", "columns", "empty"],
)
def test_damaged_tables_are_refused(written, name, damage, line):
    path = getattr(written, name)
    path.write_bytes(b"".join(damage(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(TrainingError, match=rf"{path.name}\. Got .* in line {line}\. Mend") as raised:
        RunLog(written, COMPONENTS, METRICS, 12)
    assert "\n" not in str(raised.value)
    path.unlink()
    RunLog(written, COMPONENTS, METRICS, 12).__exit__()


def test_a_component_that_nobody_measured_is_no_number(tmp_path):
    with RunLog(RunDir(tmp_path), ("focal", "ghost"), (), 0) as log:
        log.step(step_record(1))
        log.gradients(gradient_record(1))
        log.finish({})
    assert json.loads(RunDir(tmp_path).loss_summary.read_text())["components"]["ghost"]["raw"] is None
    assert rows(RunDir(tmp_path).step_metrics)[0]["ghost_loss_raw"] == ""
    assert len(step_columns(("focal", "ghost"))) == len(rows(RunDir(tmp_path).step_metrics)[0])


PAGE = Path(__file__).parents[2] / "docs/logs.md"
RULES = health.Rule.__subclasses__()


def test_the_page_tells_of_every_column_and_warning():
    page = PAGE.read_text(encoding="utf-8")
    columns = {*step_columns(("<c>",)), *metrics_columns(("<c>",), ("f1",)), *gradient_columns(("<c>",))}
    kinds = set(re.findall(r"``([a-z]+_[a-z]+)``[:,]", health.__doc__ + "".join(rule.__doc__ for rule in RULES)))
    assert len(kinds) == 7
    missing = [name for name in columns | kinds if f"`{name}`" not in page]
    assert not missing
    told = re.findall(r"[\w<>]+", columns_module.__doc__)
    assert columns - {*told} == {"f1"}


def test_the_page_example_runs(written, tmp_path, monkeypatch, capsys):
    (tmp_path / "results").mkdir()
    written.root.rename(tmp_path / "results/run")
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    exec(example, {})
    assert capsys.readouterr().out.startswith("12 steps, 0 that waited for rows, loss ")
