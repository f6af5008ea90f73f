"""Mend a store: put damaged parts away, name what is lost with them, and make them again where that can be done."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path

from kdstore.console import progress
from kdstore.encode.pipeline import Pipeline
from kdstore.encode.reopen import reopen
from kdstore.errors import CapabilityError, CorruptStoreError, MismatchError, RowError, StoreError
from kdstore.schema import Example
from kdstore.sources import Rejected, open_source
from kdstore.store import atomic, layout
from kdstore.store.files import check_files
from kdstore.store.ids import ids_of_parts, write_ids
from kdstore.store.manifest import make_manifest, write_manifest
from kdstore.store.part_record import read_part_record
from kdstore.store.reader import Store
from kdstore.store.verify import check_part
from kdstore.store.writer import GROUPS, part_ref, segment_ids, shared_files, write_groups, write_part
from kdstore.tasks import TASKS


@dataclass(frozen=True)
class RepairOptions:
    """What `repair` is asked for; the options of ``kdstore repair``.

    Without ``rows`` damaged parts are only put away. ``teacher`` and ``embed``: see `reopen`.
    """

    store: Path
    rows: tuple[Path, ...] = ()
    teacher: str | None = None
    embed: tuple[str, ...] = ()
    device: str = "auto"
    dry_run: bool = False


@dataclass
class RepairReport:
    """What was found and done. ``lost``: ids of rows in parts that are damaged and were not made again, by part."""

    path: Path
    problems: list[str] = field(default_factory=list)
    put_away: list[str] = field(default_factory=list)
    rebuilt: list[int] = field(default_factory=list)
    lost: dict[int, list[str]] = field(default_factory=dict)


def repair(options: RepairOptions) -> RepairReport:
    """Check every part; put the damaged ones into ``.quarantine/``, and make them again from ``rows``.

    Group metadata and ids are written again from what the parts hold. The manifest says at every moment which parts
    are there: a repair that was interrupted is run again.

    Raises
    ------
    StoreError, CorruptStoreError
        Not a finished store; or its manifest, shared arrays or tokenizer are damaged, which only a copy can mend.
    MismatchError
        A row that is lost is not among ``rows``.
    CapabilityError
        The store was converted to another codec, and ``rows`` are given.
    KDError
        As for `reopen`.
    """
    root = options.store
    with atomic.locked(layout.lock_path(root), "building"):
        if layout.head_path(root).is_file():
            raise StoreError(f"Expected a finished store at {root}. Got an unfinished append. Run it again first.")
        store, report = Store(root), RepairReport(root)
        damaged = _damaged(store, report)
        lost = sorted({*damaged, *store.manifest.lost})
        report.lost = _name_lost(store, lost, report, options.dry_run)
        if options.dry_run:
            return report
        if options.rows and lost:
            _check_original(store)
        pipeline = reopen(store, options.teacher, options.embed, options.device) if options.rows and lost else None
        examples = _examples(store, options.rows, report.lost) if pipeline else {}
        if damaged:
            _commit(store, lost)
        report.put_away = [str(path) for index in lost if (path := _put_away(root, index))]
        if pipeline:
            _rebuild(store, pipeline, {index: [examples[one] for one in ids] for index, ids in report.lost.items()})
            report.rebuilt, report.lost = lost, {}
            _commit(store, [])
        atomic.remove(layout.staging_path(root))
    return report


def _check_original(store: Store) -> None:
    """Refuse to mix: a teacher gives other values than a signal that was encoded a second time."""
    if any("codec" in ancestor.changes for ancestor in store.head.ancestors):
        raise CapabilityError(
            f"Expected a store whose signal comes from its teacher. Got {store.root}, which was converted to another "
            "codec: parts made again would differ. Convert the original again, or repair without --rows."
        )


def _damaged(store: Store, report: RepairReport) -> list[int]:
    """The listed parts that are not what was written."""
    found = []
    with progress(f"{store.root.name}: checking", store.rows) as bar:
        for ref in store.manifest.parts:
            try:
                check_part(store, ref.index, set())
            except CorruptStoreError as error:
                report.problems.append(str(error))
                found.append(ref.index)
            bar.advance(ref.rows)
    return found


def _name_lost(store: Store, lost: Sequence[int], report: RepairReport, dry_run: bool) -> dict[int, list[str]]:
    """The ids of the rows of lost parts; the files beside the parts are checked, and mended where that can be."""
    root, files = store.root, store.manifest.shared_files
    for name, record in files.items():
        try:
            check_files(root, {name: record}, checksums=True)
        except CorruptStoreError as error:
            report.problems.append(str(error))
            segment = layout.segment_of(name)
            if name in GROUPS and not dry_run:
                write_groups(root)
            elif segment is not None and set(store.head.parts_of(segment)).isdisjoint(lost):
                if not dry_run:
                    write_ids(root, segment, segment_ids(root, store.head, segment, store.manifest.parts))
            elif name not in GROUPS:
                raise CorruptStoreError(
                    f"Expected {root / name} unchanged, or in a place from which it can be made again. {error} "
                    "Restore this file from a copy of the store, or build it again."
                ) from None
    return ids_of_parts(root, store.head, lost)


def _examples(store: Store, paths: Sequence[Path], lost: Mapping[int, Sequence[str]]) -> dict[str, Example]:
    """The examples with the ids that were lost, by id."""
    task, wanted = TASKS.get(store.head.task), set(chain.from_iterable(lost.values()))
    found: dict[str, Example] = {}
    for item in chain.from_iterable(map(open_source, paths)):
        if isinstance(item, Rejected):
            continue
        with suppress(RowError):  # not usable at the build either
            example = task.example(item.record)
            if example.id in wanted:
                found.setdefault(example.id, example)
    missing = sorted(wanted - set(found))
    if missing:
        raise MismatchError(
            f"Expected all {len(wanted):,} lost rows in {', '.join(map(str, paths))}. Got {len(found):,}; the first "
            f"that is missing is {missing[0]!r}. Give the rows that the store was built from."
        )
    return found


def _put_away(root: Path, index: int) -> Path | None:
    """Move what lies in a part's place to where nothing reads it."""
    part, home = layout.part_path(root, index), root / layout.QUARANTINE
    if not part.exists() and not part.is_symlink():
        return None
    home.mkdir(exist_ok=True)
    target = next(path for n in count() if not (path := home / f"{part.name}-{n}").exists())
    part.rename(target)
    atomic.sync(home)
    atomic.sync(part.parent)
    return target


def _rebuild(store: Store, pipeline: Pipeline, parts: Mapping[int, Sequence[Example]]) -> None:
    with progress(f"{store.root.name}: encoding", sum(map(len, parts.values()))) as bar:
        for index, examples in parts.items():
            encoded, signal_kl = pipeline.encode(examples, bar)
            write_part(store.root, store.head, index, store.schema.pack(encoded), signal_kl)


def _commit(store: Store, lost: Sequence[int]) -> None:
    """Write a manifest without the parts that are lost, and with those that were made again."""
    root, head = store.root, store.head
    refs = {ref.index: ref for ref in store.manifest.parts if ref.index not in lost}
    for index in sorted(set(range(len(head.part_sizes()))) - set(lost)):
        record = read_part_record(layout.part_path(root, index))
        refs[index] = part_ref(root, record, head)
    write_manifest(root, make_manifest(head, [refs[index] for index in sorted(refs)], shared_files(root), lost))
