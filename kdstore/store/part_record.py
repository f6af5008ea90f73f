"""``part.json`` of parts: read, and checked against the head and the files before anything acts on it."""

from collections.abc import Iterable
from pathlib import Path

from kdstore.errors import CorruptStoreError
from kdstore.schema import ROW_AXIS
from kdstore.store import layout
from kdstore.store.containers import CONTAINERS
from kdstore.store.files import check_files, check_no_links, read_bounded
from kdstore.store.manifest import Head, PartRecord
from kdstore.validation import parse


def read_part_record(part: Path) -> PartRecord:
    """The ``part.json`` of a part directory.

    Raises
    ------
    CorruptStoreError
        It is missing or not valid.
    """
    path = part / layout.PART_JSON
    check_no_links([part.parent, part])
    if not path.is_file() or path.is_symlink():
        raise CorruptStoreError(f"Expected {path}. Got nothing there. Mend the store with `kdstore repair`.")
    text = read_bounded(path)
    record = parse(PartRecord, text, f"part record {path}", CorruptStoreError)
    if not record.is_written_as(text):
        raise CorruptStoreError(
            f"Expected canonical JSON in {path}. Got another text. Mend the store with `kdstore repair`."
        )
    return record


def check_record(part: Path, record: PartRecord, head: Head) -> None:
    """Check that a part record can be true: its blocks follow from the head, its files from the schema.

    Raises
    ------
    CorruptStoreError
        It cannot.
    """
    schema, offsets = head.schema_, record.block_offsets
    if record.rows > head.part_rows:
        raise CorruptStoreError(
            f"Expected at most {head.part_rows:,} rows in {part / layout.PART_JSON}. Got {record.rows:,}."
        )
    rows = [*range(0, record.rows, head.block_rows), record.rows]
    ordered = all(starts == sorted(starts) and starts[0] == 0 for starts in offsets.values() if starts)
    if (
        set(offsets) != set(schema.axes())
        or offsets[ROW_AXIS] != rows
        or {len(starts) for starts in offsets.values()} != {len(rows)}
        or not ordered
    ):
        raise CorruptStoreError(
            f"Expected ascending block offsets from 0, every {head.block_rows} rows, for the axes {schema.axes()} in "
            f"{part / layout.PART_JSON}. Got others. Mend the store with `kdstore repair`."
        )
    check_complete(part, record, head)


def check_complete(part: Path, record: PartRecord, head: Head) -> None:
    """Check that the record lists every file that the schema implies: zarr would read a missing one as zeros.

    Raises
    ------
    CorruptStoreError
        It does not.
    """
    expected = CONTAINERS.get(head.container).files(head.schema_, record)
    if set(record.files) != expected:
        odd = min(set(record.files) ^ expected)
        raise CorruptStoreError(
            f"Expected the files of the schema's arrays in {part}. Got a difference at {odd}. "
            "Mend the store with `kdstore repair`."
        )


def complete_parts(root: Path, head: Head, indices: Iterable[int], *, checksums: bool) -> dict[int, PartRecord]:
    """Those of the parts ``indices`` that are in place, after a check of every file's size, or ``checksums`` too.

    Raises
    ------
    CorruptStoreError
        A part is damaged; removing its directory lets the build make it anew.
    """
    records, sizes = {}, head.part_sizes()
    for index in indices:
        path = layout.part_path(root, index)
        if not path.is_dir():
            continue
        record = read_part_record(path)
        check_record(path, record, head)
        if (record.index, record.rows) != (index, sizes[index]):
            raise CorruptStoreError(
                f"Expected part {index} with {sizes[index]:,} rows in {path}. Got part {record.index} with "
                f"{record.rows:,}. Remove the directory and run the same command again."
            )
        check_files(path, record.files, checksums=checksums)
        records[index] = record
    return records
