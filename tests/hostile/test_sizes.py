"""Numbers that lie: sizes, offsets, counts and shapes, with every checksum above them made right."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from .damage import ROWS, VERIFY, Json, assert_refused, chunks_of, manifest_of, seal, seal_manifest, shard_index

LABELS = "labels/values"
BIG = 1 << 62


def offsets(axis: str, values: list[int]) -> Callable[[Json], None]:
    return lambda record: record["block_offsets"].update({axis: values})


def size_of(name: str, size: int) -> Callable[[Json], None]:
    return lambda record: record["files"][name].update(bytes=size)


# Changes of part.json that every reading of rows must refuse.
RECORDS: dict[str, Callable[[Json], None]] = {
    "a negative offset": offsets("labels", [0, -1, 14]),
    "a first offset below zero": offsets("labels", [-7, 7, 14]),
    "offsets that go down": offsets("labels", [0, 14, 7]),
    "offsets that do not start at zero": offsets("labels", [1, 7, 14]),
    "a huge offset": offsets("labels", [0, 7, BIG]),
    "an offset beyond 64 bits": offsets("labels", [0, 7, 1 << 80]),
    "an offset that is a fraction": lambda r: r["block_offsets"].update(labels=[0, 7.5, 14]),
    "an offset that is a whole fraction": lambda r: r["block_offsets"].update(row=[0, 3.0, 6]),
    "no offsets": offsets("labels", []),
    "one offset more": lambda r: r["block_offsets"]["labels"].append(r["block_offsets"]["labels"][-1]),
    "an axis less": lambda r: r["block_offsets"].pop("labels"),
    "an axis more": offsets("other", [0, 1, 2]),
    "blocks of other rows": offsets("row", [0, 2, 6]),
    "more rows": lambda r: r.update(rows=7),
    "huge rows": lambda r: r.update(rows=BIG),
    "negative rows": lambda r: r.update(rows=-6),
    "another index": lambda r: r.update(index=1),
    "a file one byte longer": lambda r: size_of(f"{LABELS}/c/0", r["files"][f"{LABELS}/c/0"]["bytes"] + 1)(r),
    "a file of negative size": size_of(f"{LABELS}/c/0", -1),
    "a huge file": size_of(f"{LABELS}/c/0", BIG),
    "one checksum of a chunk less": lambda r: r["chunks"][f"{LABELS}/c/0"].pop(),
    "no checksums of chunks": lambda r: r.update(chunks={}),
    "another checksum of a chunk": lambda r: r["chunks"][f"{LABELS}/c/0"].reverse(),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_part_record_that_lies_is_refused(store: Path, name: str) -> None:
    seal(store, part=RECORDS[name])
    assert_refused(store, "verify", *ROWS)


# Changes of an array's zarr.json.
METADATA: dict[str, Callable[[Json], None]] = {
    "a longer shape": lambda m: m.update(shape=[m["shape"][0] + 1]),
    "a huge shape": lambda m: m.update(shape=[BIG]),
    "a negative shape": lambda m: m.update(shape=[-1]),
    "a fraction as shape": lambda m: m.update(shape=[float(m["shape"][0])]),
    "true as chunk": lambda m: chunking(m).update(chunk_shape=[True]),
    "a chunk of zero": lambda m: chunking(m).update(chunk_shape=[0]),
    "a negative chunk": lambda m: chunking(m).update(chunk_shape=[-1]),
    "a huge chunk": lambda m: chunking(m).update(chunk_shape=[BIG]),
    "a shard that is no multiple": lambda m: shard(m, 1),
    "a huge shard": lambda m: shard(m, BIG),
    "a wider number": lambda m: m.update(data_type="uint32"),
    "the other byte order": lambda m: chunking(m)["codecs"][0]["configuration"].update(endian="big"),
    "no checksum": lambda m: chunking(m)["codecs"][1]["configuration"].update(checksum=False),
    "no chunks": lambda m: m.update(codecs=[]),
    "other fill": lambda m: m.update(fill_value=1),
    "a group": lambda m: m.update(node_type="group"),
}


def chunking(metadata: Json) -> Json:
    result: Json = metadata["codecs"][0]["configuration"]
    return result


def shard(metadata: Json, size: int) -> None:
    metadata["chunk_grid"]["configuration"]["chunk_shape"] = [size]


@pytest.mark.parametrize("name", METADATA)
def test_array_metadata_that_lie_are_refused(store: Path, name: str) -> None:
    path = store / "parts/00000" / LABELS / "zarr.json"
    metadata = json.loads(path.read_text(encoding="utf-8"))
    METADATA[name](metadata)
    path.write_text(json.dumps(metadata), encoding="utf-8")
    seal(store)
    assert_refused(store, "verify", *ROWS)


# Changes of the index of a shard of two chunks or more: pairs of offset and length.
INDEXES: dict[str, Callable[[list[list[int]]], None]] = {
    "an offset beyond the file": lambda pairs: pairs[0].__setitem__(0, BIG),
    "an offset of minus one": lambda pairs: pairs[0].__setitem__(0, (1 << 64) - 1),
    "a chunk that is said to be missing": lambda pairs: pairs.__setitem__(0, [(1 << 64) - 1] * 2),
    "a length beyond the file": lambda pairs: pairs[1].__setitem__(1, BIG),
    "a sum beyond 64 bits": lambda pairs: pairs.__setitem__(1, [(1 << 64) - 8, 16]),
    "chunks that overlap": lambda pairs: pairs.__setitem__(1, pairs[0]),
    "chunks that changed places": lambda pairs: pairs.reverse(),
    "an empty chunk": lambda pairs: pairs[1].__setitem__(1, 0),
}


@pytest.mark.parametrize("name", INDEXES)
def test_a_shard_index_that_lies_is_refused(store: Path, name: str) -> None:
    path = store / "parts/00000" / LABELS / "c/0"
    chunks, start, pairs = chunks_of(store, f"{LABELS}/c/0"), 0, []
    for chunk in chunks:
        pairs.append([start, len(chunk)])
        start += len(chunk)
    INDEXES[name](pairs)
    path.write_bytes(b"".join([*chunks, shard_index(pairs)]))
    seal(store)
    assert_refused(store, "verify", *ROWS)


# Changes of the manifest.
MANIFESTS: dict[str, Callable[[Json], None]] = {
    "more rows in a segment": lambda m: m["head"]["segments"][0].update(rows=12),
    "huge rows in a segment": lambda m: m["head"]["segments"][0].update(rows=BIG),
    "negative rows in a segment": lambda m: m["head"]["segments"][0].update(rows=-11),
    "no segment": lambda m: m["head"].update(segments=[]),
    "smaller parts": lambda m: m["head"].update(part_rows=5),
    "parts of no rows": lambda m: m["head"].update(part_rows=0),
    "huge parts": lambda m: m["head"].update(part_rows=BIG),
    "smaller blocks": lambda m: m["head"].update(block_rows=2),
    "huge blocks": lambda m: m["head"].update(block_rows=BIG),
    "a part less": lambda m: m["parts"].pop(),
    "a part twice": lambda m: m["parts"].append(m["parts"][-1]),
    "a part of other rows": lambda m: m["parts"][0].update(rows=5),
    "a part of a negative index": lambda m: m["parts"][0].update(index=-1),
    "parts in another order": lambda m: m["parts"].reverse(),
    "a smaller vocabulary": lambda m: m["head"].update(vocab_size=1),
    "a huge vocabulary": lambda m: m["head"].update(vocab_size=BIG),
    "a huge vector": lambda m: next(f for f in m["head"]["schema"]["fields"] if "width" in f).update(width=BIG),
    "another version": lambda m: m["head"].update(format_version=2),
    "an unknown key": lambda m: m.update(other=1),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_lies_is_refused(store: Path, name: str) -> None:
    manifest = manifest_of(store)
    MANIFESTS[name](manifest)
    seal_manifest(store, manifest)
    assert_refused(store, "verify", *ROWS)


def test_a_shared_file_of_another_size_is_refused(store: Path) -> None:
    seal(store, manifest=lambda m: m["shared_files"]["shared/mean/c/0"].update(bytes=BIG))
    assert_refused(store, *VERIFY, "beside")


@pytest.mark.parametrize("shape", [[1 << 24, 1 << 24], [1 << 24, 1 << 8], [49], [-1], []])
def test_a_shared_array_of_another_shape_is_refused(store: Path, shape: list[int]) -> None:
    seal(store, manifest=lambda m: m["head"]["codec"]["shared"]["mean"].update(shape=shape))
    assert_refused(store, "verify", "beside")
