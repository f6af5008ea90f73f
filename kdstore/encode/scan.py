"""The first pass over the sources: which rows can be used, on which side of the split, and why not the others."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from kdstore.console import progress
from kdstore.encode.spool import INDEX, QUARANTINE, Spool, SpoolWriter, open_spool
from kdstore.encode.tokenizer import Tokenizer, truncate_target
from kdstore.errors import EmptyInputError, MismatchError, RowError
from kdstore.schema import Example, Record
from kdstore.sources import Located, Rejected, Source, open_source
from kdstore.store import atomic
from kdstore.store.files import sha256_file
from kdstore.store.manifest import Limits

_BATCH = 512


@dataclass(frozen=True)
class Rows:
    """How files become examples: ``read`` finds their records, ``example`` understands one.

    ``key`` names the two and their settings: another key, another spool.
    """

    example: Callable[[Record], Example]
    key: dict[str, Any] = field(default_factory=dict)
    read: Source = open_source


@dataclass(frozen=True)
class Sides:
    """Row numbers of the spool on each side of the split, in the order of the sources."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    leaked: int
    """Validation rows dropped because a training row has the same prompt and target."""
    shared_groups: int
    """Groups (test files) that given validation rows share with training rows."""


def scan(
    directory: Path,
    train: tuple[Path, ...],
    validation: tuple[Path, ...],
    source: Rows,
    tokenizer: Tokenizer,
    limits: Limits,
    *,
    strict: bool,
    limit: int | None,
    max_bad: float,
    may_write: bool = True,
    known: Callable[[str], bool] = lambda row_id: False,
) -> Spool:
    """Read all rows once and spool the usable ones at ``directory``; reuse the spool of an interrupted build.

    Bad rows are written to ``quarantine.jsonl`` in the spool with their place and reason. Of rows with the same id
    only the first is used, and none whose id is ``known`` to have been used before.

    Raises
    ------
    RowError
        A bad row, when ``strict``; or a larger share of them than ``max_bad``.
    EmptyInputError
        No row can be used, unless all are known.
    MismatchError
        The spool is not there, or was made of other rows, and this process may not write it.
    """
    for path in (*train, *validation):
        source.read(path)  # a path that cannot be read is refused now, in the source's own words
    key = _key(train, validation, source, tokenizer, limits, limit)
    found = open_spool(directory, key)
    if found is not None:
        return found
    if not may_write:
        raise MismatchError(
            f"Expected the rows that process 0 of this build has read, in {directory}. Got other rows or settings, "
            "or none there. Give all processes the same arguments."
        )
    atomic.remove_abandoned(directory.parent)
    counts: Counter[str] = Counter({"read": 0, "kept": 0, "quarantined": 0, "duplicates": 0})
    with (
        atomic.staging(directory.parent, "spool") as staged,
        closing(SpoolWriter(staged, len(tokenizer.backend))) as writer,
    ):
        with (staged / QUARANTINE).open("w", encoding="utf-8") as quarantine:
            rows = (
                (example, held_out)
                for paths, held_out in ((train, False), (validation, True))
                for example in islice(_examples(paths, source, counts, quarantine, strict, known), limit)
            )
            _fill(writer, rows, tokenizer, limits, counts)
        _check_counts(counts, max_bad, staged / QUARANTINE)
        return writer.commit(directory, key, dict(counts))


def split(spool: Spool, fraction: float | None, seed: int, *, validate: bool) -> Sides:
    """Divide the rows of a spool into training and, when asked to ``validate``, validation.

    Rows of a validation source are validation rows. With ``fraction``, whole groups are moved to validation, in an
    order fixed by ``seed``, as long as they fit into this fraction of all rows. Validation rows whose prompt and
    target also occur in training are dropped.

    Raises
    ------
    EmptyInputError
        Nothing is left for training, or for validation when it was asked for.
    """
    index = spool.index
    held_out = index["validation"].copy()
    if fraction is not None:
        held_out = np.isin(index["group"], np.array(_choose_groups(index["group"], fraction, seed), np.uint64))
    leaked = held_out & np.isin(index["text"], index["text"][~held_out])
    shared = np.intersect1d(index["group"][held_out], index["group"][~held_out])
    sides = Sides(np.flatnonzero(~held_out), np.flatnonzero(held_out & ~leaked), int(leaked.sum()), len(shared))
    if len(sides.train) == 0 or (validate and len(sides.validation) == 0):
        raise EmptyInputError(
            f"Expected rows for training and for validation. Got {len(sides.train)} and {len(sides.validation)} "
            f"from {len(np.unique(index['group']))} test files. Give more rows, or --val-rows."
        )
    return sides


def _key(
    train: tuple[Path, ...], validation: tuple[Path, ...], source: Rows, tokenizer: Tokenizer, limits: Limits,
    limit: int | None,
) -> dict[str, Any]:  # fmt: skip
    """What a spool is made from. ``source``: SHA-256 over the content of all files, in order; names do not count."""
    train_files = _files(train)
    digests = [sha256_file(file) for file in (*train_files, *_files(validation))]
    return {
        "source": hashlib.sha256("".join(digests).encode()).hexdigest(),
        "train_files": len(train_files),
        **source.key,
        "tokenizer": tokenizer.sha256(),
        "limits": limits.model_dump(),
        "limit": limit,
    }


def _files(paths: Iterable[Path]) -> list[Path]:
    files = (sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path] for path in paths)
    return list(chain.from_iterable(files))


def _fill(
    writer: SpoolWriter,
    rows: Iterator[tuple[Example, bool]],
    tokenizer: Tokenizer,
    limits: Limits,
    counts: Counter[str],
) -> None:
    """Write the rows that are not too long; the second of each says whether it is a validation row."""
    with progress("reading rows", None) as bar:
        while batch := tuple(islice(rows, _BATCH)):
            examples, index, labels = _index(batch, tokenizer, limits, counts)
            writer.add(examples, index, labels)
            bar.advance(len(batch))


def _check_counts(counts: Counter[str], max_bad: float, quarantine: Path) -> None:
    """Refuse rows of which none can be used, or too many cannot."""
    # Only where rows are known from elsewhere can all of them be duplicates.
    if counts["kept"] == 0 and counts["duplicates"] < max(1, counts["read"]):
        raise EmptyInputError(
            f"Expected at least one usable row. Got {counts['read']} rows of which {counts['quarantined']} are "
            f"malformed, {counts['overlong_skipped']} too long, and {counts['duplicates']} have an id that was "
            f"used already.{_first_reason(quarantine)}"
        )
    if counts["quarantined"] > max_bad * counts["read"]:
        raise RowError(
            f"Expected at most {max_bad:.0%} bad rows (--max-bad). Got {counts['quarantined']:,} of "
            f"{counts['read']:,}.{_first_reason(quarantine)}"
        )


def _examples(
    paths: tuple[Path, ...],
    source: Rows,
    counts: Counter[str],
    quarantine: TextIO,
    strict: bool,
    known: Callable[[str], bool],
) -> Iterator[Example]:
    seen: set[bytes] = set()
    for item in chain.from_iterable(map(source.read, paths)):
        counts["read"] += 1
        result = _example(item, source)
        if isinstance(result, Rejected):
            if strict:
                raise RowError(
                    f"Expected a usable row. Got {result.origin}: {result.reason} Remove --strict to skip."
                )
            counts["quarantined"] += 1
            quarantine.write(json.dumps({"origin": result.origin, "reason": result.reason}) + "\n")
            continue
        digest = hashlib.blake2b(result.id.encode(), digest_size=16).digest()
        if digest in seen or known(result.id):
            counts["duplicates"] += 1
            continue
        seen.add(digest)
        yield result


def _example(item: Located | Rejected, source: Rows) -> Example | Rejected:
    if isinstance(item, Rejected):
        return item
    try:
        return source.example(item.record)
    except RowError as error:
        return Rejected(item.origin, str(error))


def _index(
    batch: tuple[tuple[Example, bool], ...], tokenizer: Tokenizer, limits: Limits, counts: Counter[str]
) -> tuple[list[Example], NDArray[np.void], list[int]]:
    prompts, targets = tokenizer.encode([example for example, _ in batch])
    kept: list[Example] = []
    entries: list[tuple[int | bool, ...]] = []
    labels: list[int] = []
    for (example, validation), prompt, target in zip(batch, prompts, targets, strict=True):
        if len(prompt) > limits.max_input_tokens or len(target) > limits.max_output_tokens:
            counts["overlong_skipped" if limits.overlong == "skip" else "overlong_truncated"] += 1
            if limits.overlong == "skip":
                continue
        kept.append(example)
        text = f"{example.prompt}\0{example.target}"
        target = truncate_target(target, limits)
        labels += target
        entries.append((0, _hash(example.group), _hash(text), validation, len(target)))
    counts["kept"] += len(kept)
    return kept, np.array(entries, INDEX), labels


def _choose_groups(groups: NDArray[np.uint64], fraction: float, seed: int) -> list[int]:
    """Groups in a seeded order that together hold at most ``fraction`` of the rows, but at least one group."""
    sizes = dict(zip(*(column.tolist() for column in np.unique(groups, return_counts=True)), strict=True))
    order = sorted(sizes, key=lambda group: _hash(f"{seed} {group}"))
    chosen, left = [], fraction * len(groups)
    for group in order:
        if sizes[group] <= left:
            chosen.append(group)
            left -= sizes[group]
    return chosen or [min(order, key=lambda group: sizes[group])]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _first_reason(quarantine: Path) -> str:
    with quarantine.open(encoding="utf-8") as file:
        line = file.readline()
    if not line:
        return ""
    first = json.loads(line)
    return f" The first: {first['origin']}: {first['reason']}"
