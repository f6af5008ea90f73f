"""Predictions so far survive whatever stops an evaluation."""

import json
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from kdeval.journal import JOURNAL, Journal
from kdeval.predict import Window
from kdeval.results import PREDICTIONS, SUMMARY
from kdeval.samples import Sample, TokenScores
from kdstore.errors import InputError

IDENTITY = {"model": "m", "data": "d"}


def window(*ids: str) -> Window:
    tokens = TokenScores([0.5], [0.9], [True], {"junit": [0]}, [0.1], [False], 2.0)
    return Window([Sample(name, "p", "r", "x\u2028\n", tokens=tokens) for name in ids], 0.25, 7)


def ids(journal: Journal) -> list[str]:
    return [sample.id for one in journal.windows() for sample in one.samples]


def test_goes_on_after_what_is_there(tmp_path):
    with Journal(tmp_path, IDENTITY) as journal:
        journal.add(window("a", "b"))
    with Journal(tmp_path, IDENTITY) as journal:
        assert journal.rows == 2
        journal.add(window("c"))
        assert [*journal.windows()] == [window("a", "b"), window("c")]


def test_every_cut_leaves_whole_windows(tmp_path):
    """Whatever length the file has after a crash, what is adopted is a prefix of the windows, and can be added to."""
    with Journal(tmp_path, IDENTITY) as journal:
        journal.add(window("a"))
        journal.add(window("b"))
    whole = (tmp_path / JOURNAL).read_bytes()
    seen = set()
    for size in range(len(whole) + 1):
        (tmp_path / JOURNAL).write_bytes(whole[:size])
        with Journal(tmp_path, IDENTITY) as journal:
            seen.add(journal.rows)
            assert ids(journal) == ["a", "b"][: journal.rows]
            journal.add(window("z"))
            assert ids(journal)[-1] == "z"
    assert seen == {0, 1, 2}


def test_other_settings_start_over(tmp_path, capsys):
    with Journal(tmp_path, IDENTITY) as journal:
        journal.add(window("a"))
    with Journal(tmp_path, {**IDENTITY, "model": "other"}) as journal:
        assert journal.rows == 0
        journal.add(window("b"))
        assert ids(journal) == ["b"]
    assert "starting over" in capsys.readouterr().err


def test_nothing_predicted_leaves_no_file(tmp_path):
    with Journal(tmp_path, IDENTITY):
        pass
    assert [*tmp_path.iterdir()] == []


def test_a_damaged_line_is_named(tmp_path):
    with Journal(tmp_path, IDENTITY) as journal:
        journal.add(window("a"))
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(b'{"samples": 3}\n')
    with pytest.raises(InputError, match="line 3 of"):
        Journal(tmp_path, IDENTITY)


def test_killed_evaluations_end_as_one_without_a_break(world, tmp_path):
    """kill -9, twice: the predictions and every value are those of one whole run."""
    command = [
        str(Path(sys.executable).with_name("kdeval")), "run", str(world.model), "--data", str(world.store),
        "--batch-size", "1", "--metrics", "f1,loss,exact_match", "--device", "cpu", "--sample", "--seed", "5",
        "--draws", "50", "--into",
    ]  # fmt: skip
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    run = tmp_path / "killed"
    kills = sum(killed_after_a_window([*command, str(run)], run / JOURNAL) for _ in range(2))
    assert kills == 2
    assert (run / JOURNAL).exists()
    subprocess.run([*command, str(run)], check=True, capture_output=True)
    assert (run / PREDICTIONS).read_bytes() == (tmp_path / "whole" / PREDICTIONS).read_bytes()
    summaries = [json.loads((path / SUMMARY).read_text()) for path in (run, tmp_path / "whole")]
    assert summaries[0]["metrics"] == summaries[1]["metrics"]
    assert not (run / JOURNAL).exists()


def killed_after_a_window(command: list[str], journal: Path) -> bool:
    """Run a command, and kill it once the journal has grown; False where it ended before."""
    before = size(journal)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while size(journal) <= before:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.02)
                return False
        process.send_signal(signal.SIGKILL)
    return True


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
