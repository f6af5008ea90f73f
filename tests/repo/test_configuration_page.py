"""docs/configuration.md is what the parameters are."""

import importlib.util
import sys
from pathlib import Path

import pytest

from kdtrain.config import built_in, sections

TOOLS = Path(__file__).parents[2] / "tools/docs"


@pytest.fixture(scope="module")
def tool():
    sys.path.insert(0, str(TOOLS))  # as it is when the script runs, which reads the module beside it
    try:
        spec = importlib.util.spec_from_file_location("docs_configuration", TOOLS / "configuration.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(TOOLS))
    return module


def test_the_page_is_up_to_date(tool):
    page = tool.PAGE.read_text(encoding="utf-8")
    new = set(tool.page().splitlines()) - set(page.splitlines())
    assert page == tool.page(), f"run `{tool.COMMAND}`; new lines: {sorted(new)[:5]}"


def test_it_has_every_parameter_recipe_and_preset(tool):
    page = tool.page()
    for section in sections().values():
        for name, field in section.model_fields.items():
            assert f"\n| `{name}` | " in page
            assert field.description in page
    for name in (*built_in("recipe"), *built_in("preset")):
        assert f"\n### `{name}`\n" in page
