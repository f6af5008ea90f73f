"""Rows to evaluate on, from a store or a file of raw rows."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from kdeval.bounds import MAX_TOKENS
from kdeval.results import DataRecord
from kdstore.encode.tokenizer import Tokenizer, truncate_prompt, truncate_target
from kdstore.errors import CapabilityError, MismatchError, RowError
from kdstore.sources import Rejected, open_source
from kdstore.store.files import sha256_file
from kdstore.store.manifest import MANIFEST, Limits
from kdstore.store.manifest import TeacherRecord as StoredTeacher
from kdstore.store.reader import Store
from kdstore.tasks import TASKS

_TEACHER_TEXT = "text/teacher_prediction"
_REQUIRED = ("id", "input_ids", "labels", "text/assertion")
_OPTIONAL = ("text/repo", "text/path", _TEACHER_TEXT)


@dataclass(frozen=True, slots=True)
class Item:
    """One row before the model has seen it; ``label_ids`` end with the end token."""

    id: str
    prompt: str
    reference: str
    teacher_prediction: str | None
    repo: str
    path: str
    input_ids: list[int]
    label_ids: list[int]


class Data(Protocol):
    """A set of rows.

    ``teacher`` is the model whose predictions the items carry, if any. ``rejected`` counts the rows that could
    not be used so far, and ``first_rejection`` is the place and reason of the first.
    """

    tokenizer: Tokenizer
    task: str
    limits: Limits
    teacher: StoredTeacher | None
    rejected: int
    first_rejection: str

    def total(self) -> int | None:
        """Number of rows, None where only reading them tells."""

    def items(self) -> Iterator[Item]:
        """The rows in their order, one in memory at a time."""

    def record(self, rows: int, tokens: int) -> DataRecord:
        """What a summary says of the data, after ``rows`` with ``tokens`` label tokens were evaluated."""


def open_data(path: Path, model_dir: Path, vocab_size: int, limits: Limits, task: str) -> Data:
    """Open a store, or a file of rows, for a model of ``vocab_size`` ids.

    Parameters
    ----------
    limits
        Longest prompt and target of a raw row; a store has its own.
    task
        How raw rows are read; a store has its own.

    Raises
    ------
    MismatchError
        Model and data do not share one vocabulary.
    CapabilityError
        The store's rows may be longer than an evaluation can be.
    StoreError, InputError, ModelError, UnknownNameError
        The store, the file, the model's tokenizer or the task cannot be used.
    """
    if (path / MANIFEST).is_file() or (path / ".build").is_dir():
        return StoreRows(path, model_dir, vocab_size)
    return RawRows(path, model_dir, vocab_size, limits, task)


class StoreRows:
    """The rows of a store: its ids as they are, its texts for the references."""

    rejected = 0
    first_rejection = ""

    def __init__(self, path: Path, model_dir: Path, vocab_size: int) -> None:
        self._store = Store(path)
        head = self._store.head
        if head.vocab_size != vocab_size:
            raise MismatchError(
                f"Expected a model with the store's vocabulary of {head.vocab_size} ids. Got {vocab_size} in "
                f"{model_dir}. Evaluate on a store built for this model's vocabulary."
            )
        self.tokenizer = Tokenizer(self._store.tokenizer_path)
        _check_same_vocabulary(self.tokenizer, model_dir)
        self.task = head.task
        self.limits = head.limits
        longest = max(head.limits.max_input_tokens, head.limits.max_output_tokens)
        if longest > MAX_TOKENS:
            raise CapabilityError(
                f"Expected a store with limits of at most {MAX_TOKENS} tokens. Got {longest} in {path}. "
                "Build it again with smaller ones."
            )
        names = {field.name for field in self._store.schema.fields}
        missing = [name for name in _REQUIRED if name not in names]
        if missing:
            raise MismatchError(
                f"Expected a store with the fields {', '.join(_REQUIRED)}. Got none called {missing[0]} in {path}. "
                "Evaluate on the raw rows instead."
            )
        self._fields = [*_REQUIRED, *(name for name in _OPTIONAL if name in names)]
        self.teacher = head.teacher if _TEACHER_TEXT in names else None

    def total(self) -> int:
        """Rows of the store."""
        return self._store.rows

    def items(self) -> Iterator[Item]:
        """The rows in the store's order, one block in memory at a time.

        Raises
        ------
        CorruptStoreError
            The store's bytes are not what its manifest says.
        """
        for block in self._store.scan(self._fields):
            for index in range(block.rows):
                row = block.row(index)
                input_ids = row["input_ids"].tolist()
                yield Item(
                    id=row["id"],
                    prompt=self.tokenizer.decode(input_ids),
                    reference=row["text/assertion"],
                    teacher_prediction=row.get(_TEACHER_TEXT),
                    repo=row.get("text/repo", ""),
                    path=row.get("text/path", ""),
                    input_ids=input_ids,
                    label_ids=row["labels"].tolist(),
                )

    def record(self, rows: int, tokens: int) -> DataRecord:
        """The store by its content hash."""
        return _record(self._store.root, "store", self._store.manifest.content_sha256, self.task, rows, tokens)


class RawRows:
    """The rows of a file or directory of raw rows, read by a task and encoded with the model's tokenizer."""

    teacher: StoredTeacher | None = None

    def __init__(self, path: Path, model_dir: Path, vocab_size: int, limits: Limits, task: str) -> None:
        self._path = path
        self._located = open_source(path)
        self._task = TASKS.get(task)
        self.limits = limits
        self.rejected = 0
        self.first_rejection = ""
        self.tokenizer = Tokenizer(model_dir)
        if len(self.tokenizer.backend) > vocab_size:
            raise MismatchError(
                f"Expected a tokenizer of at most {vocab_size} ids, the model's vocabulary. "
                f"Got {len(self.tokenizer.backend)} in {model_dir}. Save the model with its own tokenizer."
            )
        self.task = task

    def total(self) -> None:
        """Unknown before the file is read."""
        return

    def items(self) -> Iterator[Item]:
        """The usable rows in the order of the file; only once.

        Raises
        ------
        InputError
            The file cannot be read.
        """
        for located in self._located:
            if isinstance(located, Rejected):
                self._reject(located.origin, located.reason)
                continue
            try:
                example = self._task.example(located.record)
            except RowError as error:
                self._reject(located.origin, str(error))
                continue
            (prompt_ids,), (target_ids,) = self.tokenizer.encode([example])
            yield Item(
                id=example.id,
                prompt=example.prompt,
                reference=example.target,
                teacher_prediction=None,
                repo=example.texts.get("repo", ""),
                path=example.texts.get("path", ""),
                input_ids=truncate_prompt(prompt_ids, self.limits),
                label_ids=truncate_target(target_ids, self.limits),
            )

    def record(self, rows: int, tokens: int) -> DataRecord:
        """The file by the hash of its bytes; a directory by those of its files in the order of their names."""
        record = _record(self._path, "jsonl", _fingerprint(self._path), self.task, rows, tokens)
        return record.model_copy(update={"rejected": self.rejected})

    def _reject(self, origin: str, reason: str) -> None:
        self.rejected += 1
        self.first_rejection = self.first_rejection or f"{origin}: {reason}"


def _check_same_vocabulary(stored: Tokenizer, model_dir: Path) -> None:
    """Equal sizes do not make equal vocabularies: compare the tokens, where the model brings a tokenizer."""
    if not (model_dir / "tokenizer.json").is_file():
        return
    ours, theirs = stored.backend.get_vocab(), Tokenizer(model_dir).backend.get_vocab()
    if ours == theirs:
        return
    by_id, their_by_id = ({number: token for token, number in vocab.items()} for vocab in (ours, theirs))
    number = min(n for n in {*by_id, *their_by_id} if by_id.get(n) != their_by_id.get(n))
    raise MismatchError(
        f"Expected a model with the store's tokenizer, where id {number} is {by_id.get(number)!a}. "
        f"Got {their_by_id.get(number)!a} in {model_dir}. Evaluate on a store built with this model's tokenizer."
    )


def _record(
    path: Path, kind: Literal["store", "jsonl"], fingerprint: str, task: str, rows: int, tokens: int
) -> DataRecord:
    return DataRecord(
        path=str(path.resolve()),
        kind=kind,
        fingerprint=fingerprint,
        task=task,
        rows=rows,
        tokens=tokens,
        rejected=0,
    )


def _fingerprint(path: Path) -> str:
    if path.is_file():
        return sha256_file(path)
    hashes = [sha256_file(file) for file in sorted(path.iterdir()) if file.is_file()]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()
