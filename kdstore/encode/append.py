"""Append rows to a store: new parts with its own settings; it stays readable as it was until they are all there."""

import hashlib
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from kdstore.console import note
from kdstore.encode.build import Built, peak_rss_bytes, shuffled
from kdstore.encode.parts import segment, write_parts
from kdstore.encode.reopen import reopen
from kdstore.encode.scan import Rows, Sides, scan
from kdstore.encode.worklist import Job, Share
from kdstore.errors import MismatchError
from kdstore.store import atomic, layout
from kdstore.store.files import check_files
from kdstore.store.ids import read_ids
from kdstore.store.manifest import Head, Manifest, read_manifest
from kdstore.store.reader import Store
from kdstore.store.writer import begin, finalize, finish, pinned_head, prepare
from kdstore.tasks import TASKS


@dataclass(frozen=True)
class AppendOptions:
    """What `append` is asked for; the options of ``kdstore append``.

    ``teacher`` and ``embed``: see `reopen`. Rows of the stores ``held_out`` are left out too.
    """

    store: Path
    rows: tuple[Path, ...]
    teacher: str | None = None
    embed: tuple[str, ...] = ()
    held_out: tuple[Path, ...] = ()
    device: str = "auto"
    limit: int | None = None
    strict: bool = False
    max_bad: float = 0.1


def append(options: AppendOptions) -> Built:
    """Append rows whose ids the store does not have, if any; continue where an interrupted append stopped.

    Raises
    ------
    KDError
        As for a build, and for `reopen`.
    """
    start = time.monotonic()
    root = options.store
    read_manifest(root)  # what is no store is refused before a lock is laid there
    with atomic.full_disk_named(root), atomic.locked(layout.lock_path(root), "building"):
        atomic.sweep(layout.build_path(root))
        if not (layout.head_path(root).is_file() and finish([root])):
            return Built(root, _append(options), time.monotonic() - start, peak_rss_bytes())
    # An interrupted append lacked no part; what it was not asked for is appended now.
    return append(options)


def _append(options: AppendOptions) -> Manifest:
    root, store = options.store, Store(options.store)
    pipeline = reopen(store, options.teacher, options.embed, options.device)
    task = TASKS.get(store.head.task)
    number = len(store.head.segments)
    spool = scan(
        layout.spool_path(root),
        options.rows,
        (),
        Rows(task.example, {"task": task.name, "appended to": store.manifest.fingerprint}),
        pipeline.tokenizer,
        store.head.limits,
        strict=options.strict,
        limit=options.limit,
        max_bad=options.max_bad,
        known=_known([store, *map(Store, options.held_out)]),
    )
    if not len(spool.index):
        note("nothing new: all rows are there already.")
        atomic.remove(layout.spool_path(root))
        return store.manifest
    if store.head.split.startswith("train") and not options.held_out:
        note(
            f"{root} is one side of a split, and rows held out for the other are new to it. If they are among these "
            "rows, leave them out: --held-out STORE."
        )
    rows = np.arange(len(spool.index))
    sides = Sides(rows, rows[:0], 0, 0)
    # Another seed than the build's: equal counts of rows would be written in the same order.
    order = shuffled(rows, store.head.seed + number)
    added = segment(spool, sides, len(rows))
    head = store.head.model_copy(update={"segments": (*store.head.segments, added)})
    note(f"{len(rows):,} new rows; {spool.counts['duplicates']:,} were there already or came twice.")
    _check_begun(root, head)
    begin(root, head)
    shutil.copyfile(spool.quarantine, root / f"quarantine-{number:05d}.jsonl")
    prepare(root)
    write_parts([Job(root, head, order)], pipeline, spool, Share())
    return finalize(root, head)


def _check_begun(root: Path, head: Head) -> None:
    """Refuse to go on with an append of other rows."""
    if layout.head_path(root).is_file() and pinned_head(root) != head:
        raise MismatchError(
            f"Expected the rows of the append to {root} that is not finished. Got others. Run that one again first, "
            f"or give it up: remove {layout.build_path(root)}."
        )


def _known(stores: Sequence[Store]) -> Callable[[str], bool]:
    """Whether any of these stores has a row of this id."""
    known = [_Known(store) for store in stores]
    return lambda row_id: any(row_id in one for one in known)


class _Known:
    """The ids of a store's rows, as sorted hashes: 8 bytes a row."""

    def __init__(self, store: Store) -> None:
        files = store.manifest.shared_files
        check_files(store.root, {n: f for n, f in files.items() if layout.segment_of(n) is not None}, checksums=True)
        ids = chain.from_iterable(
            read_ids(store.root, number, one.rows) for number, one in enumerate(store.head.segments)
        )
        self._hashes = np.sort(np.fromiter(map(_hash, ids), np.uint64, store.head.rows))

    def __contains__(self, row_id: str) -> bool:
        value = np.uint64(_hash(row_id))
        at = int(np.searchsorted(self._hashes, value))
        return at < len(self._hashes) and bool(self._hashes[at] == value)


def _hash(row_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(row_id.encode(), digest_size=8).digest(), "little")
