"""Figures over the rows of a store: lengths, the teacher's likelihood of the labels, frequent tokens and texts."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdstore.schema import Block, RaggedText, RaggedTokens, Scalar, Vector
from kdstore.store.reader import Store

_FREQUENT = 10
_LONGEST_TEXT = 80  # characters of a text that is shown
_DISTINCT = 10_000  # texts that are counted; a column with more has no frequent ones worth showing
_LIMITED = {"input_ids": "max_input_tokens", "labels": "max_output_tokens"}


@dataclass
class Stats:
    """What `stats` found.

    ``lengths``: of each ragged column, over rows: ``min``, ``mean``, ``median``, ``p95``, ``max``, tokens or UTF-8
    bytes; and ``at_limit``, the share of rows that are as long as the build allowed. ``teacher_nats``: mean of
    -log p_1 of the labels. ``labels``: ids, how often each is a label. ``texts``: of each column, distinct values,
    and the most frequent ones where they are few. ``vectors``: mean norm of each embedding column.
    """

    rows: int = 0
    lengths: dict[str, dict[str, float]] = field(default_factory=dict)
    teacher_nats: float | None = None
    label_ids: int = 0
    labels: list[tuple[int, int]] = field(default_factory=list)
    texts: dict[str, dict[str, Any]] = field(default_factory=dict)
    vectors: dict[str, float] = field(default_factory=dict)


def stats(store: Store, advance: Callable[[int], None]) -> Stats:
    """Read a store once, without its signal; ``advance`` is told the rows of each block.

    Raises
    ------
    CorruptStoreError
        A chunk is damaged.
    """
    columns = [
        column for column in store.schema.fields
        if isinstance(column, RaggedText | RaggedTokens | Vector) or column.name == "label_logprob"
    ]  # fmt: skip
    lengths: dict[str, list[NDArray[np.uint32]]] = {}
    texts: dict[str, _Texts] = {column.name: _Texts() for column in columns if isinstance(column, RaggedText)}
    norms: dict[str, float] = defaultdict(float)
    labels_V = np.zeros(store.head.tokenizer.vocab_size, np.int64)
    logprob, tokens = 0.0, 0
    for block in store.scan([column.name for column in columns]):
        for column in columns:
            if isinstance(column, RaggedText | RaggedTokens):
                lengths.setdefault(column.name, []).append(block.arrays[f"{column.name}/lengths"])
            if isinstance(column, RaggedText):
                texts[column.name].add(block, column.name)
            elif isinstance(column, Vector):
                norms[column.name] += float(
                    np.linalg.norm(block.arrays[column.name].astype(np.float32), axis=1).sum()
                )
            elif isinstance(column, Scalar):
                values = block.arrays[column.name].astype(np.float64)
                logprob, tokens = logprob + float(values.sum()), tokens + len(values)
        if "labels/values" in block.arrays:
            labels_V += np.bincount(block.arrays["labels/values"], minlength=len(labels_V))
        advance(block.rows)
    order = np.argsort(-labels_V, kind="stable")[:_FREQUENT]
    return Stats(
        rows=store.rows,
        lengths={name: _summary(np.concatenate(found), name, store) for name, found in lengths.items()},
        teacher_nats=-logprob / tokens if tokens else None,
        label_ids=int((labels_V > 0).sum()),
        labels=[(int(token), int(labels_V[token])) for token in order if labels_V[token]],
        texts={name: found.summary() for name, found in texts.items() if name != "id"},
        vectors={name: total / max(1, store.rows) for name, total in norms.items()},
    )


class _Texts:
    """Counts the values of one text column."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._counts: Counter[str] = Counter()

    def add(self, block: Block, name: str) -> None:
        values, offsets = block.arrays[f"{name}/values"], block.offsets(name)
        for start, stop in pairwise(offsets):
            raw = values[start:stop].tobytes()
            self._seen.add(hashlib.blake2b(raw, digest_size=8).digest())
            if len(self._seen) <= _DISTINCT:
                self._counts[raw.decode(errors="replace")[:_LONGEST_TEXT]] += 1

    def summary(self) -> dict[str, Any]:
        few = len(self._seen) <= _DISTINCT
        return {"distinct": len(self._seen), "frequent": self._counts.most_common(_FREQUENT) if few else []}


def _summary(lengths_N: NDArray[np.uint32], name: str, store: Store) -> dict[str, float]:
    found = {
        "min": float(lengths_N.min()),
        "mean": float(lengths_N.mean()),
        "median": float(np.median(lengths_N)),
        "p95": float(np.percentile(lengths_N, 95)),
        "max": float(lengths_N.max()),
    }
    if name in _LIMITED:
        limit = getattr(store.head.limits, _LIMITED[name])
        found["at_limit"] = float((lengths_N >= limit).mean())
    return found
