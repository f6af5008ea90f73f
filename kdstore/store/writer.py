"""Write parts whole or not at all, and commit them by one manifest.

A part is staged under ``.build/staging``, synced, and renamed to ``parts/NNNNN``. A renamed directory with a
valid ``part.json`` is complete but not yet visible; `finalize` lists all complete parts in ``manifest.json``.
A writer that dies leaves either nothing or a complete part, so that running it again continues. Any number of
writers may work on one store: each writes other parts; of two that write the same one, the second discards its own.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from kdstore.errors import CorruptStoreError, MismatchError, StoreError
from kdstore.schema import Block
from kdstore.store import atomic, layout
from kdstore.store.containers import CONTAINERS
from kdstore.store.files import FileRecord, file_record, read_bounded, sha256_file
from kdstore.store.ids import write_ids
from kdstore.store.manifest import (
    MANIFEST,
    Head,
    Manifest,
    PartRecord,
    PartRef,
    make_manifest,
    read_manifest,
    write_manifest,
)
from kdstore.store.part_record import check_complete, complete_parts, read_part_record
from kdstore.store.reader import Part
from kdstore.validation import parse

GROUPS = ("zarr.json", f"{layout.PARTS}/zarr.json")
"""Metadata of the Zarr groups that a store is: every store's are the same."""
_GROUP = json.dumps({"attributes": {}, "zarr_format": 3, "node_type": "group"}, indent=2)


def check_target(root: Path) -> None:
    """Raise `StoreError` when ``root`` holds something that is neither a store nor an unfinished build."""
    # Looked at before what may excuse it: another process may be starting the build just now.
    used = root.exists() and (not root.is_dir() or any(path.name != layout.BUILD for path in root.iterdir()))
    if used and not (root / MANIFEST).is_file() and not layout.head_path(root).is_file():
        raise StoreError(f"Expected an empty or new directory at {root}. Got something else. Choose another --out.")


def pinned_head(root: Path) -> Head | None:
    """The settings of the unfinished build or append at ``root``, or of the store; None where nothing was begun."""
    path = layout.head_path(root)
    try:
        return parse(Head, read_bounded(path), f"settings in {path}", CorruptStoreError)
    except (FileNotFoundError, NotADirectoryError):
        return committed_head(root)


def committed_head(root: Path) -> Head | None:
    """The settings of the store at ``root``; None where nothing is committed yet."""
    return read_manifest(root).head if (root / MANIFEST).is_file() else None


def begin(root: Path, head: Head) -> bool:
    """Start a build or an append at ``root``, or continue the one that is there; False when it is already finished.

    An append begins with the head of the store and one more segment. The store stays readable as it was.

    Raises
    ------
    StoreError
        ``root`` holds something that is neither a store nor an unfinished build.
    CapabilityError
        The container cannot keep rows of this schema.
    MismatchError
        The build that is there was started with other settings; both values are named.
    """
    # In this order: who finishes a store writes the manifest, then removes the settings.
    pinned, committed = pinned_head(root) if layout.head_path(root).is_file() else None, committed_head(root)
    # Settings that are those of the store were left by who was killed while finishing.
    begun = pinned not in (None, committed)
    if begun or (committed and not _extends(head, committed)):
        return join(root, head)
    check_target(root)
    CONTAINERS.get(head.container).check(head.schema_)
    _remove_unlisted(root, committed)
    layout.head_path(root).parent.mkdir(parents=True, exist_ok=True)
    # Last: a directory with pinned settings is a build that can be continued.
    atomic.write_text(layout.head_path(root), head.to_json())
    return True


def join(root: Path, head: Head) -> bool:
    """Take part in what another process has begun at ``root``; False when it is already finished.

    Raises
    ------
    StoreError
        Nothing was begun there.
    MismatchError
        It was begun with other settings; both values are named.
    """
    pinned = pinned_head(root)
    if pinned is None:
        raise StoreError(f"Expected a build that was begun at {root}. Got none. Run process 0 of it first.")
    check_same_head(pinned, head)
    atomic.remove_abandoned(layout.staging_path(root))
    return committed_head(root) != head


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


def prepare(root: Path) -> None:
    """Make the store a Zarr group, and say that parts can be written; what `begin` pinned is complete."""
    if not all((root / name).is_file() for name in GROUPS):
        write_groups(root)
    if (root / layout.TOKENIZER).is_dir():
        atomic.sync_tree(root / layout.TOKENIZER)
    for path in root.glob("*.jsonl"):
        atomic.sync(path)
    for path in (root, root.resolve().parent):
        atomic.sync(path)
    atomic.write_text(layout.prepared_path(root), "")


def write_groups(root: Path) -> None:
    """Make ``root`` a Zarr group that holds the group of parts."""
    for name in GROUPS:
        (root / name).parent.mkdir(exist_ok=True)
        atomic.write_text(root / name, _GROUP, layout.build_path(root))


def is_prepared(root: Path) -> bool:
    """Whether parts can be written, or all have been."""
    return layout.prepared_path(root).is_file() or (root / MANIFEST).is_file()


def is_finished(root: Path) -> bool:
    """Whether a store is there and nothing is being built or appended."""
    return (root / MANIFEST).is_file() and not layout.head_path(root).is_file()


def write_part(root: Path, head: Head, index: int, block: Block, signal_kl: float | None = None) -> PartRecord:
    """Write ``block`` as part ``index`` and rename it into place; ``signal_kl`` goes into its record.

    Raises
    ------
    StoreError
        A different part with this index is already there.
    """
    offsets = {axis: block_offsets(block, axis, head.block_rows) for axis in block.schema.axes()}
    try:
        with atomic.staging(layout.staging_path(root), f"{index:05d}") as staged:
            container = CONTAINERS.get(head.container)
            tar = container.write(staged, index, block, offsets)
            files = {
                path.relative_to(staged).as_posix(): file_record(path)
                for path in sorted(staged.rglob("*"))
                if path.is_file()
            }
            record = PartRecord(
                index=index,
                rows=block.rows,
                block_offsets=offsets,
                files=files,
                chunks=container.chunks(staged, block.schema, offsets),
                signal_kl=signal_kl,
                tar=tar,
            )
            check_complete(staged, record, head)
            (staged / layout.PART_JSON).write_text(record.to_json(), encoding="utf-8")
            atomic.sync_tree(staged)
            target = layout.part_path(root, index)
            if not atomic.commit_directory(staged, target) and read_part_record(target) != record:
                raise StoreError(
                    f"Expected no part at {target}, or the same one. Got another writer's. "
                    "Two builds write into one store; stop one of them."
                )
    except atomic.VANISHED:
        if not is_finished(root):
            raise
        # Another process has finished the store meanwhile, with this part, and removed what was staged.
        return read_part_record(layout.part_path(root, index))
    return record


def finalize(root: Path, head: Head) -> Manifest:
    """List all complete parts in the manifest and remove what the build kept for itself.

    Two writers may do this at once: both come to the same manifest.

    Raises
    ------
    StoreError
        A part is missing.
    """
    committed = read_manifest(root) if (root / MANIFEST).is_file() else None
    parts, lost = (list(committed.parts), committed.lost) if committed else ([], [])
    known, total = len(parts) + len(lost), len(head.part_sizes())
    # Sizes only: this build wrote the parts, or read them when it adopted them.
    records = complete_parts(root, head, range(known, total), checksums=False)
    missing = sorted(set(range(known, total)) - set(records))
    if missing:
        raise StoreError(
            f"Expected {total} parts in {root}. Got {total - len(missing)}; the first missing is {missing[0]}. "
            "Run the same command again: it continues."
        )
    parts += [part_ref(root, record, head) for _, record in sorted(records.items())]
    for segment in range(len(committed.head.segments) if committed else 0, len(head.segments)):
        write_ids(root, segment, segment_ids(root, head, segment, parts))
    manifest = make_manifest(head, parts, shared_files(root), lost)
    write_manifest(root, manifest)
    atomic.retire(layout.build_path(root))
    return manifest


def finish(roots: Sequence[Path]) -> bool:
    """Finalize the stores of one build if no part of any is missing; whether they are finished now.

    Needs no teacher: any process can do it, also several at once, and after the one that wrote the last part was
    killed.

    Raises
    ------
    CorruptStoreError
        A part is damaged.
    """
    unfinished = {root: pinned_head(root) for root in roots if not is_finished(root)}
    if any(head is None or missing_parts(root, head) for root, head in unfinished.items()):
        return False
    for root, head in unfinished.items():
        assert head is not None
        try:
            finalize(root, head)
        except atomic.VANISHED:
            # Another process has just done it, and removed what this one was writing.
            if not is_finished(root):
                raise
    for root in roots:
        _remove_traces(root)
    return True


def _remove_traces(root: Path) -> None:
    """Remove what a process that was late has staged in a finished store, and one that was killed has left there."""
    atomic.sweep(layout.build_path(root))
    atomic.remove_abandoned(layout.staging_path(root))
    for directory in (layout.staging_path(root), root / layout.BUILD):
        with suppress(OSError):  # not there; or somebody has begun to append
            directory.rmdir()


def missing_parts(root: Path, head: Head) -> list[int]:
    """The parts of the last segment that are not in place yet; nothing in them is read."""
    return [index for index in head.parts_of(len(head.segments) - 1) if not layout.part_path(root, index).is_dir()]


def _extends(head: Head, committed: Head) -> bool:
    return head.model_copy(update={"segments": head.segments[:-1]}) == committed


def _remove_unlisted(root: Path, committed: Head | None) -> None:
    """Remove complete parts of an append that was given up: nothing says what their settings were."""
    known = (
        {layout.part_path(root, index).name for index in range(len(committed.part_sizes()))} if committed else set()
    )
    for path in (root / layout.PARTS).glob("[0-9]*"):
        if path.name not in known:
            atomic.remove(path)


def part_ref(root: Path, record: PartRecord, head: Head) -> PartRef:
    """What the manifest says of a part that is in place."""
    return PartRef(
        index=record.index,
        rows=record.rows,
        label_tokens=record.extent("labels") if "labels" in record.block_offsets else 0,
        bytes=sum(file.bytes for file in record.files.values()),
        signal_bytes=CONTAINERS.get(head.container).stored_bytes(record, head.schema_).get("teacher", 0),
        sha256=sha256_file(layout.part_path(root, record.index) / layout.PART_JSON),
    )


def segment_ids(root: Path, head: Head, segment: int, parts: Sequence[PartRef]) -> Iterator[str]:
    """The ids of a segment's rows, read from its parts."""
    if "id" not in {field.name for field in head.schema_.fields}:
        return
    wanted = head.parts_of(segment)
    for ref in (ref for ref in parts if ref.index in wanted):
        part = Part(root, ref, head)
        block = part.read(0, part.blocks, ["id"])
        yield from (block.row(index)["id"] for index in range(block.rows))


def shared_files(root: Path) -> dict[str, FileRecord]:
    """Every file that is neither a part's nor the manifest: group metadata, tokenizer, shared arrays, ids."""
    found = {}
    for directory, names, files in os.walk(root):
        here = Path(directory)
        # Hidden files and directories are the system's (.DS_Store, .nfs0001) or the build's own.
        names[:] = [name for name in names if not name.startswith(".")]
        if here.parent == root and here.name == layout.PARTS:
            names.clear()
        for name in files:
            path = here / name
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
