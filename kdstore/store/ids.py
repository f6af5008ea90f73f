"""The ids of all rows in order, beside the parts: what is lost with a part can be named, and told from new rows.

``ids/NNNNN.jsonl.gz`` holds those of one segment, a JSON string a line.
"""

import gzip
import json
import zlib
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path

from kdstore.errors import CorruptStoreError
from kdstore.store import atomic, layout
from kdstore.store.manifest import Head

_LONGEST = 1 << 20  # bytes of one line


def write_ids(root: Path, segment: int, ids: Iterable[str]) -> None:
    """Write the ids of one segment, whole or not at all; equal ids give equal bytes."""
    path = layout.ids_path(root, segment)
    path.parent.mkdir(exist_ok=True)
    with (
        atomic.replacing(path, layout.build_path(root)) as temporary,
        temporary.open("wb") as raw,
        # No name and no time in the header: equal ids give equal bytes.
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=6, mtime=0) as file,
    ):
        for row_id in ids:
            file.write(json.dumps(row_id).encode() + b"\n")
    atomic.sync(path.parent.parent)


def read_ids(root: Path, segment: int, rows: int) -> Iterator[str]:
    """The ids of one segment of so many rows; its file must have been checked.

    Raises
    ------
    CorruptStoreError
        There are more or fewer, or something else.
    """
    path = layout.ids_path(root, segment)
    try:
        with gzip.open(path, "rb") as file:
            for _ in range(rows):
                line = file.readline(_LONGEST)
                row_id = json.loads(line)
                if not isinstance(row_id, str) or not line.endswith(b"\n"):
                    raise ValueError(f"{line[:40]!r}")
                row_id.encode()  # escapes can smuggle in half a surrogate pair
                yield row_id
            if file.read(1):
                raise ValueError(f"more than {rows:,} lines")
    except (ValueError, EOFError, OSError, zlib.error, RecursionError) as error:
        raise CorruptStoreError(f"Expected {rows:,} row ids in {path}. Got {error}.") from None


def ids_of_parts(root: Path, head: Head, wanted: Collection[int]) -> dict[int, list[str]]:
    """The ids of the rows of some parts, in order; see `read_ids`."""
    found: dict[int, list[str]] = {}
    for segment, rows in enumerate(one.rows for one in head.segments):
        parts = head.parts_of(segment)
        if set(parts).isdisjoint(wanted):
            continue
        ids = read_ids(root, segment, rows)
        for index in parts:
            of_part = list(islice(ids, head.part_rows))
            if index in wanted:
                found[index] = of_part
    return found
