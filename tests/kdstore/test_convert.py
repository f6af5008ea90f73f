"""A converted store holds the same rows in another form, says so, and converts back to the same bytes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kdstore.codecs import DenseSignal
from kdstore.schema import TeacherSignal, concatenate
from kdstore.store.reader import Store

from ..small_store import write_store
from .conftest import Run
from .test_append import files


def rows(root: Path) -> list[dict[str, Any]]:
    return [block.row(index) for block in Store(root).scan() for index in range(block.rows)]


def equal(a: Any, b: Any) -> bool:
    """Equal to the bit, dtypes included."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    return type(a) is type(b) and a == b


def logits(root: Path) -> torch.Tensor:
    """Decoded logits of all label tokens."""
    store = Store(root)
    codec, block = store.codec(), concatenate(list(store.scan(["labels", "teacher"])))
    arrays = TeacherSignal(name="teacher", arrays=codec.arrays()).unpack(block.arrays)
    signal = codec.decode({name: torch.from_numpy(values.copy()) for name, values in arrays.items()}, 1.0)
    assert isinstance(signal, DenseSignal)
    return signal.logits_LV


@pytest.mark.parametrize("codec", ["lowrank", "topk", "topp"])
@pytest.mark.parametrize(
    "change",
    [("--part-rows", 4, "--block-rows", 2), ("--block-rows", 1), ("--part-rows", 100), ("--container", "webdataset")],
    ids=["smaller", "blocks", "one part", "tar"],
)
def test_rows_survive_and_come_back(tmp_path: Path, kdstore: Run, codec: str, change: tuple[Any, ...]) -> None:
    written = write_store(tmp_path / "a.kd", codec)
    result = kdstore("convert", tmp_path / "a.kd", tmp_path / "b.kd", *change)
    assert result.exit_code == 0, result.stderr
    assert all(map(equal, rows(tmp_path / "b.kd"), rows(tmp_path / "a.kd")))
    assert len(rows(tmp_path / "b.kd")) == len(written.rows)
    assert kdstore("verify", tmp_path / "b.kd").exit_code == 0
    back = ("--container", "zarr", "--part-rows", 6, "--block-rows", 3)
    assert kdstore("convert", tmp_path / "b.kd", tmp_path / "c.kd", *back).exit_code == 0
    first, last = files(tmp_path / "a.kd"), files(tmp_path / "c.kd")
    assert {path for path in first if first[path] != last[path]} == {"manifest.json"}
    old, new = Store(tmp_path / "a.kd"), Store(tmp_path / "c.kd")
    assert new.manifest.parts == old.manifest.parts
    assert new.head.ancestors[0].fingerprint == old.manifest.fingerprint
    assert len(new.head.ancestors) == 2


def test_another_codec_keeps_the_distributions(built: Path, rows: Path, teacher: Path, kdstore: Run) -> None:
    dense = built.parent / "dense.kd"
    assert kdstore("build", rows, "--teacher", teacher, "--out", dense, "--codec", "dense").exit_code == 0
    result = kdstore("convert", dense, built.parent / "small.kd", "--codec", "lowrank", "--codec-set", "rank=24")
    assert result.exit_code == 0, result.stderr
    full, kept = logits(dense), logits(built.parent / "small.kd")
    emitted = torch.isfinite(full) & torch.isfinite(kept)
    assert emitted.float().mean() > 0.9
    difference = torch.softmax(full, -1) - torch.softmax(kept, -1)
    assert difference.abs().sum(-1).mean() / 2 < 0.05
    store, source = Store(built.parent / "small.kd"), Store(dense)
    assert store.manifest.signal_bytes_per_token < source.manifest.signal_bytes_per_token / 5
    before = {(r.divergence, r.temperature): r.angle_deg for r in source.head.codec.fidelity}
    for record in store.head.codec.fidelity:
        assert record.angle_deg >= before[record.divergence, record.temperature]
        assert "at most" in record.reference
        assert record.kl_mean is None
    assert store.head.ancestors[-1].changes["codec"]["codec"] == "lowrank"


@pytest.mark.parametrize("codec", ["topk", "topp", "sampled", "dense"])
def test_a_store_of_full_distributions_becomes_one_of_any_codec(tmp_path: Path, kdstore: Run, codec: str) -> None:
    write_store(tmp_path / "a.kd", "lowrank", rank=8)
    result = kdstore("convert", tmp_path / "a.kd", tmp_path / "b.kd", "--codec", codec)
    assert result.exit_code == 0, result.stderr
    assert kdstore("verify", tmp_path / "b.kd").exit_code == 0
    assert Store(tmp_path / "b.kd").codec().name == codec


def test_what_keeps_candidates_only_cannot_be_encoded_again(tmp_path: Path, kdstore: Run) -> None:
    write_store(tmp_path / "a.kd", "topk")
    result = kdstore("convert", tmp_path / "a.kd", tmp_path / "b.kd", "--codec", "lowrank")
    assert result.exit_code == 7
    assert "full distributions" in result.stderr
    assert not (tmp_path / "b.kd" / "manifest.json").exists()


def test_a_dry_run_tells_the_size_and_writes_nothing(built: Path, kdstore: Run) -> None:
    out = built.parent / "tar.kd"
    told = json.loads(kdstore("convert", built, out, "--container", "webdataset", "--dry-run", "--json").stdout)
    assert not out.exists()
    assert kdstore("convert", built, out, "--container", "webdataset").exit_code == 0
    written = sum(ref.bytes for ref in Store(out).manifest.parts)
    assert 0.8 < told["bytes_then"] / written < 1.25
    assert told["bytes_now"] == sum(ref.bytes for ref in Store(built).manifest.parts)


def test_nothing_to_change_and_a_used_target_are_refused(built: Path, kdstore: Run) -> None:
    assert kdstore("convert", built, built.parent / "b.kd").exit_code == 2
    used = built.parent / "used"
    used.mkdir()
    (used / "file").touch()
    assert kdstore("convert", built, used, "--block-rows", 4).exit_code == 5
    assert kdstore("convert", built, built, "--block-rows", 4).exit_code == 4


def test_a_conversion_continues(built: Path, kdstore: Run) -> None:
    out, straight = built.parent / "b.kd", built.parent / "straight.kd"
    change = ("--part-rows", 16, "--block-rows", 4)
    assert kdstore("convert", built, straight, *change).exit_code == 0
    from kdstore.encode.convert import ConvertOptions, _parts, _settle
    from kdstore.store.shared import publish_shared, stage_shared
    from kdstore.store.writer import begin, write_part

    form = _settle(Store(built), ConvertOptions(built, out, part_rows=16, block_rows=4))
    stage_shared(out, form.shared)
    begin(out, form.head)
    publish_shared(out)
    write_part(out, form.head, 0, form.encode(next(_parts(Store(built), form.head))))
    result = kdstore("convert", built, out, *change)
    assert result.exit_code == 0, result.stderr
    assert "1 of 8 parts are complete" in result.stderr
    assert files(out) == files(straight)
