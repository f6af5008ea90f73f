"""The advice on beta and weights does what it says, and the tool reads any table of a run, also a growing one."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from kdstore.errors import UsageError
from kdtrain.logs.scaling import advise
from kdtrain.rundir import RunDir

from .log_records import COMPONENTS, write, written

__all__ = ["written"]

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("analyse_loss_scaling", ROOT / "tools/analyse_loss_scaling.py")
assert _spec
assert _spec.loader
tool = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tool)

BASES = {"focal": 1.0, "jsd": 2.0, "semantic": 0.05}
ALPHA = 0.3
PNG = b"\x89PNG"


def a_run(bases=BASES, beta=5.0, steps=20):
    """Gradients whose norms are proportional to weights and beta, as they are; and the steps."""
    weights = {"focal": ALPHA * bases["focal"], "jsd": (1 - ALPHA) * bases["jsd"], "semantic": bases["semantic"]}
    scales = {**weights, "semantic": weights["semantic"] * beta}
    steepness = {"focal": 0.5, "jsd": 1.5, "semantic": 0.8}
    gradients, rows = [], []
    for step in range(1, steps + 1):
        norms = {f"{name}_encoder_norm": steepness[name] * scales[name] for name in COMPONENTS}
        decoder = {f"{name}_decoder_norm": None if name == "semantic" else 1.0 for name in COMPONENTS}
        gradients.append({"step": step, "epoch": 1, **norms, **decoder})
        row = {"step": step, "alpha": ALPHA}
        for name in COMPONENTS:
            row |= {f"{name}_loss_raw": 2.0, f"{name}_weight": weights[name]}
            row |= {f"{name}_loss_weighted": 2.0 * scales[name]}
        rows.append(row)
    return gradients, rows


def shares(bases, beta):
    """What the components have of the gradient."""
    found = advise(COMPONENTS, *a_run(bases, beta), {})
    return {name: pull.share for name, pull in found.pulls.items()}


WANTED = {"semantic": 0.2, "focal": 0.5}


def test_the_recommended_weights_give_the_wanted_shares():
    advice = advise(COMPONENTS, *a_run(), WANTED)
    assert advice.place == "encoder"
    assert advice.beta == pytest.approx(5)
    bases = dict(zip(COMPONENTS, advice.loss_weights, strict=True))
    assert shares(bases, 5.0) == pytest.approx({"focal": 0.5, "jsd": 0.3, "semantic": 0.2})
    before, after = (sum(row[f"{name}_encoder_norm"] for name in COMPONENTS)
                     for row in (a_run()[0][0], a_run(bases)[0][0]))  # fmt: skip
    assert after == pytest.approx(before), "the gradient is as large as before"


def test_the_recommended_beta_gives_semantic_its_share():
    advice = advise(COMPONENTS, *a_run(), WANTED)
    before, after = shares(BASES, 5.0), shares(BASES, advice.recommended_beta)
    assert after["semantic"] == pytest.approx(0.2)
    assert after["focal"] / after["jsd"] == pytest.approx(before["focal"] / before["jsd"])


def test_shares_that_are_not_named_are_equal():
    advice = advise(COMPONENTS, *a_run(), {"jsd": 0.6})
    assert {name: pull.target for name, pull in advice.pulls.items()} == pytest.approx(
        {"focal": 0.2, "jsd": 0.6, "semantic": 0.2}
    )


def test_only_the_later_half_counts():
    gradients, steps = a_run()
    for row in gradients[:10]:
        row["focal_encoder_norm"] = 1000.0
    assert advise(COMPONENTS, gradients, steps, {}).pulls == advise(COMPONENTS, *a_run(), {}).pulls
    assert advise(COMPONENTS, gradients, steps, {}).first_step == 11


def test_weights_that_change_get_factors_alone():
    gradients, steps = a_run()
    steps[-1]["focal_weight"] *= 1.1
    advice = advise(COMPONENTS, gradients, steps, {})
    assert advice.loss_weights is None
    assert advice.pulls["focal"].factor == pytest.approx(advice.pulls["focal"].target / advice.pulls["focal"].share)


def test_without_steps_there_are_factors():
    advice = advise(COMPONENTS, a_run()[0], [], WANTED)
    assert (advice.beta, advice.recommended_beta, advice.loss_weights) == (None, None, None)
    assert 5 * advice.beta_factor == pytest.approx(advise(COMPONENTS, *a_run(), WANTED).recommended_beta)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [({"pans": 0.2}, "focal, jsd, semantic.*'pans'"), ({"focal": 0.6, "jsd": 0.6}, "less than 1.*1.2"),
     ({"focal": 0.2, "jsd": 0.2, "semantic": 0.2}, "sum to 1.*0.6")],
)  # fmt: skip
def test_shares_that_cannot_be_are_refused(wanted, words):
    with pytest.raises(UsageError, match=words):
        advise(COMPONENTS, *a_run(), wanted)


def test_one_component_needs_no_balance():
    gradients = [{"step": 1, "ce_encoder_norm": 1.0, "ce_decoder_norm": 1.0}]
    assert advise(("ce",), gradients, [], {}) is None
    assert advise(("ce",), [], [], {}) is None


def analyse(*arguments):
    return CliRunner().invoke(tool.main, [str(argument) for argument in arguments])


def pictures(folder):
    assert all(path.read_bytes()[:4] == PNG for path in folder.iterdir())
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("spelling", ["--training-dir", "--training_dir"])
def test_a_run_directory(written, spelling):
    result = analyse(spelling, written.root)
    assert result.exit_code == 0, result.output
    assert pictures(written.root / "analysis") == {"components.png", "weights.png", "losses.png", "gradients.png"}
    for text in ("semantic", "no warnings", "--semantic-loss-scale", "(it was 5)"):
        assert text in result.stdout


@pytest.mark.parametrize(
    ("name", "drawn"),
    [("step_metrics.csv", {"components.png", "weights.png"}), ("training_metrics.csv", {"losses.png"}),
     ("component_gradients.csv", {"gradients.png"})],
)  # fmt: skip
def test_one_table_alone_under_another_name(written, tmp_path, name, drawn):
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(written.root / name, alone / "copy.csv")
    result = analyse("--log_file", alone / "copy.csv", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert pictures(tmp_path / "out") == drawn
    assert ("no recommendation" in result.stdout) == (name != "component_gradients.csv")


def test_one_table_with_the_others_beside_it_as_json(written, tmp_path):
    result = analyse("--log-file", written.metrics, "--json", "--share", "semantic=0.5", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["recommendation"]["pulls"]["semantic"]["target"] == 0.5
    assert found["recommendation"]["beta"] == pytest.approx(5)
    assert len(found["pictures"]) == 4
    assert found["warnings"] == []


def test_a_run_that_is_still_going(tmp_path):
    run = RunDir(tmp_path / "run")
    write(run, stop=("step", 6))
    whole = analyse("--training-dir", run.root, "--json")
    for path in (run.step_metrics, run.metrics, run.component_gradients):
        with path.open("a") as file:
            file.write("2026-01-01T00:00:00.000+00:00,2,7")
    assert whole.exit_code == 0, whole.output
    assert analyse("--training-dir", run.root, "--json").stdout == whole.stdout


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data.replace(b",1,1,", b",1,x,", 1), ("step_metrics.csv", "line 2")),
        (lambda data: data.replace(b",1,1,", b",1,\xff,", 1), ("step_metrics.csv", "line 2", "UTF-8")),
        (lambda data: b"a,b\n1,2\n", ("step_metrics.csv", "line 1")),
        (lambda data: b"", ("step_metrics.csv", "line 1")),
        (lambda data: b"step,epoch,split,loss\n1,1,train,2\n", ("step_metrics.csv", "other columns")),
        (lambda data: data.replace(b"jsd", b"kl"), ("training_metrics.csv", "focal, kl, semantic", "one run")),
    ],
    ids=["number", "bytes", "columns", "empty", "older", "other run"],
)
def test_damaged_tables_give_one_line(written, damage, words):
    written.step_metrics.write_bytes(damage(written.step_metrics.read_bytes()))
    result = analyse("--training-dir", written.root)
    assert result.exit_code in (3, 9)
    assert isinstance(result.exception, SystemExit), "no traceback"
    assert all(word in result.stderr.replace("\n", " ") for word in words), result.stderr
    assert not (written.root / "analysis").exists()


@pytest.mark.parametrize("arguments", [[], ["--training-dir", ".", "--log-file", __file__], ["--training-dir", "."]])
def test_there_must_be_one_run(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = analyse(*arguments)
    assert result.exit_code in (2, 3)
    assert "Expected" in result.stderr


@pytest.mark.parametrize("share", ["semantic", "semantic=2", "semantic=nan", "=0.5"])
def test_a_share_that_is_none_is_refused(written, share):
    assert analyse("--training-dir", written.root, "--share", share).exit_code == 2
