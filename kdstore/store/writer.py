"""Write parts whole or not at all, and commit them by one manifest.

A part is staged under ``.build/staging``, synced, and renamed to ``parts/NNNNN``. A renamed directory with a
valid ``part.json`` is complete but not yet visible; `finalize` lists all complete parts in ``manifest.json``.
A writer that dies leaves either nothing or a complete part, so that running it again continues.
"""

import os
from pathlib import Path

import zarr

from kdstore.errors import CorruptStoreError, MismatchError, StoreError
from kdstore.schema import ROW_AXIS, Block, Schema
from kdstore.store import atomic, layout
from kdstore.store.manifest import (
    MANIFEST,
    FileRecord,
    Head,
    Manifest,
    PartRecord,
    PartRef,
    check_files,
    file_record,
    make_manifest,
    read_bounded,
    read_manifest,
    sha256_file,
    write_manifest,
)
from kdstore.store.zarr_part import array_files, write_arrays
from kdstore.validation import parse


def check_target(root: Path) -> None:
    """Raise `StoreError` when ``root`` holds something that is neither a store nor an unfinished build."""
    if (root / MANIFEST).is_file() or layout.head_path(root).is_file():
        return
    if root.exists() and (not root.is_dir() or any(path.name != layout.BUILD for path in root.iterdir())):
        raise StoreError(f"Expected an empty or new directory at {root}. Got something else. Choose another --out.")


def pinned_head(root: Path) -> Head | None:
    """The settings of the store or of the unfinished build at ``root``; None where nothing was begun."""
    if (root / MANIFEST).is_file():
        return read_manifest(root).head
    path = layout.head_path(root)
    if path.is_file():
        return parse(Head, read_bounded(path), f"settings in {path}", CorruptStoreError)
    return None


def begin(root: Path, head: Head) -> bool:
    """Start a build at ``root``, or continue the one that is there; False when it is already finished.

    Raises
    ------
    StoreError
        ``root`` holds something that is neither a store nor an unfinished build.
    MismatchError
        The build that is there was started with other settings; both values are named.
    """
    finished, pinned = (root / MANIFEST).is_file(), pinned_head(root)
    if pinned is None:
        check_target(root)
        layout.head_path(root).parent.mkdir(parents=True, exist_ok=True)
        # Last: a directory with pinned settings is a build that can be continued.
        atomic.write_text(layout.head_path(root), head.to_json())
    else:
        check_same_head(pinned, head)
        atomic.remove(layout.staging_path(root))  # what killed writers of this build left behind
    return not finished


def check_same_head(pinned: Head, head: Head) -> None:
    """Raise `MismatchError` naming the first setting in which two heads differ."""
    before, now = (record.model_dump(mode="json", by_alias=True) for record in (pinned, head))
    # The schema follows from the codec and the encoders: name these, which were chosen, first.
    for key, value in sorted(before.items(), key=lambda item: item[0] == "schema"):
        if now[key] != value:
            raise MismatchError(
                f"Expected {key} = {_short(value, now[key])} as this build was started with. "
                f"Got {_short(now[key], value)}. Use the same settings, or another --out."
            )


def write_part(root: Path, index: int, block: Block, block_rows: int, signal_kl: float | None = None) -> PartRecord:
    """Write ``block`` as part ``index`` and rename it into place; ``signal_kl`` goes into its record.

    Raises
    ------
    StoreError
        A different part with this index is already there.
    """
    offsets = {axis: block_offsets(block, axis, block_rows) for axis in block.schema.axes()}
    with atomic.staging(layout.staging_path(root), f"{index:05d}") as staged:
        write_arrays(staged, block, offsets)
        files = {
            path.relative_to(staged).as_posix(): file_record(path)
            for path in sorted(staged.rglob("*"))
            if path.is_file()
        }
        record = PartRecord(index=index, rows=block.rows, block_offsets=offsets, files=files, signal_kl=signal_kl)
        _check_complete(staged, record, block.schema)
        (staged / layout.PART_JSON).write_text(record.to_json(), encoding="utf-8")
        atomic.sync_tree(staged)
        target = layout.part_path(root, index)
        if not atomic.commit_directory(staged, target) and read_part_record(target) != record:
            raise StoreError(
                f"Expected no part at {target}, or the same one. Got another writer's. "
                "Two builds write into one store; stop one of them."
            )
    return record


def read_part_record(part: Path) -> PartRecord:
    """The ``part.json`` of a part directory.

    Raises
    ------
    CorruptStoreError
        It is missing or not valid.
    """
    path = part / layout.PART_JSON
    if not path.is_file():
        raise CorruptStoreError(f"Expected {path}. Got nothing there. Remove {part} and build again.")
    return parse(PartRecord, read_bounded(path), f"part record {path}", CorruptStoreError)


def check_record(part: Path, record: PartRecord, head: Head) -> None:
    """Check that a part record can be true: its blocks follow from the head, its files from the schema.

    Raises
    ------
    CorruptStoreError
        It cannot.
    """
    schema, offsets = head.schema_, record.block_offsets
    rows = [*range(0, record.rows, head.block_rows), record.rows]
    ordered = all(starts == sorted(starts) and starts[0] == 0 for starts in offsets.values() if starts)
    if (
        record.rows > head.part_rows
        or set(offsets) != set(schema.axes())
        or offsets[ROW_AXIS] != rows
        or {len(starts) for starts in offsets.values()} != {len(rows)}
        or not ordered
    ):
        raise CorruptStoreError(
            f"Expected ascending block offsets from 0, every {head.block_rows} rows, for the axes {schema.axes()} in "
            f"{part / layout.PART_JSON}. Got others. Build the store again."
        )
    _check_complete(part, record, schema)


def _check_complete(part: Path, record: PartRecord, schema: Schema) -> None:
    """Check that the record lists every file that the schema implies: zarr would read a missing one as zeros."""
    specs = schema.specs().values()
    groups = {"/".join(spec.path.split("/")[:depth]) for spec in specs for depth in range(spec.path.count("/") + 1)}
    expected = {f"{group}/zarr.json".removeprefix("/") for group in groups}
    expected |= {path for spec in specs for path in array_files(spec, record.extent(spec.axis))}
    if set(record.files) != expected:
        odd = min(set(record.files) ^ expected)
        raise CorruptStoreError(
            f"Expected the files of the schema's arrays in {part}. Got a difference at {odd}. Build the part again."
        )


def complete_parts(root: Path, head: Head, *, checksums: bool) -> dict[int, PartRecord]:
    """The parts that are already in place, by index, after a check of every file's size, or ``checksums`` too.

    Raises
    ------
    CorruptStoreError
        A part is damaged; removing its directory lets the build make it anew.
    """
    records = {}
    for path in sorted((root / layout.PARTS).glob("[0-9]*")):
        record = read_part_record(path)
        check_record(path, record, head)
        check_files(path, record.files, checksums=checksums)
        records[record.index] = record
    return records


def finalize(root: Path, head: Head) -> Manifest:
    """List all complete parts in the manifest and remove what the build kept for itself.

    Raises
    ------
    StoreError
        A part is missing.
    """
    # Sizes only: this build wrote the parts, or read them when it adopted them.
    records = complete_parts(root, head, checksums=False)
    expected = -(-head.rows // head.part_rows)
    _ensure_groups(root)
    missing = sorted(set(range(expected)) - set(records))
    if missing:
        raise StoreError(
            f"Expected {expected} parts in {root}. Got {len(records)}; the first missing is {missing[0]}. "
            "Run the same `kdstore build` again: it continues."
        )
    parts = [_part_ref(root, record) for _, record in sorted(records.items())]
    shared = _shared_files(root)
    for path in shared:
        atomic.sync(root / path)
        atomic.sync((root / path).parent)
    manifest = make_manifest(head, parts, shared)
    write_manifest(root, manifest)
    atomic.remove(root / layout.BUILD)
    return manifest


def _ensure_groups(root: Path) -> None:
    """Make the store a Zarr group that holds the group of parts."""
    zarr.open_group(root, mode="a", zarr_format=3).require_group(layout.PARTS)


def _part_ref(root: Path, record: PartRecord) -> PartRef:
    return PartRef(
        index=record.index,
        rows=record.rows,
        label_tokens=record.extent("labels") if "labels" in record.block_offsets else 0,
        bytes=sum(file.bytes for file in record.files.values()),
        signal_bytes=record.bytes_under("teacher"),
        sha256=sha256_file(layout.part_path(root, record.index) / layout.PART_JSON),
    )


def _shared_files(root: Path) -> dict[str, FileRecord]:
    """Every file that is neither a part's nor the manifest: group metadata, tokenizer, shared arrays."""
    found = {}
    for directory, names, files in os.walk(root):
        here = Path(directory)
        if here == root and layout.BUILD in names:
            names.remove(layout.BUILD)
        if here.parent == root and here.name == layout.PARTS:
            names.clear()
        for name in files:
            path = here / name
            # Hidden files are the system's (.DS_Store, .nfs0001), not ours.
            if path != root / MANIFEST and not name.startswith("."):
                found[path.relative_to(root).as_posix()] = file_record(path)
    return dict(sorted(found.items()))


def block_offsets(block: Block, axis: str, block_rows: int) -> list[int]:
    """Where each block of ``block_rows`` rows starts along ``axis``, and where the last one ends."""
    bounds = [*range(0, block.rows, block_rows), block.rows]
    return [int(offset) for offset in block.offsets(axis)[bounds]]


def _short(value: object, other: object) -> str:
    """``value`` as text; of two mappings only what differs."""
    if isinstance(value, dict) and isinstance(other, dict):
        value = {key: item for key, item in value.items() if other.get(key) != item}
    text = repr(value)
    return text if len(text) <= 160 else f"{text[:157]}..."
