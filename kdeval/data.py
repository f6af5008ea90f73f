"""Rows to evaluate on, from a store or a file of raw rows."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from kdeval.bounds import MAX_TOKENS
from kdeval.results import DataRecord, TeacherRecord
from kdeval.signal import StoredSignal, signal_fields, signal_of
from kdstore.encode.teacher import Teacher
from kdstore.encode.tokenizer import Tokenizer, truncate_prompt, truncate_target
from kdstore.errors import CapabilityError, MismatchError, RowError
from kdstore.schema import Example, Record
from kdstore.sources import Located, Rejected, open_source
from kdstore.store.files import sha256_file
from kdstore.store.manifest import MANIFEST, Limits
from kdstore.store.reader import Store
from kdstore.tasks import TASKS

PREDICTION = "teacher_prediction"
_TEACHER_TEXT = f"text/{PREDICTION}"
_REQUIRED = ("id", "input_ids", "labels", "text/assertion")
_OPTIONAL = ("text/repo", "text/path", _TEACHER_TEXT)


@dataclass(frozen=True, slots=True)
class Item:
    """One row before the model has seen it; ``label_ids`` end with the end token.

    ``signal`` is what the store keeps of the teacher: the codec's arrays, and its log-probability of each label.
    """

    id: str
    prompt: str
    reference: str
    teacher_prediction: str | None
    repo: str
    path: str
    input_ids: list[int]
    label_ids: list[int]
    signal: dict[str, Any] | None = None


class Data(Protocol):
    """A set of rows.

    ``teacher`` is the model whose predictions the items carry, if any. ``signal`` reads what they carry of its
    distributions; where it is None, ``no_signal`` says why. ``tokenizer`` is None where nothing reads ids.
    ``rejected`` counts the rows that could not be used so far, ``first_rejection`` is place and reason of the first.
    """

    tokenizer: Tokenizer | None
    task: str
    limits: Limits
    teacher: TeacherRecord | None
    signal: StoredSignal | None
    no_signal: str
    rejected: int
    first_rejection: str

    def total(self) -> int | None:
        """Number of rows, None where only reading them tells."""

    def items(self) -> Iterator[Item]:
        """The rows in their order, one in memory at a time."""

    def record(self, rows: int, tokens: int) -> DataRecord:
        """What a summary says of the data, after ``rows`` with ``tokens`` label tokens were evaluated."""


def open_data(path: Path, model: Teacher | None, limits: Limits, task: str, temperature: float) -> Data:
    """Open a store, or a file of rows.

    Parameters
    ----------
    model
        What is to be evaluated on the rows; None: the predictions that they hold of a teacher.
    limits
        Longest prompt and target of a raw row; a store has its own.
    task
        How raw rows are read; a store has its own.
    temperature
        At which a store's signal is read.

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
        return StoreRows(path, model, temperature)
    return RawRows(path, model, limits, task)


class StoreRows:
    """The rows of a store: its ids as they are, its texts for the references."""

    rejected = 0
    first_rejection = ""

    def __init__(self, path: Path, model: Teacher | None, temperature: float) -> None:
        self._store = Store(path)
        head = self._store.head
        if model is not None and head.vocab_size != model.vocab_size:
            raise MismatchError(
                f"Expected a model with the store's vocabulary of {head.vocab_size} ids. Got {model.vocab_size} in "
                f"{model.name}. Evaluate on a store built for this model's vocabulary."
            )
        self._tokenizer = Tokenizer(self._store.tokenizer_path)
        self.tokenizer: Tokenizer | None = self._tokenizer
        if model is not None:
            _check_same_vocabulary(self._tokenizer, Path(model.name))
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
        self.signal, self.no_signal = None, ""
        try:
            self.signal = StoredSignal.of(self._store, temperature)
        except CapabilityError as error:
            self.no_signal = str(error)
        self._fields = [*_REQUIRED, *(name for name in _OPTIONAL if name in names)]
        if self.signal:
            self._fields += signal_fields(names)
        self.teacher = None
        if _TEACHER_TEXT in names and head.teacher is not None:
            self.teacher = TeacherRecord(name=head.teacher.name, weights_sha256=head.teacher.weights_sha256)

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
                    prompt=self._tokenizer.decode(input_ids),
                    reference=row["text/assertion"],
                    teacher_prediction=row.get(_TEACHER_TEXT),
                    repo=row.get("text/repo", ""),
                    path=row.get("text/path", ""),
                    input_ids=input_ids,
                    label_ids=row["labels"].tolist(),
                    signal=signal_of(row),
                )

    def record(self, rows: int, tokens: int) -> DataRecord:
        """The store by its content hash."""
        return _record(self._store.root, "store", self._store.manifest.content_sha256, self.task, rows, tokens)


class RawRows:
    """The rows of a file or directory of raw rows, read by a task and encoded with the model's tokenizer.

    Text under ``teacher_prediction`` is what a teacher wrote for the row.
    """

    signal: StoredSignal | None = None
    no_signal = "Expected a teacher's signal in the data. Got raw rows, which hold none."

    def __init__(self, path: Path, model: Teacher | None, limits: Limits, task: str) -> None:
        self._path = path
        self._located = open_source(path)
        self._task = TASKS.get(task)
        self.limits = limits
        self.rejected = 0
        self.first_rejection = ""
        self.task = task
        first = next(open_source(path), None)
        predicted = isinstance(first, Located) and PREDICTION in first.record
        self.teacher = TeacherRecord(name="the rows' teacher", weights_sha256=None) if predicted else None
        self.tokenizer = Tokenizer(model.name) if model is not None else None
        if model is not None and self.tokenizer and len(self.tokenizer.backend) > model.vocab_size:
            raise MismatchError(
                f"Expected a tokenizer of at most {model.vocab_size} ids, the model's vocabulary. "
                f"Got {len(self.tokenizer.backend)} in {model.name}. Save the model with its own tokenizer."
            )

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
                teacher_prediction = self._prediction(located.record)
            except RowError as error:
                self._reject(located.origin, str(error))
                continue
            prompt_ids, target_ids = self._ids(example)
            yield Item(
                id=example.id,
                prompt=example.prompt,
                reference=example.target,
                teacher_prediction=teacher_prediction,
                repo=example.texts.get("repo", ""),
                path=example.texts.get("path", ""),
                input_ids=prompt_ids,
                label_ids=target_ids,
            )

    def record(self, rows: int, tokens: int) -> DataRecord:
        """The file by the hash of its bytes; a directory by those of its files in the order of their names."""
        record = _record(self._path, "jsonl", _fingerprint(self._path), self.task, rows, tokens)
        return record.model_copy(update={"rejected": self.rejected})

    def _prediction(self, record: Record) -> str | None:
        found = record.get(PREDICTION)
        if self.teacher is not None and not isinstance(found, str):
            raise RowError(
                f"Expected text under {PREDICTION!r}, as in the first row. Got {type(found).__name__}. Correct it."
            )
        return found if self.teacher is not None else None

    def _ids(self, example: Example) -> tuple[list[int], list[int]]:
        """Ids of prompt and target; none without a tokenizer, where no model reads them."""
        if self.tokenizer is None:
            return [], []
        (prompt_ids,), (target_ids,) = self.tokenizer.encode([example])
        return truncate_prompt(prompt_ids, self.limits), truncate_target(target_ids, self.limits)

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
