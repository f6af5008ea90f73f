"""Rows of the validation store that are in a training store too."""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import Final

import numpy as np

from kdstore.schema import Block
from kdstore.store.reader import Store
from kdtrain.preflight.findings import Found, failed, of_each, passed, skipped, warned
from kdtrain.preflight.flight import Flight
from kdtrain.preflight.sample import read, spread

_TRAIN_ROWS, _VAL_ROWS = 50_000, 10_000
ALLOWED: Final = 0.01
"""Share of the validation rows that may be known; the best model is chosen by all of them."""


def leak(flight: Flight) -> Iterator[Found]:
    """How many validation rows have prompt and target, or the id, of a training row?"""
    stores = flight.stores
    if stores.val is None:
        yield skipped("no validation store")
        return
    val, _ = _rows(stores.val, _VAL_ROWS)
    yield from of_each(stores.train, lambda store: _shared(store, val))


def _shared(train: Store, val: Sequence[tuple[bytes, str]]) -> Iterator[Found]:
    rows, share = _rows(train, _TRAIN_ROWS)
    contents, ids = {content for content, _ in rows}, {name for _, name in rows if name}
    same = sum(content in contents for content, _ in val)
    same_id = sum(name in ids and content not in contents for content, name in val)
    looked = f"looked at {len(rows):,} of the {train.rows:,} rows of {train.root}"
    # Of a training store that was looked at in part, the rest is expected to hold as many, which is a guess: a row
    # that occurs often is found in any part.
    found = same / len(val) / share
    told = f"{same:,} of {len(val):,} validation rows have prompt and target of a training row ({looked})"
    if found >= ALLOWED and share == 1:
        yield failed(
            f"Expected validation rows that training does not see. Got {min(1.0, found):.1%}: {told}. Build the "
            "stores with --split, or name another --val."
        )
    else:
        yield warned(f"{told}: {min(1.0, found):.2%}") if same else passed(told)
    if same_id:
        yield warned(f"{same_id:,} more have the id of a training row, with another content")


def _rows(store: Store, most: int) -> tuple[list[tuple[bytes, str]], float]:
    """Digest of prompt and target, and id, of about so many rows; and the share of the store that these are."""
    named = ["id"] if "id" in {field.name for field in store.schema.fields} else []
    found: list[tuple[bytes, str]] = []
    for _, block in read(store, spread(store, most), ["input_ids", "labels", *named]):
        names = _texts(block) if named else [""] * block.rows
        found += zip(_digests(block), names, strict=True)
    return found, len(found) / store.rows


def _digests(block: Block) -> list[bytes]:
    """A digest of the ids of each row, whatever the dtype that they are kept in."""
    pieces = []
    for name in ("input_ids", "labels"):
        values, offsets = block.arrays[f"{name}/values"].astype(np.int64), block.offsets(name).tolist()
        pieces.append([values[start:stop].tobytes() for start, stop in pairwise(offsets)])
    return [blake2b(b"|".join(pair), digest_size=16).digest() for pair in zip(*pieces, strict=True)]


def _texts(block: Block) -> list[str]:
    text, offsets = block.arrays["id/values"].tobytes(), block.offsets("id").tolist()
    return [text[start:stop].decode(errors="replace") for start, stop in pairwise(offsets)]
