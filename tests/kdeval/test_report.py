"""The report of a run: complete, safe to open, and clear about what is missing."""

import functools
import json
import operator
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from kdeval.report.chart import line_chart, log_ticks, nice_ticks, tradeoff_chart
from kdeval.report.curves import Curve, read_curves
from kdeval.report.gather import gather
from kdeval.report.kept import kept
from kdeval.report.render import to_html, to_markdown
from kdeval.report.samples import choose_samples
from kdeval.results import PREDICTIONS, Prediction
from kdstore.errors import InputError, MismatchError, UsageError
from kdstore.store.manifest import CodecRecord, Fidelity

from .conftest import ROWS, assert_fails, invoke

CURVES = {
    "step_metrics.csv": (
        "step,epoch,ce_loss_raw,ce_loss_weighted,total_loss_raw,total_loss_weighted,learning_rate\n"
        "1,1,5.5,4.5,5.5,4.5,0.1\n2,1,4,3,4,3,0.1\n"
    ),
    "training_metrics.csv": (
        "step,epoch,train_loss,train_ce_loss,val_loss,val_ce_loss,f1\n0,0,,,5,6,0.5\n1,1,4.5,5.5,,,\n2,1,3,4,2.5,3,0.6\n"
    ),
}
HOSTILE = '</pre></script><img src=x onerror="alert(1)">{{ 7*7 }}\n```\n# no heading\n<script>evil()</script>'


@pytest.fixture
def run(evaluated, tmp_path) -> Path:
    """An evaluated run with training curves."""
    evaluated()
    write_curves(tmp_path / "run")
    return tmp_path / "run"


def write_curves(run: Path) -> None:
    """The tables that training leaves."""
    for name, text in CURVES.items():
        (run / name).write_text(text)


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags are balanced."""

    VOID = frozenset({"meta", "link", "br", "img"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def prediction(index: int, prediction: str, teacher: str | None = "t();") -> Prediction:
    return Prediction(
        id=f"r{index}", repo="", path="", prompt="p", reference="ref();", prediction=prediction,
        teacher_prediction=teacher, token_count=3, token_correct=1, nll_sum=1.0, scores={},
    )  # fmt: skip


def write_predictions(directory: Path, rows: list[Prediction]) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / PREDICTIONS).write_text("".join(row.model_dump_json() + "\n" for row in rows))
    return directory


def test_page_and_markdown(run, world):
    (run / "config.json").write_text('{"run": {"seed": 42}, "loss": {"temperature": 4.0}}')
    result = invoke("report", run, "--samples", 6)
    assert result.exit_code == 0, result.stderr
    page = Page((run / "report.html").read_text())
    markdown = (run / "report.md").read_text()
    for text in ("Token F1", "Cross-entropy", "5.000 to 2.500", "the-teacher", "val.kd", "run.seed"):
        assert text in page.text
        assert text in markdown.replace("\\", "")
    assert page.tags.count("article") == 6
    assert page.tags.count("figure") == 2
    assert markdown.count("Reference:") == 6


def test_page_is_self_contained_and_needs_no_script(run):
    page = Page(to_html(gather(run, None, 12, 42)))
    assert "script" not in page.tags
    linked = {value for name, value in page.attributes if name in ("src", "href", "srcset", "xlink:href")}
    assert linked == {"data:,"}
    assert not re.search(r"url\(|@import|https?://", to_html(gather(run, None, 12, 42)))


def test_report_is_the_same_every_time(run):
    first, second = (gather(run, None, 5, 42) for _ in range(2))
    assert to_html(first) == to_html(second)
    assert to_markdown(first) == to_markdown(second)
    other = gather(run, None, 5, 43)
    assert {sample.id for sample in other.samples} != {sample.id for sample in first.samples}


def test_hostile_predictions_stay_text(world, tokenizer, evaluated, run, tmp_path):
    from .conftest import write_store

    store = write_store(tmp_path / "h.kd", tokenizer, [HOSTILE, "b"], [HOSTILE, "f();"])
    evaluated(store, metrics=["exact_match"])
    report = gather(run, None, 2, 42)
    page = Page(to_html(report))
    assert not {"script", "img"} & set(page.tags)
    assert '<img src=x onerror="alert(1)">{{ 7*7 }}' in page.text
    markdown = to_markdown(report)
    assert "````\n" + HOSTILE + "\n````" in markdown


def test_values_of_the_stored_teacher_and_of_a_teacher_run(run, evaluated, tmp_path):
    report = gather(run, None, 0, 42)
    rows = {row.name: row for row in report.rows}
    assert rows["exact_match"].teacher.text == f"{19 / 37:.1%}"
    assert rows["loss"].teacher is None
    evaluated(into="teacher")
    rows = {row.name: row for row in gather(run, tmp_path / "teacher", 0, 42).rows}
    assert rows["loss"].teacher.text == rows["loss"].student.text
    assert rows["loss"].gap == "+0.000"
    assert rows["exact_match"].teacher.text == rows["exact_match"].student.text


def test_teacher_on_other_rows_is_refused(run, evaluated, tmp_path):
    evaluated(into="teacher", limit=3)
    result = invoke("report", run, "--teacher-run", tmp_path / "teacher")
    assert_fails(result, MismatchError.exit_code, "rows 37", "Got 3")


def test_store_that_is_gone_is_said(world, tokenizer, evaluated, run, tmp_path):
    from .conftest import write_store

    store = write_store(tmp_path / "gone.kd", tokenizer, ["a"], ["f();"])
    evaluated(store)
    store.rename(tmp_path / "moved.kd")
    report = gather(run, None, 1, 42)
    assert "gone.kd" in report.store_problem
    assert report.store_problem.split(".")[0] in Page(to_html(report)).text


def test_samples_mix_hits_and_misses(tmp_path):
    rows = [prediction(index, "ref();" if index < 3 else f"miss{index}();") for index in range(40)]
    directory = write_predictions(tmp_path / "p", rows)
    shown = choose_samples(directory, None, 8, seed=1)
    assert len(shown) == 8
    assert sum(sample.student_exact for sample in shown) == 3, "all hits where they are fewer than half"
    assert [int(sample.id[1:]) for sample in shown] == sorted(int(sample.id[1:]) for sample in shown)
    few = choose_samples(write_predictions(tmp_path / "q", rows[:4]), None, 8, seed=1)
    assert len(few) == 4


def test_samples_show_the_end_of_the_prompt(tmp_path):
    long = prediction(0, "x").model_copy(update={"prompt": "\n".join(f"line {n}" for n in range(100))})
    (shown,) = choose_samples(write_predictions(tmp_path / "p", [long]), None, 1, seed=1)
    assert shown.prompt.startswith("... line 88")
    assert shown.prompt.endswith("line 99")


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("metrics_summary_final.json", ("metrics_summary_final.json", "kdeval run")),
        ("predictions_final.jsonl", ("predictions_final.jsonl", "kdeval run")),
        ("training_metrics.csv", ("training_metrics.csv", "kdtrain")),
        ("step_metrics.csv", ("step_metrics.csv", "kdtrain")),
    ],
)
def test_missing_files(run, missing, words):
    (run / missing).unlink()
    assert_fails(invoke("report", run), InputError.exit_code, *words)
    assert not (run / "report.html").exists()


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


def test_changed_predictions_are_refused(run):
    with (run / PREDICTIONS).open("a") as file:
        file.write("{}\n")
    assert_fails(invoke("report", run), MismatchError.exit_code, "checksum", "kdeval run")


def test_damaged_summary_and_config(run):
    (run / "config.json").write_text("{")
    assert_fails(invoke("report", run), InputError.exit_code, "config.json")
    (run / "metrics_summary_final.json").write_text('{"schema_version": 2}')
    assert_fails(invoke("report", run), InputError.exit_code, "metrics_summary_final.json")


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("data.rows", 0),
        ("data.rows", -1),
        ("data.rows", 10**400),
        ("model.parameters", 0),
        ("metrics.f1.range", [0, 0]),
        ("metrics.f1.range", [1, 0]),
    ],
)
def test_impossible_summary_is_refused(run, where, value):
    path = run / "metrics_summary_final.json"
    summary = json.loads(path.read_text())
    *parents, last = where.split(".")
    functools.reduce(operator.getitem, parents, summary)[last] = value
    path.write_text(json.dumps(summary))
    assert_fails(invoke("report", run), InputError.exit_code, path.name, where)


@pytest.mark.parametrize("name", ["x.md", "x", ".html", "x.html.md"])
def test_page_must_be_called_html(run, name):
    result = invoke("report", run, "--out", run / name)
    assert_fails(result, UsageError.exit_code, "--out", ".html")
    assert not (run / name).exists()


def test_hostile_names_stay_text(run):
    """Names from the curves, the configuration and the summary, on both pages and in the terminal."""
    tag = '"><script>evil()</script>'
    column = f'"val_{tag.replace(chr(34), chr(34) * 2)}_loss"'
    (run / "training_metrics.csv").write_text(f"step,val_loss,{column}\n1,2,3\n")
    (run / "config.json").write_text(json.dumps({f"key{tag}": f"value{tag}", "half": "\ud800"}))
    path = run / "metrics_summary_final.json"
    path.write_text(path.read_text().replace('"Exact match"', '"[/red] match"'))
    result = invoke("report", run, "--samples", 0)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("[/red] match") == 2
    page = Page((run / "report.html").read_text())
    assert "script" not in page.tags
    assert ("aria-label", f"{tag}_loss over optimizer steps") in page.attributes
    for text in (f"{tag}_loss", f"key{tag}", f"value{tag}"):
        assert text in page.text
    assert "<script" not in (run / "report.md").read_text().replace("\\<", "")


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
    assert [curve.name for curve in curves] == ["loss", "ce_loss", "kl_loss"]
    assert curves[0].train == [(1, 4.5), (2, 3)]
    assert curves[0].val == [(0, 5), (2, 2.5)], "an epoch without a validation is no point"
    assert curves[0].ends == ("validation", 5.0, 2.5)
    assert (curves[1].train, curves[1].val) == ([(1, 5.5), (2, 4)], [(0, 6), (2, 3)])
    assert (curves[2].train, curves[2].val) == ([(1, 7)], [])
    assert Curve("loss", train=[(1, 4.0), (2, 3.0)]).ends == ("training", 4.0, 3.0)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.83, 5.67), (-3, 1e6), (1e-9, 2e-9), (99.99, 100)])
def test_ticks_are_round_and_inside(low, high):
    ticks = nice_ticks(low, high, 5)
    assert 2 <= len(ticks) <= 6
    assert all(low <= tick <= high for tick in ticks)


def test_charts_stay_small_and_draw_single_points():
    long = Curve("loss", train=[(step, 1 / step) for step in range(1, 100_000)])
    assert len(line_chart(long)) < 8_000
    assert "<circle" in line_chart(Curve("<loss>", val=[(5, 2.0)]))
    assert "<loss>" not in line_chart(Curve("<loss>", val=[(5, 2.0)]))


@pytest.mark.parametrize("values", [(1e100, -1e100), (1e17, 1e17), (1e16, 1e16 + 2), (0, 5e-324), (1e-310, 3e-310)])
def test_charts_cope_with_extreme_values(values):
    chart = line_chart(Curve("loss", train=[(1e17, value) for value in values], val=[(1e17, values[0])]))
    assert "nan" not in chart
    assert "inf" not in chart


def test_all_rows_are_shown_when_asked(run):
    assert len(gather(run, None, 1000, 42).samples) == ROWS


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
    from .conftest import write_store

    evaluated(write_store(tmp_path / "kept.kd", tokenizer, ["a", "b"], ["f();", "g();"], codec=record(*TRIED)))
    return run


def test_the_report_says_how_true_the_store_is(kept_run):
    report = gather(kept_run, None, 0, 42)
    page, markdown = Page(to_html(report)), to_markdown(report).replace("\\", "")
    for text in ("What the store keeps", "26.5", "2,048", "student <s>", "1.5 nats", "0.004", "7", "rank = 64"):
        assert text in page.text
        assert text in markdown
    assert "script" not in page.tags
    assert page.tags.count("figure") == 2 + 3, "a chart for each temperature beside the losses"
    assert "| lowrank (rank = 64) (stored) | 26.5 | 4 | 5 | 7 |" in markdown
    assert "| 77.5 | 77.5 |  |" in markdown, "topk was not measured at T = 4"


def test_a_single_setting_gets_no_chart():
    alone = kept(record(*TRIED[:6]))
    assert alone.charts == []
    assert [row.angles for row in alone.rows] == [["4", "5", "7"]], "of KL, not of JSD"


def test_nothing_is_said_where_nothing_was_measured(run):
    assert kept(None) is None
    assert kept(record()) is None
    assert gather(run, None, 0, 42).kept is None
    assert "gradients" not in to_html(gather(run, None, 0, 42))


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
