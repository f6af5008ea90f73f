"""An indexed copy of the usable rows of a build, on disk: any row can be read by its number.

Sources may be compressed or streamed and cannot be read in a permuted order; the spool can. It is a JSON Lines
file and a few small arrays, and is written once, whole.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdstore.schema import Example
from kdstore.store import atomic

QUARANTINE = "quarantine.jsonl"
_ROWS, _INDEX, _LABELS, _KEY = "rows.jsonl", "index.npy", "label_counts.npy", "key.json"
INDEX = np.dtype(
    [
        ("offset", np.uint64),  # where the row starts in the file, in bytes
        ("group", np.uint64),  # hash of what must stay on one side of a split
        ("text", np.uint64),  # hash of prompt and target
        ("validation", np.bool_),  # came from the validation source
        ("label_tokens", np.uint32),
    ]
)


class Spool:
    """A finished spool, opened for reading."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / _ROWS
        self.quarantine = directory / QUARANTINE
        self.index: NDArray[np.void] = np.load(directory / _INDEX, allow_pickle=False)
        self.label_counts_V: NDArray[np.int64] = np.load(directory / _LABELS, allow_pickle=False)
        made = _read_key(directory)
        self.counts: dict[str, int] = made["counts"]
        self.source_sha256: str = made["key"]["source"]

    @property
    def mean_row_bytes(self) -> float:
        """Bytes of a row as it lies here."""
        return self._path.stat().st_size / max(1, len(self.index))

    def read(self, rows: Sequence[int]) -> Iterator[Example]:
        """The examples with these numbers, in this order."""
        with self._path.open("rb") as file:
            for row in rows:
                file.seek(int(self.index["offset"][row]))
                yield Example(**json.loads(file.readline()))


class SpoolWriter:
    """Collects rows in a staged directory until `commit` moves it into place."""

    def __init__(self, staged: Path, vocab_size: int) -> None:
        self._staged = staged
        self._file = (staged / _ROWS).open("wb")
        self._index: list[NDArray[np.void]] = []
        self._label_counts_V = np.zeros(vocab_size, np.int64)

    def add(self, examples: Sequence[Example], index: NDArray[np.void], labels: Sequence[int]) -> None:
        """Append examples; ``index`` [N] of dtype `INDEX` holds what is known of them but for the offset.

        ``labels`` are the ids of all their label tokens, which are counted.
        """
        np.add.at(self._label_counts_V, np.asarray(labels, np.int64), 1)
        for row, example in enumerate(examples):
            index["offset"][row] = self._file.tell()
            self._file.write(json.dumps(asdict(example), ensure_ascii=True).encode() + b"\n")
        self._index.append(index)

    def commit(self, directory: Path, key: Mapping[str, Any], counts: dict[str, int]) -> Spool:
        """Make the spool complete at ``directory``; ``key`` names what it was made from, ``source`` its files."""
        self._file.close()
        np.save(self._staged / _INDEX, np.concatenate([np.zeros(0, INDEX), *self._index]), allow_pickle=False)
        np.save(self._staged / _LABELS, self._label_counts_V, allow_pickle=False)
        text = json.dumps({"key": key, "counts": counts})
        (self._staged / _KEY).write_text(text, encoding="utf-8")
        atomic.sync_tree(self._staged)
        if directory.exists():
            shutil.rmtree(directory)
        atomic.commit_directory(self._staged, directory)
        return Spool(directory)

    def close(self) -> None:
        """Close the file; harmless after `commit`."""
        self._file.close()


def open_spool(directory: Path, key: Mapping[str, Any]) -> Spool | None:
    """The spool at ``directory`` if it is complete and was made from ``key``."""
    if not (directory / _KEY).is_file() or _read_key(directory)["key"] != key:
        return None
    return Spool(directory)


def _read_key(directory: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((directory / _KEY).read_text(encoding="utf-8"))
    return result
