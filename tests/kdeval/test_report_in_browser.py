"""The report in a real browser: it shows, in light and dark, on a desk and on a phone, and asks for nothing."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .conftest import invoke, write_store
from .test_report import HOSTILE
from .test_report_training import TRIED, record, trained_on

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.service,
    pytest.mark.skipif(BROWSER is None, reason="no chromium here: install Debian's package 'chromium'"),
]
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
]  # fmt: skip
SCHEMES = {"light": "--blink-settings=preferredColorScheme=1", "dark": "--blink-settings=preferredColorScheme=0"}
# What a page looks like from outside: it has no script of its own, so the page around its frame measures it.
PROBE = """
const page = this.contentDocument, root = page.documentElement, view = this.contentWindow;
const boxes = [...page.querySelectorAll('main *')].filter(e => !e.closest('.wide, details:not([open])'));
const texts = [...page.querySelectorAll('svg text')].map(e => e.getBoundingClientRect().height);
const charts = [...page.querySelectorAll('svg.chart, svg.strip')].map(e => e.getBoundingClientRect().width);
document.title = JSON.stringify({
  page: root.scrollWidth, frame: this.clientWidth, background: view.getComputedStyle(page.body).backgroundColor,
  right: Math.max(...boxes.map(e => e.getBoundingClientRect().right)),
  text: Math.min(...texts), chart: Math.min(...charts.filter(width => width > 0)),
  hint: page.querySelector('.hint').getBoundingClientRect().height,
  regions: [...page.querySelectorAll('.wide')].every(e => e.tabIndex === 0 && e.getAttribute('aria-label')),
});
"""


def browse(page: Path, folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Open a page; standard output is the document as the browser holds it, standard error has its console."""
    command = [str(BROWSER), *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags, "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)


def measure(page: Path, folder: Path, width: int, *flags: str) -> dict[str, Any]:
    """What `PROBE` says of a page in a frame of this width: what is wider would make it scroll sideways."""
    frame = folder / "frame.html"
    frame.write_text(
        f"<style>iframe {{ width: {width}px; height: 800px; border: 0 }}</style>"
        f"<script>function probe() {{ {PROBE} }}</script>"
        f'<iframe src="{page.as_uri()}" onload="probe.call(this)"></iframe>'
    )
    document = browse(frame, folder, "--allow-file-access-from-files", "--virtual-time-budget=5000", *flags).stdout
    found = re.search(r"<title>(\{.*?\})</title>", document)
    assert found, "the page was loaded in the frame"
    return dict(json.loads(found[1]))


@pytest.fixture
def page(evaluated, tokenizer, tmp_path) -> Path:
    """A report with everything that it can have, whose predictions try to become markup."""
    codec = record(*TRIED)
    texts = [HOSTILE, *(f"assertEquals({n}, list.size());" for n in range(24))]
    store = write_store(tmp_path / "h.kd", tokenizer, [HOSTILE, *"b" * 24], texts, codec=codec)
    for name in ("run", "teacher", "baseline"):
        evaluated(
            store,
            into=name,
            draws=100,
            metrics=["f1", "exact_match", "loss", "critical_token_accuracy", "calibration"],
        )
    trained_on(tmp_path / "run", store, temperatures="42")
    (tmp_path / "run" / "training_metrics.csv").write_text("step,val_loss,val_kl_loss,f1\n0,5,4,0\n2,3,2,0.5\n")
    result = invoke(
        "report", tmp_path / "run", "--teacher-run", tmp_path / "teacher", "--baseline-run", tmp_path / "baseline",
        "--out", tmp_path / "report.html", "--samples", 50,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    return tmp_path / "report.html"


def test_hostile_text_creates_no_element(page, tmp_path):
    document = browse(page, tmp_path).stdout
    assert "onerror" in document, "the text is shown"
    assert not re.search(r"<(script|img|iframe|object)\b", document)
    assert "<svg" in document


def test_the_page_asks_for_nothing(page, tmp_path):
    log = tmp_path / "net.json"
    browse(page, tmp_path, f"--log-net-log={log}")
    urls = {
        event["params"]["url"]
        for event in json.loads(log.read_text())["events"]
        if isinstance(event.get("params"), dict) and "url" in event["params"]
    }
    # A browser asks its own services at every start; a page on disk that asks for anything asks by name or path.
    asked = {url for url in urls if not re.match(r"(file|chrome|chrome-extension|about|data)\b", url)}
    assert not {url for url in asked if "google" not in url}


def test_the_console_stays_empty(page, tmp_path):
    wrong = tmp_path / "wrong.html"
    policy = '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'">'
    wrong.write_text(f"{policy}<style>p {{ color: red }}</style>")
    assert "CONSOLE" in browse(wrong, tmp_path, "--enable-logging=stderr").stderr, "a browser tells what it refuses"
    assert "CONSOLE" not in browse(page, tmp_path, "--enable-logging=stderr").stderr


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_can_be_read(page, tmp_path, width, scheme):
    found = measure(page, tmp_path, width, SCHEMES[scheme])
    assert found["page"] <= found["frame"] == width
    assert found["right"] <= width, "only tables in boxes of their own are wider"
    assert found["text"] >= 11, "pixels of the smallest text in a picture"
    assert found["chart"] >= 90
    assert (found["hint"] > 0) == (width == 390), "where the table is cut, the page says that it scrolls"
    assert found["regions"], "boxes that scroll can be reached with the keyboard"
    red = int(re.findall(r"\d+", found["background"])[0])
    assert (red > 200) == (scheme == "light")
