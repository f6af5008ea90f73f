"""The report of a run: complete, safe to open, and clear about what is missing."""

import functools
import json
import operator
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from kdeval.report import render
from kdeval.report.gather import gather
from kdeval.report.render import to_html, to_markdown
from kdeval.results import PREDICTIONS, STATISTICS, SUMMARY
from kdstore.errors import InputError, MismatchError, UsageError

from .conftest import assert_fails, invoke, write_store

CURVES = {
    "step_metrics.csv": (
        "step,epoch,ce_loss_raw,ce_loss_weighted,total_loss_raw,total_loss_weighted,learning_rate,ce_weight\n"
        "1,1,5.5,4.5,5.5,4.5,0.1,1\n2,1,4,3,4,3,0.1,1\n"
    ),
    "training_metrics.csv": (
        "step,epoch,train_loss,train_ce_loss,val_loss,val_ce_loss,f1\n0,0,,,5,6,0.5\n1,1,4.5,5.5,,,\n2,1,3,4,2.5,3,0.6\n"
    ),
}
QUESTIONS = (
    "How good is the student?", "What does it get wrong?", "How did training go?", "Was the store faithful?",
    "How large and how fast is it?", "Where does all this come from?",
)  # fmt: skip
HOSTILE = '</pre></script><img src=x onerror="alert(1)">{{ 7*7 }}\n```\n# no heading\n<script>evil()</script>'


@pytest.fixture
def run(evaluated, tmp_path) -> Path:
    """An evaluated run with training curves."""
    evaluated(draws=100)
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


def plain(markdown: str) -> str:
    """Markdown without the backslashes that keep it from acting on text."""
    return markdown.replace("\\", "")


def test_page_and_markdown_answer_the_same_questions(run, world):
    (run / "config.json").write_text('{"run": {"seed": 42}, "loss": {"temperature": 4.0}}')
    result = invoke("report", run, "--samples", 6)
    assert result.exit_code == 0, result.stderr
    page, markdown = Page((run / "report.html").read_text()), (run / "report.md").read_text()
    words = ("Token F1", "Cross-entropy", "5.000 to 2.500", "the-teacher", "val.kd", "run.seed", "95 % interval")
    for text in (*words, *QUESTIONS):
        assert text in page.text, text
        assert text in plain(markdown), text
    assert markdown.count("\nReference:\n") == page.tags.count("article") > 0
    for sentence in gather(run, samples=0).headline:
        assert sentence in page.text
        assert sentence in plain(markdown)
        assert sentence in result.stdout.replace("\n", " ").replace("  ", " ")


def test_page_is_self_contained_and_needs_no_script(run):
    html = to_html(gather(run))
    page = Page(html)
    assert "script" not in page.tags
    linked = {value for name, value in page.attributes if name in ("src", "href", "srcset", "xlink:href")}
    assert {value for value in linked if not value.startswith("#")} == {"data:,"}
    targets = {value for name, value in page.attributes if name == "id"}
    assert {value[1:] for value in linked if value.startswith("#")} <= targets
    assert not re.search(r"url\(|@import|https?://", html)


def test_report_is_the_same_every_time(run):
    first, second = (gather(run, samples=5) for _ in range(2))
    assert to_html(first) == to_html(second)
    assert to_markdown(first) == to_markdown(second)


def test_every_picture_and_table_has_a_name(run):
    page = to_html(gather(run))
    pictures = re.findall(r"<svg ([^>]*)>", page)
    assert pictures
    assert all('aria-label="' in one or 'aria-hidden="true"' in one for one in pictures)
    tables = re.findall(r"<table ([^>]*)>", page)
    assert len(tables) == page.count("<table")
    assert all('aria-label="' in one for one in tables)
    assert not re.search(r"<th(?![^>]*scope=)[ >]", page)


def test_hostile_predictions_stay_text(tokenizer, evaluated, run, tmp_path):
    store = write_store(tmp_path / "h.kd", tokenizer, [HOSTILE, "b"], [HOSTILE, "f();"])
    evaluated(store, metrics=["exact_match"])
    report = gather(run, samples=2)
    page = Page(to_html(report))
    assert not {"script", "img"} & set(page.tags)
    assert '<img src=x onerror="alert(1)">{{ 7*7 }}' in page.text
    markdown = to_markdown(report)
    assert "````\n" + HOSTILE + "\n````" in markdown


def test_hostile_names_stay_text(run):
    """Names from the curves, the configuration and the summary, on both pages and in the terminal."""
    tag = '"><script>evil()</script>'
    column = f'"val_{tag.replace(chr(34), chr(34) * 2)}_loss"'
    (run / "training_metrics.csv").write_text(f"step,val_loss,{column}\n1,2,3\n")
    (run / "config.json").write_text(json.dumps({f"key{tag}": f"value{tag}", "half": "\ud800"}))
    (run / "training_report.json").write_text(json.dumps({"run": {"train_stores": {tag: tag}, "device": tag}}))
    path = run / SUMMARY
    summary = json.loads(path.read_text().replace('"Exact match"', '"[/red] match"'))
    summary["left_out"] = {tag: tag}
    summary["confusion"] = {tag: {tag: 3}}
    path.write_text(json.dumps(summary))
    result = invoke("report", run, "--samples", 0)
    assert result.exit_code == 0, result.stderr
    assert "[/red] match" in result.stdout
    page = Page((run / "report.html").read_text())
    assert "script" not in page.tags
    assert ("aria-label", f"{tag}_loss over optimizer steps") in page.attributes
    for text in (f"{tag}_loss".replace("_", " "), f"key{tag}", f"value{tag}"):
        assert text in page.text
    assert "<script" not in (run / "report.md").read_text().replace("\\<", "")


def test_what_is_long_is_cut(run):
    long = "x" * 100_000
    (run / "config.json").write_text(json.dumps({"a": long, **{f"k{n}": n for n in range(5_000)}}))
    path = run / SUMMARY
    summary = json.loads(path.read_text())
    summary["left_out"] = {f"m{n}": long for n in range(500)}
    summary["confusion"] = {f"{long}{n}": {f"{long}{n + 1}": 1} for n in range(50)}
    summary["versions"] |= {long: long}
    path.write_text(json.dumps(summary))
    assert len(to_html(gather(run))) < 700_000


def test_a_value_that_is_undefined_is_called_so(run):
    path = run / SUMMARY
    summary = json.loads(path.read_text())
    summary["metrics"]["exact_match"] |= {"value": None, "interval": None}
    summary["metrics"]["loss"] |= {"value": 1e300, "interval": [1.0, 1e308]}
    path.write_text(json.dumps(summary))
    report = gather(run)
    assert {row.name: row.student.text for row in report.rows}["exact_match"] == "undefined"
    assert len(to_html(report)) < 300_000
    assert report.headline[0].startswith("Exact match: undefined")


def test_an_evaluation_alone_gets_a_report(evaluated, tmp_path):
    """Of a model in a directory of its own, and of the predictions that a store holds."""
    evaluated(into="alone", draws=0)
    report = gather(tmp_path / "alone")
    assert report.training.curves is None
    assert "no step_metrics.csv" in Page(to_html(report)).text
    assert "no intervals" in to_markdown(report)
    assert "no training_report.json" in " ".join(report.stores.words)


def test_a_stored_teacher_gets_a_report(world, tmp_path):
    result = invoke("run", "--data", world.store, "--into", tmp_path / "stored", "--metrics", "f1,exact_match")
    assert result.exit_code == 0, result.stderr
    report = gather(tmp_path / "stored")
    page = Page(to_html(report)).text
    assert report.answers[0].question == "How good is the teacher?"
    assert "No model was run" in page
    assert "compare with" not in page


@pytest.mark.parametrize(
    "group",
    [
        {"labels": {"scores": {"joy": 0.9, "fear": 0.2}, "gold": ["joy"]}},
        {"ranking": {"scores": [0.1, 0.2], "relevance": [0, 1]}},
    ],
)
def test_results_without_texts_get_a_report(tmp_path, group):
    lines = tmp_path / "rows.jsonl"
    lines.write_text("".join(json.dumps({"id": str(n), **group}) + "\n" for n in range(4)))
    assert invoke("score", lines, "--into", tmp_path / "run", "--draws", 100).exit_code == 0
    report = gather(tmp_path / "run")
    assert report.samples is None
    page = Page(to_html(report))
    assert "article" not in page.tags
    assert "no texts" in page.text
    assert "no texts" in to_markdown(report)


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        (SUMMARY, (SUMMARY, "kdeval run")),
        (PREDICTIONS, (PREDICTIONS, "kdeval run")),
        ("training_metrics.csv", ("training_metrics.csv", "kdtrain")),
        ("step_metrics.csv", ("step_metrics.csv", "kdtrain")),
    ],
)
def test_missing_files(run, missing, words):
    (run / missing).unlink()
    assert_fails(invoke("report", run), InputError.exit_code, *words)
    assert not (run / "report.html").exists()


def test_changed_predictions_are_refused(run):
    with (run / PREDICTIONS).open("a") as file:
        file.write("{}\n")
    assert_fails(invoke("report", run), MismatchError.exit_code, "checksum", "kdeval run")


@pytest.mark.parametrize("name", ["config.json", "training_report.json"])
@pytest.mark.parametrize("text", ["{", "[1]", "\xff", "[" * 100_000])
def test_damaged_files_of_training(run, name, text):
    (run / name).write_bytes(text.encode("latin-1"))
    assert_fails(invoke("report", run), InputError.exit_code, name)


def test_damaged_statistics(evaluated, tmp_path):
    evaluated(metrics=["calibration"], draws=0)
    (tmp_path / "run" / STATISTICS).write_bytes(b"x")
    assert_fails(invoke("report", tmp_path / "run"), MismatchError.exit_code, STATISTICS)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("schema_version", 1),
        ("data.rows", 0),
        ("data.rows", -1),
        ("data.rows", 10**400),
        ("model.parameters", 0),
        ("metrics.f1.range", [0, 0]),
        ("metrics.f1.range", [1, 0]),
    ],
)
def test_impossible_summary_is_refused(run, where, value):
    path = run / SUMMARY
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


def contrast(first: str, second: str) -> float:
    """Of two colours, by WCAG 2.1 (relative luminance and contrast ratio)."""

    def luminance(colour: str) -> float:
        parts = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted(map(luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


def mixed(first: str, second: str, share: float) -> str:
    """What CSS's color-mix gives."""
    parts = [(int(first[at : at + 2], 16), int(second[at : at + 2], 16)) for at in (1, 3, 5)]
    return "#" + "".join(f"{round(share * a + (1 - share) * b):02x}" for a, b in parts)


def test_colours_can_be_read_in_light_and_dark():
    """AA of WCAG 2.1 asks for 4.5."""
    style = (Path(render.__file__).parent / "style.css.jinja").read_text()
    schemes = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    assert len(schemes) == 2
    heats = [int(share) for share in re.findall(r"var\(--student\) (\d+)%, var\(--card\)", style)]
    assert len(heats) == 5
    for scheme in schemes:
        colours = dict(re.findall(r"--([\w-]+): (#\w{6})", scheme))
        inks = ("text", "muted", "student", "teacher", "baseline", "good", "bad")
        pairs = [(ink, colours[paper]) for ink in inks for paper in ("page", "card", "code")]
        pairs += [(ink, colours[paper]) for ink in ("text", "muted") for paper in ("extra", "lack")]
        pairs += [("text", mixed(colours["student"], colours["card"], heat / 100)) for heat in heats]
        for ink, paper in (*pairs, ("good", colours["good-soft"])):
            assert contrast(colours[ink], paper) >= 4.5, (ink, paper)
