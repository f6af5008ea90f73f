"""What a report says of training and of the stores: curves, charts, fidelity, provenance."""

import json
import re
from pathlib import Path

import pytest

from kdeval.report.chart import line_chart, series_chart, tradeoff_chart
from kdeval.report.curves import Curve, Curves, read_curves
from kdeval.report.gather import gather
from kdeval.report.kept import kept
from kdeval.report.provenance import split_words
from kdeval.report.render import to_html, to_markdown
from kdeval.report.svg import log_ticks, nice_ticks, tick_text
from kdstore.errors import InputError
from kdstore.store.files import sha256_file
from kdstore.store.manifest import CodecRecord, Fidelity, read_manifest

from .conftest import assert_fails, invoke, write_store
from .test_report import CURVES, Page, plain, write_curves


@pytest.fixture
def run(evaluated, tmp_path) -> Path:
    """An evaluated run with training curves."""
    evaluated(draws=0, metrics=["exact_match", "f1"])
    write_curves(tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("name", "column"), [("step_metrics.csv", "total_loss_weighted"), ("training_metrics.csv", "val_loss")]
)
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("step,loss\n1,2\n", ("{column!r}",)),
        ("{column}\n1\n", ("'step'",)),
        ("", ("'step'",)),
        ("step,{column}\n1,abc\n", ("line 2", "{column!r}", "'abc'")),
        ("step,{column}\nx,1\n", ("line 2", "'step'", "'x'")),
        ("step,{column}\n1,nan\n", ("line 2", "'nan'")),
        ("step,{column}\n1,\xff\n", ("UTF-8", "0xff")),
        ("\xffstep,{column}\n", ("UTF-8", "0xff")),
        ("step,{column},note\n1,2," + "x" * 140_000 + "\n", ("CSV", "field")),
        ("step,{column}\n1,1e308\n2,-1e308\n", ("line 2", "1e+100", "'1e308'")),
    ],
)
def test_bad_curves(run, name, column, text, words):
    (run / name).write_bytes(text.replace("{column}", column).encode("latin-1"))
    result = invoke("report", run)
    assert_fails(result, InputError.exit_code, name, *(word.replace("{column!r}", repr(column)) for word in words))


def test_a_run_without_a_step_or_validation_is_refused(run):
    for name in CURVES:
        (run / name).write_text(CURVES[name].splitlines()[0] + "\n")
    assert_fails(invoke("report", run), InputError.exit_code, "at least one row")


def test_curves(tmp_path):
    write_curves(tmp_path)
    steps = tmp_path / "step_metrics.csv"
    steps.write_text(
        steps.read_text()
        .replace(",total_loss_raw", ",kl_loss_raw,total_loss_raw")
        .replace(",5.5,4.5,5.5", ",5.5,4.5,7,5.5")
        .replace(",4,3,4,", ",4,3,,4,")
    )
    curves = read_curves(tmp_path)
    assert [curve.name for curve in curves.losses] == ["loss", "ce_loss", "kl_loss"]
    loss, ce, kl = curves.losses
    assert loss.train == [(1, 4.5), (2, 3)]
    assert loss.val == [(0, 5), (2, 2.5)], "an epoch without a validation is no point"
    assert loss.ends == ("validation", 5.0, 2.5)
    assert (ce.train, ce.val) == ([(1, 5.5), (2, 4)], [(0, 6), (2, 3)])
    assert (kl.train, kl.val) == ([(1, 7)], [])
    assert [(curve.name, curve.val) for curve in curves.scores] == [("f1", [(0, 0.5), (2, 0.6)])]
    assert curves.constants == ["weight of ce 1", "learning rate 0.1"]
    assert Curve("loss", train=[(1, 4.0), (2, 3.0)]).ends == ("training", 4.0, 3.0)


def test_weights_are_drawn_where_they_move(run):
    text = CURVES["step_metrics.csv"].replace("0.1,1\n2", "0.1,0.8\n2")
    (run / "step_metrics.csv").write_text(text)
    report = gather(run)
    assert [curve.train for curve in report.training.curves.moving_weights] == [[(1, 0.8), (2, 1)]]
    assert "weights of the components over optimizer steps" in to_html(report)
    assert "weights of the components over optimizer steps" not in to_html(gather(_constant(run)))


def test_the_total_is_no_achievement_where_its_weights_move(run):
    assert "The validation loss went from 5.000 to 2.500 (-50%)" in gather(run).training.words
    text = CURVES["step_metrics.csv"].replace("0.1,1\n2", "0.1,0.8\n2")
    (run / "step_metrics.csv").write_text(text)
    words = gather(run).training.words
    assert "weights in the total loss changed" in words
    assert "The validation ce_loss went from 6.000 to 3.000 (-50%)" in words
    assert "2.500" not in words


@pytest.mark.parametrize(
    ("component", "temperatures", "words"),
    [("kl", (4, 2), "temperature in the total"), ("kl", (2, 2), "training loss went"), ("ce", (4, 2), "loss went")],
)
def test_a_moving_temperature_changes_only_what_compares_with_the_teacher(run, component, temperatures, words):
    (run / "step_metrics.csv").write_text(
        f"step,total_loss_weighted,temperature,{component}_loss_raw\n"
        + "".join(f"{step},1,{temperature},1\n" for step, temperature in enumerate(temperatures, 1))
    )
    (run / "training_metrics.csv").write_text("step,val_loss\n")
    training = gather(run).training
    assert words in training.words
    assert any("T^2" in note for note in training.notes) == (component == "kl")


def test_equal_weights_are_one_line():
    points = [(1, 0.1), (2, 0.3)]
    weights = [Curve("pans", points), Curve("ce", [(1, 0.9), (2, 0.7)]), Curve("semantic", list(points))]
    moving = Curves([Curve("loss", points)], [], weights, []).moving_weights
    assert [curve.name for curve in moving] == ["pans = semantic", "ce"]


@pytest.mark.parametrize("values", [(0.048, 0.286), (0.1, 0.1), (-0.3, 1.7), (3e-7, 9e-7)])
def test_weights_stay_between_the_ticks_of_zero_and_more(values):
    chart = str(series_chart([Curve("ce", list(enumerate(values)))], "weights"))
    grid = [float(y) for y in re.findall(r'class="grid"[^>]* y1="([^"]*)"', chart)]
    places = [float(y) for y in re.findall(r",([\d.]+)", re.search(r' d="([^"]*)"', chart)[1])]
    assert min(grid) <= min(places) <= max(places) <= max(grid)
    assert ">0<" in chart


def _constant(run: Path) -> Path:
    write_curves(run)
    return run


def test_no_table_gives_more_than_a_few_curves(tmp_path):
    names = [f"c{n}_loss_raw" for n in range(500)]
    (tmp_path / "step_metrics.csv").write_text(
        f"step,total_loss_weighted,{','.join(names)}\n1,{','.join(['1'] * 501)}\n"
    )
    (tmp_path / "training_metrics.csv").write_text("step,val_loss\n")
    assert len(read_curves(tmp_path).losses) == 40


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.83, 5.67), (-3, 1e6), (1e-9, 2e-9), (99.99, 100)])
def test_ticks_are_round_and_inside(low, high):
    ticks = nice_ticks(low, high, 5)
    assert 2 <= len(ticks) <= 6
    assert all(low <= tick <= high for tick in ticks)


@pytest.mark.parametrize("value", [0, 1, -0.25, 12_345, 1e5, 2.5e-5, 1e100, -1e100, 5e-324])
def test_ticks_are_short_and_true(value):
    text = tick_text(value)
    assert len(text) <= 7
    assert float(text.replace(",", "")) == pytest.approx(value, rel=0.25)


def test_charts_stay_small_and_draw_single_points():
    long = Curve("loss", train=[(step, 1 / step) for step in range(1, 100_000)])
    assert len(line_chart(long)) < 8_000
    assert "<circle" in line_chart(Curve("<loss>", val=[(5, 2.0)]))
    assert "<loss>" not in line_chart(Curve("<loss>", val=[(5, 2.0)]))


@pytest.mark.parametrize("values", [(1e100, -1e100), (1e17, 1e17), (1e16, 1e16 + 2), (0, 5e-324), (1e-310, 3e-310)])
def test_charts_cope_with_extreme_values(values):
    curve = Curve("loss", train=[(1e17, value) for value in values], val=[(1e17, values[0])])
    for chart in (line_chart(curve), series_chart([curve, curve], "weights")):
        assert "nan" not in chart
        assert "inf" not in chart


def fidelity(T: float, angle: float, size: float, divergence: str = "kl", codec: str = "lowrank", **settings: object):
    return Fidelity(
        codec=codec, settings=settings, divergence=divergence, temperature=T, reference="student <s>",
        reference_kl=1.5, positions=2100, batch_positions=2048, angle_deg=angle, angle_worst_deg=angle, norm_ratio=1,
        kl_mean=angle / 1000, bytes_per_token=size, shared_bytes=10,
    )  # fmt: skip


TRIED = (
    *(fidelity(T, 3 + T, 26.5, rank=64) for T in (1, 2, 4)),
    *(fidelity(T, 9 * T, 26.5, "jsd", rank=64) for T in (1, 2, 4)),
    *(fidelity(T, 30 + T, 14, rank=8) for T in (1, 2, 4)),
    *(fidelity(T, 77.5, 130, codec="topk", k="</svg><script>") for T in (1, 2)),
)


def record(*fidelity: Fidelity) -> CodecRecord:
    return CodecRecord(name="lowrank", config={"rank": 64}, fidelity=fidelity)


@pytest.fixture
def kept_run(run, evaluated, tokenizer, tmp_path) -> Path:
    """A run that was evaluated on a store with a codec, of which several settings were tried."""
    store = write_store(tmp_path / "kept.kd", tokenizer, ["a", "b"], ["f();", "g();"], codec=record(*TRIED))
    evaluated(store, draws=0, metrics=["f1"])
    return run


def trained_on(run: Path, store: Path, components: str = "kl", temperatures: str = "22", **loss: object) -> None:
    """What training on ``store`` would leave: a step at each of ``temperatures``."""
    head = f"step,total_loss_weighted,temperature,{components}_loss_raw\n"
    rows = [f"{step},1,{temperature},1\n" for step, temperature in enumerate(temperatures, 1)]
    (run / "step_metrics.csv").write_text(head + "".join(rows))
    stores = {str(store): read_manifest(store).fingerprint}
    (run / "training_report.json").write_text(
        json.dumps({"run": {"train_stores": stores, "steps": 2, "device": "cpu"}})
    )
    (run / "config.json").write_text(json.dumps({"loss": loss, "run": {"seed": 7}}))


def test_the_report_says_how_true_the_store_is(kept_run):
    report = gather(kept_run, samples=0)
    page, markdown = Page(to_html(report)), plain(to_markdown(report))
    said = "at T = 2 the stored signal's gradient is 5 degrees from the full teacher's, at 0.0 bytes per label token"
    for text in (said, "faithful by the 10-degree limit", "2,048", "student <s>", "1.5 nats", "0.004", "rank = 64"):
        assert text in page.text, text
        assert text in markdown, text
    assert "script" not in page.tags
    assert "| lowrank (rank = 64) (stored) | 26.5 | 4 | 5 | 7 |" in markdown
    assert "| 77.5 | 77.5 |  |" in markdown, "topk was not measured at T = 4"
    assert "no training_report.json" in report.stores.words[0], "the store of training is not known"


@pytest.mark.parametrize(
    ("use", "words"),
    [
        ({"temperatures": "22"}, "kept.kd (trained on): at T = 2 the stored signal's gradient is 5 degrees"),
        (
            {"temperatures": "41"},
            "at T = 1 to 4 the stored signal's gradient is at worst 7 degrees (measured at T = 4)",
        ),
        ({"temperatures": "3"}, "at T = 3 the stored signal's gradient is at worst 7 degrees (measured at T = 4)"),
        ({"max_angle": 4}, "not faithful by the 4-degree limit"),
        ({"components": "jsd", "temperatures": "4"}, "gradient of 'jsd' is 36 degrees"),
        ({"components": "jsd", "accept_infidelity": True}, "accepted by --accept-infidelity"),
        ({"components": "reverse_kl"}, "nobody measured how true its signal is for 'reverse_kl'"),
        ({"components": "ce"}, "no component of the loss compares with the teacher"),
        ({"temperatures": "48"}, "was measured at T = 1 to 4 and used at T = 4 to 8"),
    ],
)
def test_was_the_store_of_training_faithful(kept_run, tmp_path, use, words):
    trained_on(kept_run, tmp_path / "kept.kd", **use)
    (said,) = gather(kept_run, samples=0).stores.words
    assert words in said


def test_a_store_is_found_from_below_where_training_started(kept_run, tmp_path):
    trained_on(kept_run, tmp_path / "kept.kd")
    path = kept_run / "training_report.json"
    path.write_text(path.read_text().replace(str(tmp_path) + "/", ""))
    assert "faithful by" in gather(kept_run, samples=0).stores.words[0]


def test_another_store_in_the_place_of_the_trained_one_is_not_taken_for_it(kept_run, tmp_path):
    trained_on(kept_run, tmp_path / "kept.kd")
    path = kept_run / "training_report.json"
    path.write_text(path.read_text().replace(read_manifest(tmp_path / "kept.kd").fingerprint, "0" * 16))
    first, second = gather(kept_run, samples=0).stores.words
    assert "built again since" in first
    assert "kept.kd (evaluated on)" in second


def test_a_store_that_is_gone_is_said(tokenizer, evaluated, run, tmp_path):
    store = write_store(tmp_path / "gone.kd", tokenizer, ["a"], ["f();"])
    evaluated(store, draws=0, metrics=["f1"])
    store.rename(tmp_path / "moved.kd")
    report = gather(run)
    (problem,) = [words for words in report.stores.words if "gone.kd" in words]
    assert "cannot be said" in problem
    assert problem in Page(to_html(report)).text


def test_the_chain_has_every_link_with_its_hash(kept_run, tmp_path):
    trained_on(kept_run, tmp_path / "kept.kd")
    report = gather(kept_run, samples=0)
    assert [link.title for link in report.chain] == ["Data", "Teacher", "Store", "Run", "Metrics"]
    results = json.loads((kept_run / "metrics_summary_final.json").read_text())
    page, markdown = Page(to_html(report)).text, plain(to_markdown(report))
    for digest in (
        results["data"]["fingerprint"], results["model"]["weights_sha256"], results["predictions_sha256"],
        results["statistics_sha256"], read_manifest(tmp_path / "kept.kd").content_sha256, "1" * 64,
    ):  # fmt: skip
        assert digest in page
        assert digest in markdown
    assert "trained with seed 7" in report.headline[-1]


def test_the_baseline_is_defined(kept_run, evaluated, tmp_path):
    evaluated(tmp_path / "kept.kd", into="plain", draws=100, metrics=["f1"])
    evaluated(tmp_path / "kept.kd", draws=100, metrics=["f1"])
    trained_on(kept_run, tmp_path / "kept.kd", loss_components=["ce", "kl"])
    (tmp_path / "plain" / "config.json").write_text('{"loss": {"loss_components": ["ce"]}, "run": {"seed": 5}}')
    report = gather(kept_run, baseline_run=tmp_path / "plain", samples=0)
    (said,) = [words for words in report.headline if words.startswith("The student (run, ")]
    assert "was trained with loss ce + kl and seed 7. The baseline (plain, " in said
    assert said.endswith("was trained with loss ce and seed 5.")
    assert [link.title for link in report.chain] == ["Data", "Teacher", "Store", "Run", "Baseline", "Metrics"]
    facts = report.chain[4].parts[""]
    assert facts["config.json"] == sha256_file(tmp_path / "plain" / "config.json")
    assert {"weights", "parameters"} <= facts.keys()
    (tmp_path / "plain" / "config.json").unlink()
    report = gather(kept_run, baseline_run=tmp_path / "plain", samples=0)
    assert "left no settings of a training" in " ".join(report.headline)
    assert report.chain[4].missing


def test_stores_of_one_measurement_are_no_two_findings(kept_run, tokenizer, tmp_path):
    other = write_store(tmp_path / "train.kd", tokenizer, ["c"], ["h();"], codec=record(*TRIED))
    trained_on(kept_run, other)
    first, second = gather(kept_run, samples=0).stores.stores
    assert "5 degrees" in first.words
    assert second.words.startswith("its fidelity was measured once for both stores: what is said of train.kd")
    trained_on(kept_run, other, components="ce")
    first, second = gather(kept_run, samples=0).stores.stores
    assert "degrees" not in first.words
    assert "5 degrees" in second.words


@pytest.mark.parametrize(
    ("split", "shown"),
    [
        ("train (0.1 of the rows, by group)", "train: all but 0.1 of the rows; rows of one group"),
        ("validation (0.1 of the rows, by group)", "validation: 0.1 of the rows; rows of one group"),
        ("validation", "validation"),
        ("<s> (0.1 of the rows, by group)", "<s> (0.1 of the rows, by group)"),
    ],
)
def test_a_split_says_which_rows_it_has(split, shown):
    assert split_words(split).startswith(shown)


def test_a_single_setting_gets_no_chart():
    alone = kept(record(*TRIED[:6]))
    assert alone.charts == []
    assert [row.angles for row in alone.rows] == [["4", "5", "7"]], "of KL, not of JSD"


def test_nothing_is_said_where_nothing_was_measured(run):
    assert kept(None) is None
    assert kept(record()) is None
    assert all(store.kept is None for store in gather(run).stores.stores)
    assert "keeps no signal" in " ".join(gather(run).stores.words)


def test_every_tried_setting_is_in_the_chart_and_the_stored_one_is_marked():
    charts = [str(tradeoff_chart(tradeoff)) for tradeoff in kept(record(*TRIED)).charts]
    assert [chart.count("<title>") for chart in charts] == [3, 3, 2]
    assert all(chart.count('class="stored"') == 1 for chart in charts)
    assert all("<script" not in chart for chart in charts)


@pytest.mark.parametrize("size", [-1.0, 0.0, 1e-300, 1e300])
@pytest.mark.parametrize("angle", [-5.0, 0.0, 1e300])
def test_tradeoffs_cope_with_impossible_manifests(size, angle):
    found = kept(record(fidelity(1, angle, size, rank=1), fidelity(1, 0.0, 20, rank=2)))
    chart = str(tradeoff_chart(found.charts[0]))
    assert "nan" not in chart
    assert "inf" not in chart
    assert all(len(cell) < 30 for row in found.rows for cell in (row.size, *row.angles))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (9, 480, [10, 20, 50, 100, 200]),
        (0.9, 1.1, [1]),
        (14, 21, [20]),
        (3, 50_000, [10, 100, 1000, 10_000]),
        (0.004, 0.03, [0.005, 0.01, 0.02]),
    ],
)
def test_logarithmic_ticks_are_few_and_inside(low, high, expected):
    assert log_ticks(low, high) == pytest.approx(expected)
