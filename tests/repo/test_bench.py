"""The benchmarks run, and give the records that their readers expect."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from kdstore.cli import main as kdstore

from ..kdstore.conftest import make_rows, write_rows
from ..random_t5 import save_random_t5

ROOT = Path(__file__).parents[2]
KEYS = {
    "codec", "settings", "temperature", "bytes_per_token", "shared_bytes_per_token", "angle_deg", "angle_worst_deg",
    "positions", "norm_ratio", "kl_mean", "kl_p99", "encode_tok_s", "decode_tok_s",
}  # fmt: skip


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two random T5s with one byte-level tokenizer."""
    from kdtrain.models.tokenizer import train

    tokenizer = train([row["assertion"] for row in make_rows(100)], vocab_size=300)
    found = []
    for seed, name in enumerate(("teacher", "student")):
        found.append(save_random_t5(tmp_path_factory.mktemp(name), len(tokenizer), seed))
        tokenizer.save_pretrained(found[-1])
    return found


@pytest.mark.long
def test_codecs_and_foreign_formats_are_measured_on_the_same_positions(tmp_path: Path, models: list[Path]) -> None:
    rows, out = write_rows(tmp_path / "rows.jsonl", make_rows(300)), tmp_path / "out.json"
    names = "lowrank,topk-leftover-tail,predecessor-4bit-jsonl,lowrank-from-predecessor"
    result = run(
        "tools/bench/fidelity.py", "--teacher", models[0], "--rows", rows, "--student", models[1],
        "--codecs", names, "--json", out,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    records = json.loads(out.read_text())
    assert {record["codec"] for record in records} == set(names.split(","))
    assert {record["temperature"] for record in records} == {1.0, 2.0, 4.0}
    assert len({record["positions"] for record in records}) == 1
    for record in records:
        assert set(record) >= KEYS
        assert record["positions"] >= 2048
        assert record["bytes_per_token"] > 0
        assert 0 <= record["angle_deg"] <= record["angle_worst_deg"] <= 180


@pytest.mark.long
def test_a_store_is_measured_at_size(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    result = run("tools/bench/store.py", "--gigabytes", 0.01, "--parts", 50, "--repeats", 1, "--json", out)
    assert result.returncode == 0, result.stderr
    records = json.loads(out.read_text())
    assert records["large_build"]["bytes"] > 1e7
    assert records["large_build"]["peak_rss_bytes"] > records["large_build"]["teacher_peak_rss_bytes"] > 1e8
    assert records["many_parts"]["parts"] == 50
    for record in records["throughput"]:
        assert 0 < record["write_of_numpy"] < record["write_mb_s"]


LOADER_KEYS = {
    "loader", "batch_size", "rows_per_s", "peak_rss_mb", "import_rss_mb", "planned_mb", "bytes_on_disk",
    "design_effect", "first_batch_s", "resume_first_batch_s",
}  # fmt: skip


@pytest.mark.long
def test_loaders_are_measured_on_the_same_records(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    result = run(
        "tools/bench/loader.py", "--only", "ours-zarr,webdataset,litdata", "--rows", 150, "--batch-sizes", "32",
        "--epochs", 1, "--peers-python", sys.executable, "--dir", tmp_path, "--json", out,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    ours, tar, absent = json.loads(out.read_text())
    assert absent == {"loader": "litdata", "absent": "No module named 'litdata'"}
    for record in (ours, tar):
        assert set(record) >= LOADER_KEYS
        assert record["rows_per_s"] > 0
        assert record["peak_rss_mb"] > record["import_rss_mb"] > 50
    # A shard of webdataset has more rows than there are; our blocks have 32.
    assert tar["design_effect"] == 32 > ours["design_effect"] > 1
    assert ours["planned_mb"] > 0 < ours["resume_first_batch_s"]
    assert tar["planned_mb"] is tar["resume_first_batch_s"] is None


@pytest.mark.long
def test_a_loader_that_gives_other_records_is_found_out(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    request = {"records": str(tmp_path / "records"), "kept": str(kept), "rows": 9, "batch_rows": 4, "last_batch": 2}
    request |= {
        "loader": "webdataset",
        "directory": str(tmp_path / "files"),
        "epochs": 1,
        "seconds": 1,
        "starts": [0],
    }

    def error(script: str, step: str) -> str:
        return run(f"tools/bench/{script}.py", json.dumps(request | {"step": step})).stderr

    assert "Error" not in error("_loader_checks", "make")
    assert "Error" not in error("_loader_peers", "write")
    assert "Error" not in error("_loader_peers", "warm")
    assert "Error" not in error("_loader_checks", "check")
    arrays = dict(np.load(kept / "2.npz"))
    arrays["top_log_probs"][-1, -1] += 1
    np.savez(kept / "2.npz", **arrays)
    assert "AssertionError" in error("_loader_checks", "check")
    keys = np.load(kept / "keys.npy")
    np.save(kept / "keys.npy", np.where(keys == 3, 4, keys))
    assert "every record once" in error("_loader_checks", "check")


def test_the_tables_are_those_of_the_records() -> None:
    sys.path.insert(0, str(ROOT / "tools/docs"))
    try:
        from performance import COMMAND, pages
    finally:
        sys.path.remove(str(ROOT / "tools/docs"))
    for page, text in pages().items():
        assert page.read_text(encoding="utf-8") == text, f"run {COMMAND}"


@pytest.mark.long
def test_steps_are_timed_streamed_and_from_memory(tmp_path: Path, models: list[Path]) -> None:
    rows, out = write_rows(tmp_path / "rows.jsonl", make_rows(60)), tmp_path / "out.json"
    built = CliRunner().invoke(
        kdstore, ["build", str(rows), "--teacher", str(models[0]), "--out", str(tmp_path / "a.kd"), "--codec", "topk"]
    )
    assert built.exit_code == 0, built.output
    sizes = ["--preset", "micro", "--batch-size", 4, "--steps", 2, "--rounds", 2, "--device", "cpu"]
    result = run("tools/bench/overlap.py", tmp_path / "a.kd", *sizes, "--json", out)
    assert result.returncode == 0, result.stderr
    record = json.loads(out.read_text())
    assert set(record) == {
        "store", "rows", "preset", "batch_size", "device", "steps", "planned_mb", "step_ms", "step_from_memory_ms",
        "ratio", "data_wait_share", "torch_threads", "cores", "load",
    }  # fmt: skip
    assert record["steps"] == 4
    assert record["step_ms"] > 0 < record["step_from_memory_ms"]
    assert record["ratio"] == pytest.approx(record["step_ms"] / record["step_from_memory_ms"], abs=0.02)
    assert 0 <= record["data_wait_share"] < 1


@pytest.mark.long
def test_measuring_of_predictions_is_timed_by_metric(tmp_path: Path) -> None:
    rows, out = write_rows(tmp_path / "rows.jsonl", make_rows(60)), tmp_path / "out.json"
    result = run("tools/bench/evaluate.py", "--rows", rows, "--sizes", "40,80", "--draws", 50, "--json", out)
    assert result.returncode == 0, result.stderr
    records = json.loads(out.read_text())
    assert [record["predictions"] for record in records] == [40, 80]
    for record in records:
        assert {"codebleu", "ast_validity", "pans", "kl", "bleu"} <= set(record["seconds_by_metric"])
        assert "semantic_similarity" not in record["seconds_by_metric"]
        assert record["metrics"] == len(record["seconds_by_metric"])
        assert min(record["seconds"], record["cpu_seconds"], record["peak_mb"]) > 0
