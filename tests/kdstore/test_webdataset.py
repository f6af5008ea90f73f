"""webdataset parts: stock tools read them, nothing is lost, and nothing in them is trusted."""

import dataclasses
import io
import itertools
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdstore.errors import CapabilityError, CorruptStoreError
from kdstore.schema import (
    ROW_AXIS,
    Block,
    MultiHot,
    RaggedText,
    RaggedTokens,
    Scalar,
    Schema,
    SignalArray,
    TeacherSignal,
    Tree,
    Vector,
    concatenate,
)
from kdstore.store.containers import _npy, _tar
from kdstore.store.manifest import Head, Limits, Segment, TokenizerRecord
from kdstore.store.reader import Store
from kdstore.store.verify import verify
from kdstore.store.writer import begin, finalize, prepare, write_part
from kdtrain.stream.config import LoaderConfig
from kdtrain.stream.loader import Loader
from kdtrain.stream.order import OrderConfig

from ..format.test_foreign_reader import run_without_ours
from ..small_store import write_store
from .conftest import Run

Kind = Literal["zarr", "webdataset"]
ROWS = "parts/00000/rows.tar"


def foreign_reader_agrees(tars: Path, arrays: Path) -> int:
    """Compare two stores where none of our packages can be imported; gives the number of different keys."""
    result = run_without_ours(Path(__file__).parents[1] / "format/stock_webdataset.py", tars, arrays)
    assert (result.returncode, result.stderr) == (0, "")
    return int(result.stdout)


@pytest.mark.parametrize("codec", ["lowrank", "topk"])
def test_stock_webdataset_reads_every_field_of_a_thousand_rows(tmp_path: Path, codec: str) -> None:
    layout = {"count": 1000, "part_rows": 384, "block_rows": 128}
    arrays = write_store(tmp_path / "z.kd", codec, container="zarr", **layout)
    tars = write_store(tmp_path / "w.kd", codec, container="webdataset", **layout)
    assert foreign_reader_agrees(tars.root, arrays.root) == 1000
    ours = [concatenate(list(Store(store.root).scan())) for store in (arrays, tars)]
    check_same(*ours)


def head(schema: Schema, rows: int, container: Kind, part_rows: int, block_rows: int) -> Head:
    return Head(
        task="t", template="{x}", schema=schema, vocab_size=300, codec=None, teacher=None,
        tokenizer=TokenizerRecord(sha256="0" * 64, vocab_size=300, pad_id=0, eos_id=1, decoder_start_id=0),
        encoders={}, limits=Limits(max_input_tokens=8, max_output_tokens=8, overlong="skip"),
        split="all", seed=0, container=container, part_rows=part_rows, block_rows=block_rows,
        segments=(Segment(source_sha256="0" * 64, rows=rows, scan={}, versions={}),),
    )  # fmt: skip


def write(root: Path, block: Block, container: Kind, part_rows: int, block_rows: int) -> Store:
    settled = head(block.schema, block.rows, container, part_rows, block_rows)
    begin(root, settled)
    prepare(root)
    for index, start in enumerate(range(0, block.rows, part_rows)):
        write_part(root, settled, index, cut(block, start, min(block.rows, start + part_rows)))
    finalize(root, settled)
    return Store(root)


def cut(block: Block, start: int, stop: int) -> Block:
    bounds = {axis: block.offsets(axis)[[start, stop]] for axis in block.schema.axes()}
    specs = block.schema.specs()
    return Block(
        block.schema, stop - start, {path: block.arrays[path][slice(*bounds[specs[path].axis])] for path in specs}
    )


def check_same(one: Block, other: Block) -> None:
    """Equal to the bit, NaN included."""
    assert (one.rows, set(one.arrays)) == (other.rows, set(other.arrays))
    for path, values in one.arrays.items():
        found = other.arrays[path]
        assert (found.dtype, found.shape) == (values.dtype, values.shape), path
        assert found.tobytes() == values.tobytes(), path


DTYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "int64", "float16", "float32")
SHAPES = ((), (1,), (3,), (2, 3))


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    """Any fields, in any order, with names that could be mistaken for something else."""
    dtypes, counter = st.sampled_from(DTYPES), itertools.count()

    def name() -> str:
        return f"{draw(st.sampled_from(['a', 'x/y', 'json', 'p.q/npy', 'größe', 'teacher', 'Npz']))}{next(counter)}"

    tokens = RaggedTokens(name="tokens", dtype=draw(dtypes))
    kept = st.lists(st.tuples(dtypes, st.sampled_from(SHAPES), st.sampled_from([None, 5])), min_size=1, max_size=4)
    signal = TeacherSignal(
        name="signal",
        along=draw(st.sampled_from(["tokens", "row"])),
        arrays=tuple(
            SignalArray(name=f"é{index}" if index == 2 else f"v{index}", dtype=dtype, shape=shape, most=most)
            for index, (dtype, shape, most) in enumerate(draw(kept))
        ),
    )
    kinds: list[Callable[[], Any]] = [
        lambda: Scalar(name=name(), dtype=draw(dtypes)),
        lambda: Scalar(name=name(), dtype=draw(dtypes), along="tokens"),
        lambda: Vector(name=name(), dtype=draw(dtypes), width=draw(st.integers(1, 4))),
        lambda: MultiHot(name=name(), width=3),
        lambda: RaggedTokens(name=name(), dtype=draw(dtypes)),
        lambda: RaggedText(name=name()),
        lambda: Tree(name=name(), dtype=draw(dtypes)),
    ]
    if any(array.most for array in signal.arrays):
        kinds.append(lambda: Scalar(name=name(), dtype=draw(dtypes), along="signal/kept"))
    others = [draw(st.sampled_from(kinds))() for _ in range(draw(st.integers(0, 5)))]
    return Schema(fields=tuple(draw(st.permutations([tokens, signal, *others]))))


def random_block(schema: Schema, rows: int, seed: int) -> Block:
    """Random bits in every array, and many rows and entries without any value."""
    rng, specs, extents = np.random.default_rng(seed), schema.specs(), {ROW_AXIS: rows}
    arrays = {}
    for axis in sorted(schema.axes()[1:], key=lambda axis: schema.parent(axis) != ROW_AXIS):
        lengths = specs[f"{axis}/lengths"]
        some = rng.integers(0, 5, extents[lengths.axis]) * rng.integers(0, 2, extents[lengths.axis])
        arrays[lengths.path], extents[axis] = some.astype(lengths.dtype), int(some.sum())
    for path, spec in specs.items():
        if path not in arrays:
            shape = (extents[spec.axis], *spec.shape)
            size = int(np.prod(shape)) * np.dtype(spec.dtype).itemsize
            arrays[path] = np.frombuffer(rng.bytes(size), spec.dtype).reshape(shape)
    return Block(schema, rows, {path: arrays[path] for path in specs})


@given(
    schema=schemas(), rows=st.integers(1, 20), part_blocks=st.integers(1, 3), block_rows=st.integers(1, 7),
    seed=st.integers(0, 1 << 32), data=st.data(),
)  # fmt: skip
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_both_containers_give_back_what_was_written(
    tmp_path: Path, schema: Schema, rows: int, part_blocks: int, block_rows: int, seed: int, data: st.DataObject
) -> None:
    block = random_block(schema, rows, seed)
    stores = []
    for container in ("zarr", "webdataset"):
        shutil.rmtree(tmp_path / container, ignore_errors=True)
        stores.append(write(tmp_path / container, block, container, part_blocks * block_rows, block_rows))
    names = [field.name for field in schema.fields]
    wanted = data.draw(st.lists(st.sampled_from(names), unique=True, min_size=1))
    for store in stores:
        check_same(block, concatenate(list(store.scan())))
        check_same(block, concatenate([store.part(ref.index).read(0, -(-ref.rows // block_rows))
                                       for ref in store.manifest.parts]))  # fmt: skip
    check_same(*(concatenate(list(store.scan(wanted))) for store in stores))


@given(dtype=st.sampled_from(DTYPES), shape=st.lists(st.integers(0, 11), max_size=4), seed=st.integers(0, 99))
def test_npy_has_the_bytes_that_numpy_writes(dtype: str, shape: list[int], seed: int) -> None:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    values = np.frombuffer(np.random.default_rng(seed).bytes(size), dtype).reshape(shape)
    expected = io.BytesIO()
    np.save(expected, values)
    assert _npy.npy(values) == expected.getvalue()
    assert _npy.npy_size(dtype, tuple(shape)) == len(expected.getvalue())


def test_equal_rows_give_equal_bytes(pristine: Path, tmp_path: Path) -> None:
    again = write_store(tmp_path / "again.kd", "topp", container="webdataset").root
    for path in sorted(pristine.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (again / path.relative_to(pristine)).read_bytes(), path
    with tarfile.open(pristine / ROWS) as archive:
        members = archive.getmembers()
        (trees, *_) = [archive.extractfile(member) for member in members if member.name.endswith("tree.npz")]
        assert trees
        entries = zipfile.ZipFile(io.BytesIO(trees.read())).infolist()
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode, m.type) for m in members} == {
        (0, 0, 0, "", "", 0o644, tarfile.REGTYPE)
    }
    assert [(e.filename, e.date_time, e.compress_type) for e in entries] == [
        (name, (1980, 1, 1, 0, 0, 0), zipfile.ZIP_DEFLATED) for name in ("values.npy", "parents.npy")
    ]


def test_keys_are_unique_over_all_parts_and_have_no_dots(pristine: Path) -> None:
    keys = []
    for path in sorted(pristine.glob("parts/*/rows.tar")):
        with tarfile.open(path) as archive:
            keys += [name.partition(".")[0] for name in archive.getnames() if name.endswith(".id.txt")]
    assert keys == [f"{row // 6:05d}-{row % 6:06d}" for row in range(11)]


def test_names_that_mean_something_to_decoders_come_through(tmp_path: Path) -> None:
    schema = Schema(
        fields=(
            RaggedText(name="id"),
            RaggedText(name="text/json"),
            RaggedTokens(name="labels", dtype="uint16"),
            RaggedTokens(name="pyd", dtype="int64"),
            Scalar(name="cls", dtype="float32"),
            Scalar(name="along/jpg", dtype="float16", along="labels"),
            Vector(name="a.gz/größe", dtype="int8", width=2),
            Tree(name="MixedCase", dtype="uint8"),
        )
    )
    block = random_block(schema, 7, 1)
    letters = {path: (values % 26 + 97).astype(np.uint8) for path, values in block.arrays.items()
               if path in ("id/values", "text/json/values")}  # fmt: skip
    letters["labels/values"] = block.arrays["labels/values"] % 300
    rows = "".join(chr(97 + i) for i in range(7)).encode()
    letters["id/values"], ones = np.frombuffer(rows, np.uint8), np.ones(7, np.uint32)
    block = dataclasses.replace(block, arrays={**block.arrays, **letters, "id/lengths": ones})
    tars = write(tmp_path / "w.kd", block, "webdataset", 4, 2)
    arrays = write(tmp_path / "z.kd", block, "zarr", 4, 2)
    assert foreign_reader_agrees(tars.root, arrays.root) == 7


@pytest.mark.parametrize("names", [("a/b", "a.b"), ("Text", "text"), ("__key__",), ("n" * 73,), ("ü" * 37,)])
def test_fields_that_stock_tools_could_not_tell_are_refused_at_the_start(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    schema = Schema(fields=tuple(Scalar(name=name, dtype="int8") for name in names))
    with pytest.raises(CapabilityError, match=r"Expected .* webdataset parts\. Got .*--container zarr\.$"):
        begin(tmp_path / "w.kd", head(schema, 1, "webdataset", 1, 1))
    assert not (tmp_path / "w.kd").exists()
    begin(tmp_path / "z.kd", head(schema, 1, "zarr", 1, 1))


def test_the_longest_name_fits(tmp_path: Path) -> None:
    schema = Schema(fields=(Vector(name="n" * 72, dtype="int8", width=1),))
    block = random_block(schema, 3, 0)
    check_same(block, concatenate(list(write(tmp_path / "w.kd", block, "webdataset", 2, 1).scan())))


def test_every_flipped_bit_is_noticed_on_read(root: Path) -> None:
    path, rng = root / ROWS, np.random.default_rng(5)
    good = path.read_bytes()
    with tarfile.open(path) as archive:
        headers = [member.offset + 130 for member in archive.getmembers()]
    for position in [0, *headers[:20], len(good) - 1024, len(good) - 1, *rng.integers(0, len(good), 150).tolist()]:
        flipped = bytearray(good)
        flipped[position] ^= 1 << rng.integers(0, 8)
        path.write_bytes(flipped)
        with pytest.raises(CorruptStoreError, match=r"rows\.tar"):
            list(Store(root).scan(["weight"]))
    path.write_bytes(good)
    assert verify(root, advance=lambda rows: None).problems == []


def test_the_loader_gives_the_same_batches_from_both_containers(tmp_path: Path) -> None:
    stores = [
        Store(write_store(tmp_path / container, "lowrank", 40, 16, 4, container=container).root)
        for container in ("zarr", "webdataset")
    ]
    config = LoaderConfig(
        7, OrderConfig(0, group_blocks=2, shuffle=False), embeddings=("minilm",), residency="window"
    )
    loaders = [Loader(store, config) for store in stores]
    batches = list(zip(*loaders, strict=True))
    assert len(batches) == 6
    for one, other in batches:
        for name in ("input_ids_BS", "attention_mask_BS", "labels_BT", "labels_L"):
            assert torch.equal(getattr(one, name), getattr(other, name))
        for found, expected in ((one.signal, other.signal), (one.embeddings, other.embeddings)):
            assert set(found) == set(expected)
            assert all(torch.equal(found[key], expected[key]) for key in found)


def test_a_build_writes_the_container_that_it_is_asked_for(
    tmp_path: Path, rows: Path, teacher: Path, kdstore: Run
) -> None:
    import json

    common = (
        rows,
        "--teacher",
        teacher,
        "--codec",
        "topk",
        "--codec-set",
        "k=8",
        "--part-rows",
        64,
        "--block-rows",
        16,
    )
    for container in ("zarr", "webdataset"):
        built = kdstore("build", *common, "--out", tmp_path / container, "--container", container)
        assert built.exit_code == 0, built.stderr
    check_same(*(concatenate(list(Store(tmp_path / name).scan())) for name in ("zarr", "webdataset")))
    out = tmp_path / "webdataset"
    for options in ((), ("--quick",), ("--deep",)):
        assert kdstore("verify", out, *options).exit_code == 0
    shown = json.loads(kdstore("inspect", out, "--json").stdout)
    sizes = [column["stored_bytes"] for column in shown["columns"].values()]
    assert sum(filter(None, sizes)) == shown["bytes"] - 2 * len(_tar.END)
    assert shown["columns"]["labels/lengths"]["stored_bytes"] is None
    signal = sum(
        column["stored_bytes"] or 0 for path, column in shown["columns"].items() if path.startswith("teacher/")
    )
    assert shown["signal_bytes_per_token"] == pytest.approx(signal / shown["label_tokens"], abs=0.01)
    assert "teacher/ids" in kdstore("inspect", out).stdout
