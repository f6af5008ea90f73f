"""Check a whole store: files, checksums, every chunk, and that the values make sense together."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path

import numpy as np

from kdstore.errors import CorruptStoreError
from kdstore.schema import Array, Block, RaggedText
from kdstore.store import layout
from kdstore.store.files import check_files
from kdstore.store.ids import read_ids
from kdstore.store.reader import Part, Store


@dataclass
class VerifyReport:
    """What was checked and what was found; ``problems`` is empty for a good store.

    ``lost``: parts that `kdstore.encode.repair` has put away, which nobody has made again yet.

    ``not_checked``: what `kdstore.encode.alignment` was asked for and cannot know, and why.
    """

    path: Path
    parts: int = 0
    rows: int = 0
    files: int = 0
    bytes: int = 0
    lost: list[int] = field(default_factory=list)
    lost_rows: int = 0
    problems: list[str] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)


def verify(
    root: Path, *, quick: bool = False, sample: float | None = None, advance: Callable[[int], None]
) -> VerifyReport:
    """Check every part and go on after a bad one; ``advance`` is told the rows of each part.

    All files must have their recorded sizes and checksums; every chunk is decoded, those of shared arrays as well,
    and every row's values are checked: ids within the vocabulary, text in UTF-8, unique row ids, finite numbers.
    ``quick`` decodes nothing. With ``sample`` only so large a share of the blocks is read, drawn anew each time, and
    of the other files nothing but the sizes.

    Raises
    ------
    StoreError, CorruptStoreError
        Not a store, or its manifest is damaged, so that nothing else can be checked.
    """
    store = Store(root)
    report = VerifyReport(root, lost=list(store.manifest.lost), lost_rows=store.manifest.lost_rows)
    try:
        check_files(root, store.manifest.shared_files, checksums=True)
        if not quick:
            for name, values in store.shared_arrays().items():
                _check_numbers(values, f"the shared array {name} of {root}")
    except CorruptStoreError as error:
        report.problems.append(str(error))
    report.files += len(store.manifest.shared_files)
    seen: set[str] = set()
    drawn = None if sample is None else _draw(store, sample)
    for ref in store.manifest.parts:
        try:
            part = store.part(ref.index)
            files = part.record.files
            if quick:
                check_files(part.path, files, checksums=True)
            elif drawn is None:
                check_part(store, ref.index, seen)
            elif ref.index in drawn:
                _check_blocks(part, drawn[ref.index], seen)
            report.files += len(files) + 1
        except CorruptStoreError as error:
            report.problems.append(str(error))
        report.parts += 1
        report.rows += ref.rows
        report.bytes += ref.bytes
        advance(ref.rows)
    if not (quick or sample or report.problems):
        try:
            _check_ids(store)
        except CorruptStoreError as error:
            report.problems.append(str(error))
    _check_strays(root, store, report)
    return report


def check_part(store: Store, index: int, seen: set[str]) -> None:
    """Check all of one part; ``seen`` collects row ids.

    Raises
    ------
    CorruptStoreError
        Something in it is not what was written, or makes no sense.
    """
    part = store.part(index)
    check_files(part.path, part.record.files, checksums=True)
    _check_blocks(part, range(part.blocks), seen)


def _draw(store: Store, share: float) -> dict[int, list[int]]:
    """A share of the blocks, at least one, by part."""
    blocks = store.blocks()
    drawn: dict[int, list[int]] = {}
    for part, block in sorted(
        random.SystemRandom().sample(blocks, min(len(blocks), max(1, round(share * len(blocks)))))
    ):
        drawn.setdefault(part, []).append(block)
    return drawn


def _check_blocks(part: Part, blocks: Iterable[int], seen: set[str]) -> None:
    for block in blocks:
        _check_block(part.read(block, block + 1), f"{part.path}, block {block}", seen)


def _check_block(block: Block, where: str, seen: set[str]) -> None:
    for path, values in block.arrays.items():
        _check_numbers(values, f"{path} of {where}")
    texts = {
        column.name: _texts(block, column.name, where)
        for column in block.schema.fields
        if isinstance(column, RaggedText)
    }
    ids = texts.get("id", [])
    if len(set(ids)) < len(ids) or not seen.isdisjoint(ids):
        raise CorruptStoreError(f"Expected every row id once. Got one twice in {where}.")
    seen.update(ids)


def _check_numbers(values: Array, where: str) -> None:
    # A log of mass may be -inf (nothing is left outside the candidates); NaN and +inf are never right.
    if values.dtype.kind == "f" and not (values < np.inf).all():
        raise CorruptStoreError(f"Expected numbers in {where}. Got NaN or infinity.")


def _texts(block: Block, name: str, where: str) -> list[str]:
    """A text column of a block; raises `CorruptStoreError` where it is not UTF-8."""
    text, offsets = block.arrays[f"{name}/values"].tobytes(), block.offsets(name)
    try:
        return [text[start:stop].decode() for start, stop in pairwise(offsets.tolist())]
    except UnicodeDecodeError as error:
        raise CorruptStoreError(f"Expected UTF-8 in {name} of {where}. Got {error}.") from None


def _check_ids(store: Store) -> None:
    """Check that the ids beside the parts are those in the parts."""
    if "id" not in {field.name for field in store.schema.fields}:
        return
    present = {ref.index for ref in store.manifest.parts}
    for segment, rows in enumerate(one.rows for one in store.head.segments):
        beside = read_ids(store.root, segment, rows)
        for index in store.head.parts_of(segment):
            expected = list(islice(beside, store.head.part_rows))
            if index not in present:
                continue
            part = store.part(index)
            if _texts(part.read(0, part.blocks, ["id"]), "id", str(part.path)) != expected:
                raise CorruptStoreError(
                    f"Expected the ids in {layout.ids_path(store.root, segment)} to be those of {part.path}. Got "
                    "others. Mend the store with `kdstore repair`."
                )
        next(beside, None)  # nothing is left, which only now is checked


def _check_strays(root: Path, store: Store, report: VerifyReport) -> None:
    """Parts that the manifest does not list are harmless, but somebody should know; an append's are on their way."""
    if layout.head_path(root).is_file():
        report.not_checked.append("an append has begun and is not finished; what it has written is not checked.")
        return
    listed = {layout.part_path(root, ref.index).name for ref in store.manifest.parts}
    found = {path.name for path in (root / layout.PARTS).glob("*") if path.is_dir()}
    report.problems += [f"{root / layout.PARTS / name} is not in the manifest." for name in sorted(found - listed)]
