"""A store gives back what was written, and notices every change to its files."""

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdstore.errors import CorruptStoreError, StoreError, UsageError
from kdstore.schema import (
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
from kdstore.store import atomic
from kdstore.store.files import file_record
from kdstore.store.manifest import (
    CodecRecord,
    Head,
    Limits,
    Segment,
    SharedArray,
    TeacherRecord,
    TokenizerRecord,
    make_manifest,
    read_manifest,
    write_manifest,
)
from kdstore.store.reader import Store
from kdstore.store.shared import publish_shared, read_shared, shared_records, stage_shared
from kdstore.store.writer import begin, finalize, prepare, write_part
from kdstore.validation import parse

from ..small_store import write_store
from .conftest import Run

SCHEMA = Schema(
    fields=(
        RaggedText(name="id"),
        RaggedTokens(name="labels", dtype="uint16"),
        Scalar(name="weight", dtype="float32"),
        Scalar(name="label_logprob", dtype="float32", along="labels"),
        Vector(name="embeddings/e", dtype="float16", width=3),
        MultiHot(name="emotions", width=5),
        Tree(name="tree"),
        TeacherSignal(name="teacher", arrays=(SignalArray(name="ids", dtype="uint32", shape=(2,)),)),
    )
)


def head(rows: int, part_rows: int, block_rows: int) -> Head:
    return Head(
        task="t", template="{x}", schema=SCHEMA, vocab_size=70_000, codec=None, teacher=None,
        tokenizer=TokenizerRecord(sha256="0" * 64, vocab_size=70_000, pad_id=0, eos_id=1, decoder_start_id=0),
        encoders={}, limits=Limits(max_input_tokens=8, max_output_tokens=8, overlong="skip"),
        split="all", seed=0, part_rows=part_rows, block_rows=block_rows,
        segments=(Segment(source_sha256="0" * 64, rows=rows, scan={}, versions={}),),
    )  # fmt: skip


def make_row(index: int, rng: np.random.Generator) -> dict:
    tokens, nodes = rng.integers(0, 9), rng.integers(1, 5)
    return {
        "id": f"row-{index}-é",
        "labels": rng.integers(0, 60_000, tokens),
        "weight": float(rng.normal()),
        "label_logprob": rng.normal(size=tokens),
        "embeddings/e": rng.normal(size=3),
        "emotions": rng.integers(0, 2, 5),
        "tree": (rng.integers(0, 9, nodes), np.arange(nodes) - 1),
        "teacher": {"ids": rng.integers(0, 70_000, (tokens, 2))},
    }


def write(root: Path, rows: list[dict], part_rows: int, block_rows: int) -> Store:
    settled = head(len(rows), part_rows, block_rows)
    begin(root, settled)
    prepare(root)
    for index, start in enumerate(range(0, len(rows), part_rows)):
        write_part(root, settled, index, SCHEMA.pack(rows[start : start + part_rows]))
    finalize(root, settled)
    return Store(root)


@given(count=st.integers(0, 40), part_blocks=st.integers(1, 4), block_rows=st.integers(1, 9), seed=st.integers(0, 99))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_come_back(tmp_path: Path, count: int, part_blocks: int, block_rows: int, seed: int) -> None:
    root = tmp_path / "s.kd"
    shutil.rmtree(root, ignore_errors=True)
    rng = np.random.default_rng(seed)
    rows = [make_row(index, rng) for index in range(count)]
    store = write(root, rows, part_blocks * block_rows, block_rows)
    assert store.rows == count
    part_M, block_M, rows_M = store.block_index()
    assert list(zip(part_M.tolist(), block_M.tolist(), strict=True)) == store.blocks()
    assert rows_M.tolist() == [block.rows for block in store.scan()]
    found = [block.row(i) for block in store.scan() for i in range(block.rows)]
    assert [row["id"] for row in found] == [row["id"] for row in rows]
    for got, expected in zip(found, rows, strict=True):
        np.testing.assert_array_equal(got["labels"], expected["labels"])
        np.testing.assert_array_equal(got["teacher"]["ids"], expected["teacher"]["ids"])
        np.testing.assert_array_equal(got["tree"][1], expected["tree"][1])
        np.testing.assert_array_equal(got["emotions"], expected["emotions"])
        np.testing.assert_allclose(got["label_logprob"], expected["label_logprob"], rtol=1e-6)
        np.testing.assert_allclose(got["embeddings/e"], expected["embeddings/e"], rtol=2e-3)
        assert got["weight"] == pytest.approx(expected["weight"])
    if count:
        whole = concatenate(list(store.scan()))
        assert [whole.row(i)["id"] for i in range(count)] == [row["id"] for row in rows]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    rng = np.random.default_rng(3)
    return write(tmp_path / "s.kd", [make_row(index, rng) for index in range(30)], 16, 8)


def damage_missing(path: Path) -> None:
    path.unlink()


def damage_truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def damage_empty(path: Path) -> None:
    os.truncate(path, 0)


def damage_flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def damage_link(path: Path) -> None:
    moved = path.with_name("elsewhere")
    path.rename(moved)
    path.symlink_to(moved)


DAMAGES = [damage_missing, damage_truncated, damage_empty, damage_flip, damage_link]


@pytest.mark.parametrize("damage", DAMAGES)
def test_verify_finds_damage_to_any_file(store: Store, kdstore: Run, damage) -> None:
    files = sorted(path for path in store.root.rglob("*") if path.is_file() and path.stat().st_size)
    assert len(files) > 60
    for path in files:
        copy = store.root.with_name("damaged.kd")
        shutil.copytree(store.root, copy, symlinks=True)
        damage(copy / path.relative_to(store.root))
        result = kdstore("verify", "--quick", copy)
        assert result.exit_code in (5, 6), (path, result.output)
        assert "Traceback" not in result.output
        shutil.rmtree(copy)


@pytest.mark.parametrize("damage", DAMAGES)
def test_reading_finds_damage_to_values(store: Store, damage) -> None:
    """No verify needed: a reader that touches a damaged array refuses instead of giving zeros."""
    for path in sorted((store.root / "parts" / "00001").rglob("c/*")):
        if path.is_dir():
            continue
        copy = store.root.with_name("damaged.kd")
        shutil.copytree(store.root, copy)
        damage(copy / path.relative_to(store.root))
        with pytest.raises(CorruptStoreError):
            for _ in Store(copy).scan():
                pass
        shutil.rmtree(copy)


def test_parts_that_changed_places_are_noticed(store: Store, kdstore: Run) -> None:
    parts = store.root / "parts"
    (parts / "00000").rename(parts / "x")
    (parts / "00001").rename(parts / "00000")
    (parts / "x").rename(parts / "00001")
    assert kdstore("verify", store.root).exit_code == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["head"].update(format_version=2), "format version 1"),
        (lambda m: m["head"]["segments"][0].update(rows=31), "segments and part_rows"),
        (lambda m: m["head"].update(seed=1), "checksum"),
        (lambda m: m["head"].pop("task"), "task"),
        (lambda m: m["shared_files"].update({"../../etc/passwd": {"bytes": 1, "sha256": "0" * 64}}), "String should"),
        (lambda m: m["shared_files"].update({"/etc/passwd": {"bytes": 1, "sha256": "0" * 64}}), "String should"),
        (lambda m: m["parts"][0].update(rows=-1), "parts.0.rows"),
        (lambda m: m["parts"].pop(0), "as many parts"),
        (lambda m: m["head"]["schema"]["fields"][0].update(name="../x"), "String should"),
        (lambda m: m["head"]["schema"]["fields"][0].update(kind="pickle"), "kind"),
        (lambda m: m["head"]["schema"]["fields"][4].update(width=1 << 40), "width"),
    ],
)
def test_a_manifest_that_lies_is_refused_in_one_line(store: Store, kdstore: Run, change, message: str) -> None:
    path = store.root / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    result = kdstore("inspect", store.root)
    assert result.exit_code in (5, 6)
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", "[" * 100_000, "\xff", '{"head": 1}'])
def test_a_manifest_that_is_no_manifest_is_refused(store: Store, text: str) -> None:
    (store.root / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CorruptStoreError):
        Store(store.root)


def test_array_metadata_cannot_name_other_codecs_or_shapes(store: Store) -> None:
    """Even a store whose checksums were recomputed by an attacker gets no codec of its own choice loaded."""
    from kdstore.store.zarr_arrays import check_metadata

    spec = SCHEMA.specs()["labels/values"]
    path = store.root / "parts" / "00000" / "labels" / "values" / "zarr.json"
    good = json.loads(path.read_text())
    check_metadata(path, spec, good["shape"][0])
    for change in (
        {"codecs": [{"name": "numcodecs.pickle", "configuration": {}}]},
        {"shape": [1 << 50]},
        {"data_type": "string"},
        {"node_type": "group"},
        {"shape": None},
        {"codecs": 3},
    ):
        path.write_text(json.dumps(good | change))
        with pytest.raises(CorruptStoreError):
            check_metadata(path, spec, good["shape"][0])


def test_two_writers_of_one_part_cannot_both_win(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    a, b = ([make_row(index, rng) for index in range(4)] for _ in range(2))
    root = tmp_path / "s.kd"
    settled = head(4, 4, 4)
    begin(root, settled)
    prepare(root)
    write_part(root, settled, 0, SCHEMA.pack(a))
    write_part(root, settled, 0, SCHEMA.pack(a))  # the same rows: nothing to do
    with pytest.raises(StoreError, match="another writer"):
        write_part(root, settled, 0, SCHEMA.pack(b))
    finalize(root, settled)
    assert [row["id"] for block in Store(root).scan() for row in [block.row(0)]] == ["row-0-é"]


def test_a_store_with_a_missing_part_is_not_finished(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    root = tmp_path / "s.kd"
    settled = head(8, 4, 4)
    begin(root, settled)
    prepare(root)
    write_part(root, settled, 1, SCHEMA.pack([make_row(index, rng) for index in range(4)]))
    with pytest.raises(StoreError, match="first missing is 0"):
        finalize(root, settled)
    with pytest.raises(StoreError, match="has not finished"):
        Store(root)


@pytest.mark.parametrize(
    "fields",
    [
        (RaggedText(name="row"),),
        (RaggedText(name="id"), RaggedText(name="id")),
        (Scalar(name="weight", dtype="float32", along="labels"),),
    ],
)
def test_a_schema_that_cannot_be_stored_is_refused(fields: tuple) -> None:
    with pytest.raises(ValueError, match=r"field names must be unique|nothing gives the lengths"):
        Schema(fields=fields)


def test_a_hidden_file_of_the_system_does_not_stop_a_build(tmp_path: Path) -> None:
    root = tmp_path / "s.kd"
    begin(root, head(0, 4, 4))
    prepare(root)
    (root / ".DS_Store").touch()
    finalize(root, head(0, 4, 4))
    assert Store(root).rows == 0


def reseal(root: Path, index: int, change) -> None:
    """Change a part's record, then make every checksum above it right again, as an attacker would."""
    from kdstore.store import layout
    from kdstore.store.files import sha256_file
    from kdstore.store.part_record import read_part_record

    manifest = read_manifest(root)
    path = layout.part_path(root, index)
    record = json.loads(read_part_record(path).to_json())
    change(record, path)
    (path / "part.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    parts = [
        ref.model_copy(update={"sha256": sha256_file(path / "part.json")}) if ref.index == index else ref
        for ref in manifest.parts
    ]
    write_manifest(root, make_manifest(manifest.head, parts, manifest.shared_files))


def drop_shard(record: dict, path: Path) -> None:
    (path / "labels/values/c/0").unlink()
    del record["files"]["labels/values/c/0"]


@pytest.mark.parametrize(
    "change",
    [
        drop_shard,
        lambda record, path: record.update(files={}),
        lambda record, path: record.update(rows=15),
        lambda record, path: record.update(index=1),
        lambda record, path: record["block_offsets"].update(row=[0, 4, 16]),
        lambda record, path: record["block_offsets"].update(labels=[0, 1 << 40, 1 << 41]),
        lambda record, path: record["block_offsets"].update(labels=[5, 4, 3]),
        lambda record, path: record["block_offsets"].update(labels=[]),
        lambda record, path: record["block_offsets"].pop("labels"),
    ],
)
def test_a_record_that_lies_under_good_checksums_is_refused(store: Store, kdstore: Run, change) -> None:
    reseal(store.root, 0, change)
    result = kdstore("verify", store.root)
    assert result.exit_code == 6, result.output
    assert "Traceback" not in result.output
    with pytest.raises(CorruptStoreError):
        list(Store(store.root).scan())


@pytest.mark.parametrize("shift", [1, -1])
def test_lengths_of_a_nested_axis_that_lie_under_good_checksums_are_refused(
    tmp_path: Path, kdstore: Run, shift: int
) -> None:
    root = tmp_path / "s.kd"
    signal = TeacherSignal(name="teacher", arrays=(SignalArray(name="bits", dtype="uint8", most=9),))
    schema = Schema(fields=(RaggedText(name="id"), RaggedTokens(name="labels", dtype="uint16"), signal))
    settled = head(4, 4, 4).model_copy(update={"schema_": schema})
    teacher = {"bits": np.zeros(6, np.uint8), "kept/lengths": np.array([1, 2, 3])}
    block = schema.pack([{"id": str(index), "labels": [5, 6, 7], "teacher": teacher} for index in range(4)])
    begin(root, settled)
    prepare(root)
    write_part(root, settled, 0, block)
    finalize(root, settled)
    list(Store(root).scan())
    # The same number of label tokens as before, but the lengths of the rows say otherwise.
    other = tmp_path / "other"
    lengths = block.arrays["labels/lengths"] + np.array([0, 0, 0, shift], np.int64)
    block.arrays["labels/lengths"] = lengths.astype(np.uint32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kdstore.store.writer.block_offsets", lambda block, axis, rows: offsets[axis])
        offsets = json.loads((root / "parts" / "00000" / "part.json").read_text())["block_offsets"]
        begin(other, settled)
        prepare(other)
        write_part(other, settled, 0, block)
        finalize(other, settled)
    with pytest.raises(CorruptStoreError, match="lengths along 'labels'"):
        list(Store(other).scan())
    with pytest.raises(CorruptStoreError, match="lengths along 'labels'"):
        list(Store(other).scan(["teacher"]))
    assert kdstore("verify", other).exit_code == 6


def test_verify_reads_shared_arrays(tmp_path: Path, kdstore: Run) -> None:
    root = write_store(tmp_path / "s.kd", "lowrank").root
    assert kdstore("verify", root).exit_code == 0
    record = Store(root).head.codec
    assert record is not None
    name = next(name for name, array in record.shared.items() if array.dtype.startswith("float"))
    shared = read_shared(root, record.shared)
    shared[name].flat[0] = np.nan
    shutil.rmtree(root / "shared")
    stage_shared(root, shared)
    publish_shared(root)
    seal(root, record.shared)
    result = kdstore("verify", root)
    assert result.exit_code == 6
    assert "checksum" in result.stderr
    seal(root, shared_records(shared))
    result = kdstore("verify", root)
    assert result.exit_code == 6
    assert f"Expected numbers in the shared array {name}" in " ".join(result.stderr.split())
    assert kdstore("verify", "--quick", root).exit_code == 0


def seal(root: Path, shared: dict[str, SharedArray]) -> None:
    """Make the manifest say that these are the shared arrays, and that their files are as they are."""
    manifest = read_manifest(root)
    assert manifest.head.codec is not None
    codec = manifest.head.codec.model_copy(update={"shared": shared})
    files = {name: file_record(root / name) for name in manifest.shared_files}
    write_manifest(root, make_manifest(manifest.head.model_copy(update={"codec": codec}), manifest.parts, files))


def test_a_wrong_value_is_named_in_brief_however_large_it_becomes() -> None:
    value: list[object] = ["lol"] * 10
    for _ in range(12):
        value = [value] * 10
    for wrong in (value, {"a": value}, "x" * 100_000, 1 << 100_000):
        with pytest.raises(UsageError, match="Got ") as caught:
            parse(Limits, {"max_input_tokens": wrong, "max_output_tokens": 1, "overlong": "skip"}, "limits")
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize("change", [{"dtype": "fp8"}, {"batch_size": 0}, {"batch_size": 1 << 21}, {"threads": 0}])
def test_a_teacher_that_cannot_be_is_refused(change: dict[str, object]) -> None:
    good = {"name": "t", "revision": None, "weights_sha256": "0" * 64, "dtype": "bf16", "device": "cpu"}
    good |= {"batch_size": 8, "threads": 2}
    TeacherRecord.model_validate(good)
    with pytest.raises(ValueError, match=next(iter(change))):
        TeacherRecord.model_validate(good | change)


def test_what_stops_a_writer_is_not_hidden_by_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that still write make the removal of their directory fail."""

    def busy(path: Path, *, dir_fd: int | None = None) -> None:
        raise OSError(errno.ENOTEMPTY, "Directory not empty", str(path))

    monkeypatch.setattr("os.rmdir", busy)
    with pytest.raises(KeyboardInterrupt), atomic.staging(tmp_path, "s"):
        raise KeyboardInterrupt
    with pytest.raises(OSError, match="not empty"), atomic.staging(tmp_path, "s"):
        pass


def test_a_head_that_lies_under_good_checksums_is_refused(store: Store) -> None:
    manifest = store.manifest
    tokenizer = manifest.head.tokenizer
    for update in (
        {"segments": (manifest.head.segments[0].model_copy(update={"rows": 31}),)},
        {"part_rows": 15},
        {"tokenizer": tokenizer.model_copy(update={"pad_id": 1 << 20})},
        {"tokenizer": tokenizer.model_copy(update={"vocab_size": 100})},  # labels hold larger ids
        {"block_rows": 4},
        # A signal without all of the tokenizer's ids.
        {
            "codec": CodecRecord(name="topk", config={}),
            "tokenizer": tokenizer.model_copy(update={"vocab_size": 70_001}),
        },
    ):
        head = manifest.head.model_copy(update=update)
        sealed = json.loads(make_manifest(manifest.head, manifest.parts, manifest.shared_files).to_json())
        sealed["head"] = json.loads(head.to_json())
        sealed["content_sha256"] = "0" * 64
        text = json.dumps(sealed, indent=1, sort_keys=True) + "\n"
        sealed["content_sha256"] = hashlib.sha256(text.encode()).hexdigest()
        (store.root / "manifest.json").write_text(json.dumps(sealed, indent=1, sort_keys=True) + "\n")
        with pytest.raises(CorruptStoreError):
            list(Store(store.root).scan())
    write_manifest(store.root, manifest)
    list(Store(store.root).scan())


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["codecs"][0]["configuration"]["codecs"][0]["configuration"].update(endian="big"),
        lambda m: m["codecs"][0]["configuration"]["codecs"][1]["configuration"].update(checksum=False),
        lambda m: m["codecs"][0]["configuration"].update(chunk_shape=[1 << 60]),
        lambda m: m["codecs"][0]["configuration"].update(chunk_shape=[0]),
        lambda m: m.update(fill_value=7),
        lambda m: m.update(codecs=[]),
        lambda m: m.pop("chunk_grid"),
        lambda m: m.update(extra=1),
    ],
)
def test_array_metadata_is_the_one_document_we_write(store: Store, change) -> None:
    from kdstore.store.zarr_arrays import check_metadata

    path = store.root / "parts" / "00000" / "labels" / "values" / "zarr.json"
    metadata = json.loads(path.read_text())
    change(metadata)
    path.write_text(json.dumps(metadata))
    with pytest.raises(CorruptStoreError):
        check_metadata(path, SCHEMA.specs()["labels/values"], metadata["shape"][0])
