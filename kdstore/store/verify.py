"""Check a whole store: files, checksums, every chunk, and that the values make sense together."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kdstore.errors import CorruptStoreError
from kdstore.schema import Array, Block, RaggedText
from kdstore.store import layout
from kdstore.store.manifest import check_files
from kdstore.store.reader import Store


@dataclass
class VerifyReport:
    """What was checked and what was found; ``problems`` is empty for a good store.

    ``not_checked``: what `kdstore.encode.alignment` was asked for and cannot know, and why.
    """

    path: Path
    parts: int = 0
    rows: int = 0
    files: int = 0
    bytes: int = 0
    problems: list[str] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)


def verify(root: Path, *, quick: bool, advance: Callable[[int], None]) -> VerifyReport:
    """Check every part and go on after a bad one; ``advance`` is told the rows of each part.

    ``quick`` checks that all files have their recorded sizes and checksums. Otherwise every chunk is decoded too,
    those of shared arrays as well, and every row's values are checked: ids within the vocabulary, text in UTF-8,
    unique row ids, finite numbers.

    Raises
    ------
    StoreError, CorruptStoreError
        Not a store, or its manifest is damaged, so that nothing else can be checked.
    """
    store = Store(root)
    report = VerifyReport(root)
    try:
        check_files(root, store.manifest.shared_files, checksums=True)
        if not quick:
            for name, values in store.shared_arrays().items():
                _check_numbers(values, f"the shared array {name} of {root}")
    except CorruptStoreError as error:
        report.problems.append(str(error))
    report.files += len(store.manifest.shared_files)
    seen: set[str] = set()
    for ref in store.manifest.parts:
        try:
            part = store.part(ref.index)
            check_files(part.path, part.record.files, checksums=True)
            report.files += len(part.record.files) + 1
            if not quick:
                for block in range(part.blocks):
                    _check_block(part.read(block, block + 1), f"{part.path}, block {block}", seen)
        except CorruptStoreError as error:
            report.problems.append(str(error))
        report.parts += 1
        report.rows += ref.rows
        report.bytes += ref.bytes
        advance(ref.rows)
    _check_strays(root, store, report)
    return report


def _check_block(block: Block, where: str, seen: set[str]) -> None:
    for path, values in block.arrays.items():
        _check_numbers(values, f"{path} of {where}")
    for column in block.schema.fields:
        if isinstance(column, RaggedText):
            _check_text(block, column.name, where)
    ids = [block.row(index)["id"] for index in range(block.rows)]
    if len(set(ids)) < len(ids) or not seen.isdisjoint(ids):
        raise CorruptStoreError(f"Expected every row id once. Got one twice in {where}.")
    seen.update(ids)


def _check_numbers(values: Array, where: str) -> None:
    # A log of mass may be -inf (nothing is left outside the candidates); NaN and +inf are never right.
    if values.dtype.kind == "f" and not (values < np.inf).all():
        raise CorruptStoreError(f"Expected numbers in {where}. Got NaN or infinity.")


def _check_text(block: Block, name: str, where: str) -> None:
    values, offsets = block.arrays[f"{name}/values"], block.offsets(name)
    for index in range(block.rows):
        try:
            values[offsets[index] : offsets[index + 1]].tobytes().decode()
        except UnicodeDecodeError as error:
            raise CorruptStoreError(f"Expected UTF-8 in {name} of {where}. Got {error}.") from None


def _check_strays(root: Path, store: Store, report: VerifyReport) -> None:
    """Parts that the manifest does not list are harmless, but somebody should know."""
    listed = {layout.part_path(root, ref.index).name for ref in store.manifest.parts}
    found = {path.name for path in (root / layout.PARTS).iterdir() if path.is_dir()}
    report.problems += [f"{root / layout.PARTS / name} is not in the manifest." for name in sorted(found - listed)]
