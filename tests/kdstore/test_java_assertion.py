import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdstore.errors import RowError
from kdstore.schema import Example
from kdstore.tasks import TASKS

ROW = {
    "focal_method": "int size() {\n    return n;\n}",
    "test_method": "@Test\nvoid empty() {\n    Box box = new Box();",
    "assertion": "assertEquals(0, box.size());",
    "repo": "acme/box",
    "path": "src/test/java/BoxTest.java",
}


def example(**changes: Any) -> Example:
    row = {key: value for key, value in {**ROW, **changes}.items() if value is not ...}
    return TASKS.get("java_assertion").example(row)


def test_prompt_and_target() -> None:
    made = example()
    assert made.prompt == f"{ROW['focal_method']}\n{ROW['test_method']}"
    assert made.target == ROW["assertion"]
    assert made.texts == {"assertion": ROW["assertion"], "repo": ROW["repo"], "path": ROW["path"]}
    assert set(made.texts) == set(TASKS.get("java_assertion").text_columns)


def test_the_end_of_the_prompt_is_the_end_of_the_test() -> None:
    assert example(focal_method="{test_method} {0} {").prompt.endswith(ROW["test_method"])


@pytest.mark.parametrize(
    ("changes", "target"),
    [
        ({"assertions": ["assertTrue(a);", " assertTrue(b); "]}, "assertTrue(a);\nassertTrue(b);"),
        ({"assertions": [], "original_target": "assertTrue(c); \n"}, "assertTrue(c);"),
        ({"original_target": "assertTrue(c);"}, "assertTrue(c);"),
    ],
)
def test_the_predecessors_keys(changes: dict[str, Any], target: str) -> None:
    made = example(
        assertion=...,
        test_method=...,
        test_method_masked="void t() {",
        focal_method=...,
        focal_file="class Box {}",
        **changes,
    )
    assert made.prompt == "class Box {}\nvoid t() {"
    assert made.target == target


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"assertion": ...}, "assertion or assertions or original_target"),
        ({"assertion": ""}, "Got none"),
        ({"assertion": " \n "}, "nothing but space"),
        ({"assertion": ["assertTrue(a);"]}, "Got list"),
        ({"assertion": ..., "assertions": [1]}, "Got list"),
        ({"assertion": ..., "assertions": [" "]}, "nothing but space"),
        ({"focal_method": ...}, "focal_method or focal_file"),
        ({"focal_method": 3}, "'focal_method'. Got int"),
        ({"test_method": None}, "test_method or test_method_masked"),
        ({"path": 3}, "'path'. Got int"),
        ({"id": True}, "under 'id'. Got True"),
        ({"id": ""}, "under 'id'"),
        ({"id": [1]}, "under 'id'"),
    ],
)
def test_an_unusable_row_says_why(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowError, match="Expected") as caught:
        example(**changes)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ids() -> None:
    assert example(id="a-1").id == "a-1"
    assert example(id=0).id == "0"
    made = example()
    assert len(made.id) == 16
    assert int(made.id, 16) >= 0
    reordered = dict(reversed(ROW.items()))
    assert TASKS.get("java_assertion").example(reordered).id == made.id
    assert example(line=3).id != made.id


def test_rows_of_one_test_file_stay_together() -> None:
    assert example().group == "acme/box:src/test/java/BoxTest.java"
    assert example(test_method="other {").group == example().group
    assert example(repo="other/box").group != example().group


def test_rows_without_a_path_are_grouped_by_their_focal_method() -> None:
    pathless = example(path=..., focal_method="int f() { return 1; }")
    assert pathless.group.startswith("focal:")
    assert example(path=..., focal_method="int f()  {\n return 1;\n}").group == pathless.group
    assert example(path=..., focal_method="int g() { return 1; }").group != pathless.group


@given(
    st.dictionaries(
        st.sampled_from([*ROW, "id", "focal_file", "test_method_masked", "assertions", "original_target"]),
        st.none() | st.integers() | st.text(max_size=4) | st.lists(st.text(max_size=3), max_size=2),
    )
)
def test_any_record_gives_an_example_or_a_row_error(row: dict[str, Any]) -> None:
    try:
        made = TASKS.get("java_assertion").example(row)
    except RowError:
        return
    assert made.target == made.target.rstrip() != ""
    assert made.prompt.strip()
    assert made.id
    json.dumps(dict(made.texts))
