"""Every release reads the stores that earlier ones wrote, each value of them."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from kdstore.store.manifest import FORMAT_VERSION
from kdstore.store.reader import Store
from kdstore.store.verify import verify

ROOT = Path(__file__).parents[2]
STORES = sorted((Path(__file__).parent / "stores").glob("v*/*/"))

_spec = importlib.util.spec_from_file_location("golden", ROOT / "tools/golden.py")
assert _spec
assert _spec.loader
golden = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(golden)


def named(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def expected(path: Path) -> dict:
    return json.loads((path.parent / golden.EXPECTED).read_text(encoding="utf-8"))[path.name]


def test_the_present_version_has_its_stores() -> None:
    found = {path.name for path in STORES if path.parent.name == f"v{FORMAT_VERSION}"}
    assert found == {"zarr-lowrank", "zarr-topk", "zarr-tokens", "webdataset-topk"}


@pytest.mark.parametrize("path", STORES, ids=named)
def test_every_value_is_read_back(path: Path) -> None:
    store, record = Store(path), expected(path)
    rows = [block.row(index) for block in store.scan() for index in range(block.rows)]
    assert [row["id"] for row in rows] == record["ids"]
    assert [row["labels"].tolist() for row in rows] == record["labels"]
    fields = {field.name: field for field in store.schema.fields}
    assert set(fields) == set(record["fields"])
    for name, field in fields.items():
        found = golden.digest([golden.values(row[name]) for row in rows], field.model_dump(mode="json"))
        assert found == record["fields"][name], name


@pytest.mark.parametrize("path", STORES, ids=named)
def test_the_signal_means_what_it_meant(path: Path) -> None:
    """The likeliest id of every label token, and its log-probability."""
    store, record = Store(path), expected(path)
    codec = store.codec()
    if codec is None:
        assert "likeliest" not in record
        return
    found = []
    for block in store.scan(["labels", "teacher"]):
        arrays = {name.removeprefix("teacher/"): array for name, array in block.arrays.items() if "teacher/" in name}
        found += golden.likeliest(codec.decode(golden.tensors(arrays), temperature=1.0))
    ids, log_probs = zip(*record["likeliest"], strict=True)
    assert tuple(one for one, _ in found) == ids
    np.testing.assert_allclose([value for _, value in found], log_probs, atol=0.001)


@pytest.mark.parametrize("path", STORES, ids=named)
def test_verify_finds_nothing(path: Path) -> None:
    report = verify(path, quick=False, advance=lambda rows: None)
    assert report.problems == []
    assert report.rows == len(expected(path)["ids"])


def test_they_are_small() -> None:
    files = [path for path in (Path(__file__).parent / "stores").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 300_000


def test_the_script_still_writes_these_values(tmp_path: Path) -> None:
    golden.write_all(tmp_path / "again")
    record = (tmp_path / "again" / golden.EXPECTED).read_text(encoding="utf-8")
    assert record == (golden.TARGET / golden.EXPECTED).read_text(encoding="utf-8")
