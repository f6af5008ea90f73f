"""docs/metrics.md is what the metrics are."""

import importlib.util
import sys
from pathlib import Path

import pytest

from kdeval.metrics import METRICS

TOOLS = Path(__file__).parents[2] / "tools/docs"


@pytest.fixture(scope="module")
def tool():
    sys.path.insert(0, str(TOOLS))  # as it is when the script runs, which reads the module beside it
    try:
        spec = importlib.util.spec_from_file_location("docs_metrics", TOOLS / "metrics.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(TOOLS))
    return module


def test_the_page_is_up_to_date(tool):
    page = tool.PAGE.read_text(encoding="utf-8")
    new = set(tool.page().splitlines()) - set(page.splitlines())
    assert page == tool.page(), f"run `{tool.COMMAND}`; new lines: {sorted(new)[:5]}"


def test_every_metric_has_its_section_and_a_link_to_it(tool):
    lines = tool.page().splitlines()
    for name in METRICS.names():
        title = METRICS.get(name).title
        assert f"## {title}" in lines, name
        assert any(f"](#{tool._anchor(title)})" in line for line in lines), name


def test_no_markup_of_docstrings_is_left(tool):
    page = tool.page()
    for markup in (":math:", ".. math::", "``" + "`python\n```"):
        assert markup not in page
    assert page.count("```") % 2 == 0
