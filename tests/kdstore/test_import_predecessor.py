"""Rows of the predecessor project: read in both shapes and every width, refused when they contradict themselves."""

import base64
import contextlib
import json
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import lz4.frame
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from kdstore.store.reader import Store

from ..predecessor_rows import quantised, raw, texts, write
from .conftest import Run

ROWS = 40


@pytest.fixture(scope="module")
def labels(teacher: Path) -> list[list[int]]:
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    return [tokenizer(texts(index)["assertion"]).input_ids for index in range(ROWS)]


@pytest.fixture(scope="module")
def logits(labels: list[list[int]], teacher: Path) -> list[np.ndarray]:
    """Logits [L + 3, V] per row, three rows of padding at the end; labels are likely, as under a trained teacher."""
    vocab = len(AutoTokenizer.from_pretrained(teacher))
    rng = np.random.default_rng(0)
    found = [rng.normal(size=(len(row) + 3, vocab)).astype(np.float32) * 2 for row in labels]
    for row, logits_LV in zip(labels, found, strict=True):
        logits_LV[range(len(row)), row] += 6
    return found


def stored(root: Path) -> dict[str, dict[str, Any]]:
    """Rows by the text of their assertion."""
    return {row["text/assertion"]: row for block in Store(root).scan() for row in map(block.row, range(block.rows))}


def decoded(root: Path) -> dict[str, torch.Tensor]:
    codec = Store(root).codec()
    assert codec is not None
    return {
        key: codec.decode({name: torch.from_numpy(a.copy()) for name, a in row["teacher"].items()}, 1.0).log_probs(
            1.0
        )
        for key, row in stored(root).items()
    }


def error_line(result: Any) -> str:
    lines = [line for line in result.stderr.splitlines() if "error:" in line]
    assert len(lines) == 1, result.output
    assert "Traceback" not in result.output
    return lines[0]


SHAPES = {
    "f32": (lambda z: raw(z, "<f4"), 1e-5), "f16": (lambda z: raw(z, "<f2"), 0.02),
    "32 bits": (lambda z: quantised(z, 32), 1e-5), "16 bits": (lambda z: quantised(z, 16), 0.02),
    "8 bits": (lambda z: quantised(z, 8), 0.1), "4 bits": (lambda z: quantised(z, 4), 1.5),
    "4 bits, a byte each": (lambda z: quantised(z, 4, packed=False), 1.5),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_back_the_logits(
    tmp_path: Path, shape: str, logits: list[np.ndarray], labels: list[list[int]], teacher: Path, kdstore: Run
) -> None:
    pack, tolerance = SHAPES[shape]
    second = "bits" in shape
    rows = [texts(index, second) | pack(z) for index, z in enumerate(logits)]
    source = write(tmp_path / "rows.jsonl", rows, {"model": "codet5p"} if second else None)
    result = kdstore(
        "import", source, "--format", "predecessor", "--tokenizer", teacher, "--out", tmp_path / "a.kd",
        "--codec", "dense", "--codec-set", "dtype=f32", *(() if second else ("--logit-dtype", shape)),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found, rows_found = decoded(tmp_path / "a.kd"), stored(tmp_path / "a.kd")
    assert len(found) == ROWS
    for index, z in enumerate(logits):
        key = texts(index)["assertion"]
        expected_LV = torch.log_softmax(torch.from_numpy(z), -1)[: len(labels[index])]
        assert rows_found[key]["labels"].tolist() == labels[index]
        torch.testing.assert_close(found[key], expected_LV, atol=tolerance, rtol=0)
        at_labels = expected_LV[range(len(labels[index])), labels[index]].numpy()
        np.testing.assert_allclose(rows_found[key]["label_logprob"], at_labels, atol=tolerance)
    head = Store(tmp_path / "a.kd").head
    assert head.teacher is None
    assert head.imported is not None
    assert head.imported.headers == (({"model": "codet5p"},) if second else ())
    assert head.codec is not None
    assert {record.temperature for record in head.codec.fidelity} == {1.0, 2.0, 4.0}
    assert kdstore("verify", tmp_path / "a.kd").exit_code == 0


def test_raw_numbers_are_inferred_only_where_one_format_fits(
    tmp_path: Path, logits: list[np.ndarray], labels: list[list[int]], teacher: Path, kdstore: Run
) -> None:
    exact = [z[: len(row)] for z, row in zip(logits, labels, strict=True)]
    args = ("--format", "predecessor", "--tokenizer", teacher, "--codec", "dense", "--codec-set", "dtype=f32")
    for name, dtype in (("f16", "<f2"), ("f32", "<f4")):
        source = write(tmp_path / f"{name}.jsonl", [texts(i) | raw(z, dtype) for i, z in enumerate(exact)])
        assert kdstore("import", source, *args, "--out", tmp_path / f"{name}.kd").exit_code == 0
        found = decoded(tmp_path / f"{name}.kd")
        for index, z in enumerate(exact):
            expected = torch.log_softmax(torch.from_numpy(z), -1)
            torch.testing.assert_close(found[texts(index)["assertion"]], expected, atol=0.02, rtol=0)
    twice = [np.concatenate([z, z]) for z in exact]  # as many bytes in f32 as four times the rows in f16
    source = write(tmp_path / "both.jsonl", [texts(i) | raw(z, "<f4") for i, z in enumerate(twice)])
    both = kdstore("import", source, *args, "--out", tmp_path / "both.kd")
    assert both.exit_code == 3
    assert "Give --logit-dtype" in error_line(both)
    assert kdstore("import", source, *args, "--logit-dtype", "f32", "--out", tmp_path / "both.kd").exit_code == 0


def test_the_scale_of_a_capture_without_the_heads_scaling(
    tmp_path: Path, logits: list[np.ndarray], labels: list[list[int]], teacher: Path, kdstore: Run
) -> None:
    source = write(tmp_path / "a.jsonl", [texts(i) | quantised(z * 32**0.5, 32) for i, z in enumerate(logits)])
    args = ("--format", "predecessor", "--tokenizer", teacher, "--codec", "dense", "--codec-set", "dtype=f32")
    result = kdstore("import", source, *args, "--logit-scale", 32**-0.5, "--out", tmp_path / "a.kd")
    assert result.exit_code == 0
    found = decoded(tmp_path / "a.kd")
    for index, z in enumerate(logits):
        expected = torch.log_softmax(torch.from_numpy(z), -1)[: len(labels[index])]
        torch.testing.assert_close(found[texts(index)["assertion"]], expected, atol=1e-4, rtol=0)
    head = Store(tmp_path / "a.kd").head
    assert head.imported is not None
    assert head.imported.settings == {"logit_scale": pytest.approx(32**-0.5)}


def test_a_padded_vocabulary_is_masked(tmp_path: Path, logits: list[np.ndarray], teacher: Path, kdstore: Run) -> None:
    padded = [np.concatenate([z, np.full((len(z), 28), 9, np.float32)], axis=1) for z in logits]
    source = write(tmp_path / "a.jsonl", [texts(i) | quantised(z, 16) for i, z in enumerate(padded)])
    args = ("import", source, "--format", "predecessor", "--tokenizer", teacher, "--codec", "dense")
    refused = kdstore(*args, "--out", tmp_path / "a.kd")
    assert refused.exit_code == 3
    vocab = padded[0].shape[1]
    assert f"--vocab-size {vocab}" in error_line(refused)
    assert kdstore(*args, "--vocab-size", vocab, "--out", tmp_path / "a.kd").exit_code == 0
    for log_probs_LV in decoded(tmp_path / "a.kd").values():
        assert log_probs_LV.shape[1] == vocab
        assert torch.isinf(log_probs_LV[:, -28:]).all()
        assert torch.isfinite(log_probs_LV[:, :-28]).all()


def bomb(size: int) -> bytes:
    return lz4.frame.compress(bytes(size), store_size=False)


def with_size(frame: bytes, size: int) -> bytes:
    """An LZ4 frame that declares another size of its content, with the header checksum that goes with it."""
    for checksum in range(256):
        lying = frame[:6] + size.to_bytes(8, "little") + bytes([checksum]) + frame[15:]
        with contextlib.suppress(RuntimeError):
            assert lz4.frame.get_frame_info(lying)["content_size"] == size
            return lying
    raise AssertionError("one of 256 checksums is right")


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def hostile(z: np.ndarray) -> list[tuple[dict[str, Any], str]]:
    """Rows that lie about their logits, and a piece of the reason that is to be given."""
    good, text = quantised(z, 4)["compressed_logits"], texts(3)
    first = raw(z)["teacher_logits_compressed"]
    data, payload = good["data_encoded"], z.size // 2

    def second(**changes: Any) -> dict[str, Any]:
        return text | {"compressed_logits": good | changes}

    def inner(**changes: Any) -> dict[str, Any]:
        return second(data_encoded=data | changes)

    def one(value: Any, **more: Any) -> dict[str, Any]:
        return text | {"teacher_logits_compressed": value} | more

    nan = z.copy()
    nan[1, 7] = np.nan
    lying = with_size(lz4.frame.compress(bytes(payload)), 1 << 40)
    shape = list(z.shape)
    return [
        (text, "Expected logits under"),
        (second() | one(first), "Got both"),
        (text | {"compressed_logits": "x"}, "Expected an object"),
        (second(format="zstd"), "format"),
        (second(bits=5), "bits"),
        (second(bits="4"), "bits"),
        (second(bits=8), "Expected original_size"),
        (second(bits=32), "Expected original_size"),
        (second(packed=False), "Expected original_size"),
        (second(scale=None), "scale and zero_point"),
        (second(zero_point="1"), "zero_point"),
        (second(scale=1e39), "finite"),
        (second(shape=[1 << 40, shape[1]]), "at most"),
        (second(shape=[0, shape[1]]), "shape"),
        (second(shape=[-1, shape[1]]), "shape"),
        (second(shape=[shape[0], 1 << 60]), "--vocab-size"),
        (second(shape=[shape[0] + 1, shape[1]]), "Expected original_size"),
        (second(shape=[2, *shape]), "--vocab-size"),
        (second(shape=[1.5, shape[1]]), "shape"),
        (inner(encoding="base32"), "encoding"),
        (inner(original_size=1 << 50), "Expected original_size"),
        (inner(data=data["data"][:-1]), "text in hex"),
        (inner(data="zz"), "text in hex"),
        (inner(data=data["data"][:-20]), "breaks off"),
        (inner(data=data["data"] + "00"), "goes on after its end"),
        (inner(data=b"no frame at all".hex()), "Expected an LZ4 frame"),
        (inner(data=lying.hex()), "Got a size of 1,099,511,627,776"),
        (inner(data=bomb(1 << 28).hex()), "Got more"),
        (inner(data=bomb(5).hex()), "bytes of logits. Got 5"),
        (second(shape=[1, shape[1]], data_encoded=data | quantised(z[:1], 4)["compressed_logits"]["data_encoded"]),
         "Got 1 rows"),
        (text | quantised(nan, 32), "Got nan at position 1, id 7"),
        (one("***"), "text in base64"),
        (one(5), "text in base64"),
        (one(b64(lz4.frame.compress(b"12345"))), "neither f16 nor f32"),
        (one(b64(bomb(1 << 29))), "at most 268,435,456 bytes"),
        (one(first, teacher_logits_shape=shape, teacher_logits_dtype="f16"), "bytes of logits"),
        (one(first, teacher_logits_shape=[1 << 50, shape[1]], teacher_logits_dtype="f32"), "at most"),
        (one(first, teacher_logits_shape="x"), "[rows, vocabulary]"),
        (one(first, teacher_logits_shape=shape, teacher_logits_dtype="f8"), "f16 or f32"),
    ]  # fmt: skip


def test_rows_that_lie_are_left_out_with_their_reason(
    tmp_path: Path, logits: list[np.ndarray], teacher: Path, kdstore: Run
) -> None:
    cases = hostile(logits[3])
    good = [texts(index) | quantised(logits[index], 4) for index in (0, 1, 2)]
    source = write(tmp_path / "a.jsonl", [*good, *(row for row, _ in cases)], {"model": "m"})
    args = ("import", source, "--format", "predecessor", "--tokenizer", teacher, "--out", tmp_path / "a.kd")
    strict = kdstore(*args, "--strict")
    assert strict.exit_code == 3
    assert "a.jsonl:5" in error_line(strict)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = kdstore(*args)
    assert refused.exit_code == 3
    assert "at most 10% bad rows" in error_line(refused)
    result = kdstore(*args, "--max-bad", 1)
    assert result.exit_code == 0, result.output
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 600 << 10, "kilobytes: half of what the largest lie would have unpacked to, and its copies"
    assert Store(tmp_path / "a.kd").rows == 3
    lines = [json.loads(line) for line in (tmp_path / "a.kd" / "quarantine.jsonl").read_text().splitlines()]
    assert len(lines) == len(cases)
    for (_, message), line in zip(cases, lines, strict=True):
        assert message in line["reason"], line
        assert "\n" not in line["reason"]
        assert len(line["reason"]) < 400


def test_settings_that_do_not_fit_are_refused(
    tmp_path: Path, logits: list[np.ndarray], teacher: Path, kdstore: Run
) -> None:
    source = write(tmp_path / "a.jsonl", [texts(0) | quantised(logits[0], 4)])
    long = write(tmp_path / "b.jsonl", [texts(0) | quantised(logits[0], 4)], {"x": "y" * 70_000})
    (tmp_path / "none").mkdir()
    fixed = ("--tokenizer", teacher, "--out", tmp_path / "a.kd")
    cases = [
        ((source, "--format", "predecesor"), 2, "Did you mean 'predecessor'"),
        ((source, "--format", "predecessor", "--temperature", 2), 2, "no --temperature"),
        ((source, "--format", "predecessor", "--tail", "unknown"), 2, "no --tail"),
        ((source, "--format", "predecessor", "--logit-scale", 0), 2, "logit_scale"),
        ((source, "--format", "predecessor", "--logit-scale", "nan"), 2, "logit_scale"),
        ((source, "--format", "predecessor", "--vocab-size", 9), 4, "at most 9 ids"),
        ((tmp_path / "none.jsonl", "--format", "predecessor"), 3, "nothing there"),
        ((source, "--format", "predecessor", "--codec", "nope"), 2, "Expected a known codec"),
        ((tmp_path / "none", "--format", "predecessor"), 3, "Expected files ending in"),
        ((long, "--format", "predecessor"), 3, "a header of at most"),
    ]
    for args, code, message in cases:
        result = kdstore("import", *args, *fixed)
        assert result.exit_code == code, (args, result.output)
        assert message in error_line(result)
        assert not (tmp_path / "a.kd").exists()


def test_a_killed_import_continues_to_the_same_store(
    tmp_path: Path, logits: list[np.ndarray], teacher: Path, kdstore: Run
) -> None:
    source = write(tmp_path / "a.jsonl", [texts(i) | quantised(z, 8) for i, z in enumerate(logits)], {"model": "m"})
    args = [str(a) for a in ("import", source, "--format", "predecessor", "--tokenizer", teacher, "--codec", "dense",
            "--part-rows", 8, "--block-rows", 4, "--val-fraction", 0.2)]  # fmt: skip
    places = {
        name: ["--out", str(tmp_path / name / "a.kd"), "--val-out", str(tmp_path / name / "v.kd")] for name in "xy"
    }
    assert kdstore(*args, *places["x"]).exit_code == 0
    # kill -9 before the nth rename
    code = (
        "import os, signal, sys, pathlib\n"
        "left, rename = [int(sys.argv.pop(1))], pathlib.Path.rename\n"
        "def dying(self, target):\n"
        "    left[0] -= 1\n"
        "    if left[0] < 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return rename(self, target)\n"
        "pathlib.Path.rename = dying\n"
        "from kdstore.cli import main; main()"
    )
    dead = subprocess.run([sys.executable, "-c", code, "3", *args, *places["y"]], capture_output=True, check=False)
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    assert not (tmp_path / "y" / "a.kd" / "manifest.json").exists()
    assert kdstore(*args, *places["y"]).exit_code == 0
    x, y = (
        {p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*") if p.is_file()} for n in "xy"
    )
    assert x == y
    other = kdstore(*args, *places["y"], "--logit-scale", 0.5)
    assert other.exit_code == 4
    assert "as this build was started with" in error_line(other)


def test_logits_of_other_labels_are_noticed(
    tmp_path: Path, logits: list[np.ndarray], teacher: Path, kdstore: Run
) -> None:
    shifted = [np.roll(z, 1, axis=0) for z in logits]
    for name, found in (("right", logits), ("shifted", shifted)):
        source = write(tmp_path / f"{name}.jsonl", [texts(i) | quantised(z, 16) for i, z in enumerate(found)])
        args = ("import", source, "--format", "predecessor", "--tokenizer", teacher, "--out", tmp_path / f"{name}.kd")
        result = kdstore(*args)
        assert result.exit_code == 0
        assert ("less than by chance" in result.stderr) == (name == "shifted")
