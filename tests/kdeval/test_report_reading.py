"""What a report says for a reader who does not know the models: one method for all, shares of 0, units."""

import pytest

from kdeval.report.confusion import confusion
from kdeval.report.gather import gather
from kdeval.report.render import to_html, to_markdown

from .test_report_numbers import PAIRS, scored


def test_a_model_that_writes_one_method_is_called_so(tmp_path):
    expected = ["assertEquals"] * 6 + ["assertTrue"] * 3 + ["assertNull"]
    rows = [{"reference": f"{name}(a);", "prediction": "assertEquals(a);"} for name in expected]
    said = gather(scored(tmp_path / "one", [*rows, {"reference": "a;", "prediction": "assertEquals(a);"}])).headline
    assert (
        "It ever writes 1 of the 3 expected assertion methods: assertEquals in 11 of 11 rows, where 6 expect it "
        "(always writing it would be right in 54.5%), and never assertTrue, assertNull (4 rows expect these)."
    ) in said


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"assertTrue": {"none": 2, "other": 1}}, (1, 0, ["assertTrue"], 3, None)),
        ({"none": {"assertTrue": 2}}, (0, 0, [], 0, ("assertTrue", 2, 0))),
        ({"a": {"b": 2}, "b": {"a": 2}}, (2, 2, [], 0, ("a", 2, 2))),
    ],
)
def test_methods_that_are_expected_and_written(table, expected):
    found = confusion(table).methods
    assert (found.expected, found.written, found.never, found.never_rows, found.favourite) == expected


def test_the_table_says_how_sure_a_share_of_nothing_is(tmp_path):
    wrong = scored(tmp_path / "wrong", [{"reference": "f();", "prediction": "g();"}] * 60)
    report = gather(wrong)
    (note,) = [words for words in report.reading if "without width" in words]
    assert "5.0% for 60 rows" in note
    assert note in to_html(report)
    assert note in to_markdown(report)
    assert any("nearer to 1" in words for words in report.reading)
    assert not any("without width" in words for words in gather(scored(tmp_path / "s", PAIRS, ["f1"])).reading)


def test_the_length_ratio_names_its_unit(tmp_path):
    assert "| Length ratio, of Java tokens | near 1 |" in to_markdown(gather(scored(tmp_path / "s", PAIRS)))
