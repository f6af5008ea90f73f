"""Ways to read a store, and to make its checksums right again after it was tampered with, as an attacker would."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from kdstore.errors import CorruptStoreError, KDError
from kdstore.store.manifest import MANIFEST
from kdstore.store.reader import Store
from kdstore.store.verify import verify

Json = dict[str, Any]


def _verify(root: Path, quick: bool) -> None:
    report = verify(root, quick=quick, advance=lambda rows: None)
    for problem in report.problems:
        raise CorruptStoreError(problem)


def _rows(root: Path) -> None:
    for block in Store(root).scan():
        for index in range(block.rows):
            block.row(index)


def _fields(root: Path) -> None:
    """Every field alone; what is wrong with one must not hide what is wrong with another."""
    store = Store(root)
    for field in store.schema.fields:
        for _ in store.scan([field.name]):
            pass


def _blocks(root: Path) -> None:
    """Every block by a store that has read nothing else, the last one first."""
    for part, block in reversed(Store(root).blocks()):
        Store(root).part(part).read(block, block + 1)


def _beside(root: Path) -> None:
    """Shared arrays and the tokenizer."""
    store = Store(root)
    store.shared_arrays()
    assert store.tokenizer_path


READINGS: dict[str, Callable[[Path], None]] = {
    "verify": lambda root: _verify(root, quick=False),
    "verify --quick": lambda root: _verify(root, quick=True),
    "rows": _rows,
    "fields": _fields,
    "blocks": _blocks,
    "beside": _beside,
}
VERIFY = ("verify", "verify --quick")
ROWS = ("rows", "fields", "blocks")


def refusal(root: Path, reading: str) -> KDError | None:
    """The error with which one way of reading ends, if it does; any other exception is a crash and goes through."""
    try:
        READINGS[reading](root)
    except KDError as error:
        found = error
    else:
        return None
    assert len(str(found).splitlines()) == 1, str(found)
    assert len(str(found)) < 1000
    return found


def assert_refused(root: Path, *readings: str) -> None:
    """All of ``readings`` refuse the store; the others may, but do not crash."""
    found = {reading for reading in READINGS if refusal(root, reading)}
    assert set(readings) <= found, f"not refused by {sorted(set(readings) - found)}"


def manifest_of(root: Path) -> Json:
    result: Json = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
    return result


def canonical(record: Json) -> str:
    return json.dumps(record, indent=1, sort_keys=True) + "\n"


def seal_manifest(root: Path, manifest: Json) -> None:
    """Write a manifest whose checksum is right, whatever it says."""
    manifest["content_sha256"] = "0" * 64
    manifest["content_sha256"] = hashlib.sha256(canonical(manifest).encode()).hexdigest()
    (root / MANIFEST).write_text(canonical(manifest), encoding="utf-8")


def seal(
    root: Path, part: Callable[[Json], None] = lambda record: None, manifest: Callable[[Json], None] = lambda m: None
) -> None:
    """Make every checksum that a file of the store is under right again.

    ``part`` changes the first part's record, ``manifest`` the manifest, before they are sealed.
    """
    whole = manifest_of(root)
    for index, ref in enumerate(whole["parts"]):
        directory = root / "parts" / f"{index:05d}"
        record = json.loads((directory / "part.json").read_text(encoding="utf-8"))
        record["files"] = {name: _file(directory / name) for name in record["files"]}
        record["chunks"] = {
            name: _chunk_sums((directory / name).read_bytes(), sums) for name, sums in record["chunks"].items()
        }
        if index == 0:
            part(record)
        (directory / "part.json").write_text(canonical(record), encoding="utf-8")
        ref["sha256"] = _file(directory / "part.json")["sha256"]
    whole["shared_files"] = {name: _file(root / name) for name in whole["shared_files"]}
    manifest(whole)
    seal_manifest(root, whole)


def seal_part_json(root: Path) -> None:
    """Make the manifest's checksum of the first part's record right, whatever that record is."""
    whole = manifest_of(root)
    whole["parts"][0]["sha256"] = _file(root / "parts/00000/part.json")["sha256"]
    seal_manifest(root, whole)


def _file(path: Path) -> Json:
    data = path.read_bytes()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _chunk_sums(shard: bytes, sums: list[str]) -> list[str]:
    """The checksums of a shard's chunks and of its index; the old ones of a file that is none."""
    chunks = len(sums) - 1
    try:
        pieces = [*split_shard(shard, chunks), shard[-16 * chunks - 4 :]]
    except ValueError:
        return sums
    return [hashlib.sha256(piece).hexdigest()[:16] for piece in pieces]


def split_shard(shard: bytes, chunks: int) -> list[bytes]:
    """The chunks of a shard as they are stored."""
    index = np.frombuffer(shard[-16 * chunks - 4 : -4], "<u8").reshape(chunks, 2).tolist()
    return [shard[start : start + length] for start, length in index]


def chunks_of(root: Path, name: str) -> list[bytes]:
    """The chunks of an array of part 0 as they are stored."""
    record = json.loads((root / "parts/00000/part.json").read_text(encoding="utf-8"))
    return split_shard((root / "parts/00000" / name).read_bytes(), len(record["chunks"][name]) - 1)


def join_shard(chunks: list[bytes]) -> bytes:
    """A shard of these chunks, with a right index."""
    lengths = [len(chunk) for chunk in chunks]
    return b"".join([*chunks, shard_index(zip(accumulate(lengths[:-1], initial=0), lengths, strict=True))])


def shard_index(pairs: Iterable[Sequence[int]]) -> bytes:
    """The end of a shard, its checksum right, from offset and length of every chunk."""
    index = np.array(list(pairs), "<u8").tobytes()
    return index + google_crc32c.value(index).to_bytes(4, "little")


def replace_chunk(root: Path, name: str, chunk: bytes) -> None:
    """Put ``chunk`` in place of the first one of an array of part 0, and seal the store."""
    (root / "parts/00000" / name).write_bytes(join_shard([chunk, *chunks_of(root, name)[1:]]))
    seal(root)
