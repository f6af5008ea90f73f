"""Comparisons of two evaluations: what they say, and what they refuse."""

import json

import pytest

from kdeval.compare import compare
from kdeval.rescore import rescore
from kdeval.results import PREDICTIONS, STATISTICS, SUMMARY, Settings, read_results
from kdstore.errors import InputError, MismatchError, UnknownNameError

from .conftest import assert_fails, invoke

METRICS = ["f1", "exact_match", "length_ratio"]
REFERENCES = [f"assertEquals({n}, size(list, {n}));" for n in range(60)]


def write_run(directory, predictions, references=REFERENCES, metrics=METRICS):
    directory.mkdir(parents=True)
    lines = [
        json.dumps({"id": f"row-{n}", "reference": reference, "prediction": prediction})
        for n, (reference, prediction) in enumerate(zip(references, predictions, strict=True))
    ]
    (directory / "mine.jsonl").write_text("".join(f"{line}\n" for line in lines))
    rescore(directory / "mine.jsonl", directory, Settings(draws=0), metrics)
    return directory


def right(share):
    """Predictions of which a share is right, spread evenly."""
    return [text if n % 10 < 10 * share else "assertTrue(false);" for n, text in enumerate(REFERENCES)]


@pytest.fixture
def runs(tmp_path):
    return write_run(tmp_path / "a", right(0.4)), write_run(tmp_path / "b", right(0.7))


def by_name(pair):
    return {one.name: one for one in pair.differences}


def test_a_clear_difference_is_told(runs):
    pair = compare(*runs, None, 500, 0, 0.95)
    found = by_name(pair)["exact_match"]
    assert (found.a, found.b) == (0.4, 0.7)
    assert found.difference == pytest.approx(0.3)
    assert found.interval.low < 0.3 < found.interval.high
    assert found.verdict == "better"
    assert pair.rows == 60
    assert "better than" in pair.summary()
    assert "worse in none" in pair.summary()


def test_the_other_way_round_is_the_opposite(runs):
    there, back = compare(*runs, None, 500, 0, 0.95), compare(*runs[::-1], None, 500, 0, 0.95)
    for one, other in zip(there.differences, back.differences, strict=True):
        assert one.difference == pytest.approx(-other.difference)
        assert one.interval == pytest.approx((-other.interval.high, -other.interval.low))
        assert {one.verdict, other.verdict} in ({"better", "worse"}, {"no difference found"})


def test_noise_is_not_ranked(tmp_path):
    """Two that are right equally often, on other rows: whatever the values, no winner is named."""
    shifted = [*right(0.5)[5:], *right(0.5)[:5]]
    other = [text if prediction != "assertTrue(false);" else "assertTrue(false);"
             for text, prediction in zip(REFERENCES, shifted, strict=True)]  # fmt: skip
    a, b = write_run(tmp_path / "a", right(0.5)), write_run(tmp_path / "b", other)
    pair = compare(a, b, ["exact_match", "f1"], 500, 0, 0.95)
    assert {one.verdict for one in pair.differences} == {"no difference found"}
    assert "no metric tells" in pair.summary()


def test_a_run_against_itself(runs):
    pair = compare(runs[0], runs[0], None, 200, 0, 0.95)
    assert all(one.difference == 0 and one.verdict == "no difference found" for one in pair.differences)


def test_near_one_is_better_whichever_side_it_comes_from(tmp_path):
    short, fair = ["f();"] * 60, REFERENCES
    long = [text + " " + text for text in REFERENCES]
    a, b, c = (write_run(tmp_path / name, texts) for name, texts in (("a", short), ("b", fair), ("c", long)))
    assert by_name(compare(a, b, None, 200, 0, 0.95))["length_ratio"].verdict == "better"
    assert by_name(compare(c, b, None, 200, 0, 0.95))["length_ratio"].verdict == "better"
    assert by_name(compare(b, c, None, 200, 0, 0.95))["length_ratio"].verdict == "worse"


def test_only_common_rows_count(tmp_path):
    a = write_run(tmp_path / "a", right(0.4))
    b = write_run(tmp_path / "b", right(0.4)[:40], REFERENCES[:40])
    pair = compare(a, b, None, 200, 0, 0.95)
    assert (pair.rows, pair.only_a, pair.only_b) == (40, 20, 0)
    assert all(one.difference == 0 for one in pair.differences)


def test_same_id_with_another_reference_is_another_row(tmp_path):
    a = write_run(tmp_path / "a", right(0.4))
    b = write_run(tmp_path / "b", right(0.4), [f"{text} " for text in REFERENCES])
    with pytest.raises(MismatchError, match="same rows"):
        compare(a, b, None, 200, 0, 0.95)


def test_rows_that_are_there_twice_are_paired_in_order(tmp_path):
    texts = ["assertTrue(a);"] * 2
    runs = []
    for name in "ab":
        directory = tmp_path / name
        directory.mkdir()
        lines = [json.dumps({"id": "same", "reference": texts[0], "prediction": text}) for text in texts]
        (directory / "mine.jsonl").write_text("\n".join(lines) + "\n")
        rescore(directory / "mine.jsonl", directory, Settings(draws=0), ["f1"])
        runs.append(directory)
    assert compare(*runs, None, 100, 0, 0.95).rows == 2


def test_metrics_must_be_shared(tmp_path):
    a = write_run(tmp_path / "a", right(0.4), metrics=["f1"])
    b = write_run(tmp_path / "b", right(0.4), metrics=["exact_match"])
    with pytest.raises(MismatchError, match="share"):
        compare(a, b, None, 200, 0, 0.95)
    with pytest.raises(MismatchError, match="f1 to be measured in the same way"):
        compare(a, b, ["f1"], 200, 0, 0.95)
    with pytest.raises(UnknownNameError):
        compare(a, b, ["f2"], 200, 0, 0.95)


def test_changed_files_are_refused(runs, tmp_path):
    a, b = runs
    statistics = bytearray((b / STATISTICS).read_bytes())
    statistics[-1] ^= 1
    (b / STATISTICS).write_bytes(statistics)
    with pytest.raises(MismatchError, match="checksum"):
        compare(a, b, None, 200, 0, 0.95)
    (b / STATISTICS).unlink()
    with pytest.raises(InputError, match="nothing there"):
        compare(a, b, None, 200, 0, 0.95)
    with (a / PREDICTIONS).open("a") as file:
        file.write("\n")
    with pytest.raises(MismatchError, match="checksum"):
        compare(a, b, None, 200, 0, 0.95)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 64, (1 << 62).to_bytes(8, "little") + b"{}"])
def test_statistics_that_are_none(runs, content):
    """Even where somebody made the summary vouch for them."""
    a, b = runs
    (b / STATISTICS).write_bytes(content)
    vouch(b)
    with pytest.raises(InputError):
        compare(a, b, None, 200, 0, 0.95)


def vouch(run):
    from kdstore.store.files import sha256_file

    summary = json.loads((run / SUMMARY).read_text())
    summary["statistics_sha256"] = sha256_file(run / STATISTICS)
    (run / SUMMARY).write_text(json.dumps(summary))


def test_statistics_of_another_shape(runs):
    import numpy as np
    from safetensors.numpy import load_file, save_file

    a, b = runs
    arrays = load_file(b / STATISTICS)
    for shape in ((60, 9), (59, 2), (60,)):
        save_file({**arrays, "student.exact_match": np.zeros(shape)}, b / STATISTICS)
        vouch(b)
        with pytest.raises(InputError, match="exact_match"):
            compare(a, b, None, 200, 0, 0.95)


def test_command(runs):
    a, b = runs
    result = invoke("compare", a, b, "--draws", 200)
    assert result.exit_code == 0, result.stderr
    assert "+30.0 pp" in result.stdout
    assert "better" in result.stdout
    found = json.loads(invoke("compare", a, b, "--draws", 200, "--json", "--metrics", "f1").stdout)
    assert [one["name"] for one in found["differences"]] == ["f1"]
    assert found["summary"].startswith(str(b))
    assert_fails(invoke("compare", a, a.parent / "none"), InputError.exit_code, "kdeval run")
    assert read_results(a).metrics["exact_match"].interval is None, "draws=0: no interval"
