"""The report in a real browser: it shows, stays within a phone's width, and asks for nothing."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import invoke, write_store
from .test_report import HOSTILE, write_curves

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.service,
    pytest.mark.skipif(BROWSER is None, reason="no chromium here: install Debian's package 'chromium'"),
]
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
]  # fmt: skip


def browse(page: Path, folder: Path, *flags: str) -> str:
    """Open a page and return the document as the browser holds it."""
    command = [str(BROWSER), *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags, "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.fixture
def page(evaluated, tokenizer, tmp_path) -> Path:
    """A report whose predictions try to become markup."""
    store = write_store(tmp_path / "h.kd", tokenizer, [HOSTILE, "b"], [HOSTILE, "f();"])
    evaluated(store)
    write_curves(tmp_path / "run")
    result = invoke("report", tmp_path / "run", "--out", tmp_path / "report.html")
    assert result.exit_code == 0, result.stderr
    return tmp_path / "report.html"


def test_hostile_text_creates_no_element(page, tmp_path):
    document = browse(page, tmp_path)
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


def test_nothing_is_wider_than_a_phone(page, tmp_path):
    """A frame of 390 pixels around the page: what is wider would make the document scroll sideways."""
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<iframe src="{page.as_uri()}" style="width:390px;height:800px;border:0" onload="'
        "document.title = [this.contentDocument.documentElement.scrollWidth, this.clientWidth].join()"
        '"></iframe>'
    )
    document = browse(frame, tmp_path, "--allow-file-access-from-files", "--virtual-time-budget=5000")
    widths = re.search(r"<title>(\d+),(\d+)</title>", document)
    assert widths, "the page was loaded in the frame"
    assert int(widths[1]) <= int(widths[2]) == 390
