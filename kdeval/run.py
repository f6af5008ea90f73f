"""Evaluate a model, or the teacher that a store remembers, and write down what came of it."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from kdeval.choose import Chosen, choose, closure
from kdeval.data import Data, open_data
from kdeval.journal import Journal
from kdeval.metrics import METRICS, Context
from kdeval.outcome import measure, tell_left_out, versions, write_results
from kdeval.predict import ModelPredictor, Predictor, StoredPredictor, load_model
from kdeval.results import (
    ModelRecord,
    Results,
    Settings,
    Speed,
)
from kdeval.rundir import writing
from kdeval.samples import Group, Sample
from kdstore import console
from kdstore.encode.teacher import Teacher, weights_sha256
from kdstore.errors import CapabilityError, EmptyInputError
from kdstore.store.manifest import Limits
from kdstore.tasks import TASKS

_DEFAULT_OUTPUT_TOKENS = 128


def evaluate(
    model_dir: Path | None,
    data_path: Path,
    into: Path,
    settings: Settings,
    metrics: Sequence[str] | None = None,
    task: str = "java_assertion",
) -> Results:
    """Evaluate the model in ``model_dir`` on a store or a file of rows; write the files of `kdeval.results`.

    Without a model, the predictions and the signal that the data hold of a teacher are evaluated. Predictions are
    kept as they are made: the same call goes on where an earlier one was stopped. Without ``metrics``, those of the
    task are computed, as far as they can be here. ``task`` reads raw rows; a store knows its own.

    Raises
    ------
    KDError
        The model, the data, a name or a setting cannot be used; see `load_model`, `open_data` and `choose`.
    """
    started = time.monotonic()
    for name in metrics or ():
        METRICS.get(name)
    model = None if model_dir is None else load_model(model_dir, settings.device, settings.batch_size)
    limits = Limits(
        max_input_tokens=settings.max_input_tokens,
        max_output_tokens=settings.max_output_tokens or _DEFAULT_OUTPUT_TOKENS,
        overlong="truncate",
    )
    data = open_data(data_path, model, limits, task, settings.temperature)
    settings = settings.model_copy(
        update={
            "device": model.device.type if model else "cpu",
            "max_input_tokens": data.limits.max_input_tokens,
            "max_output_tokens": settings.max_output_tokens or data.limits.max_output_tokens,
        }
    )
    student, teacher = _metrics(metrics, data, model is not None, settings)
    tell_left_out(student)
    record = _model_record(model_dir, model, data)
    with writing(into), Journal(into, _identity(record, data, settings)) as journal:
        _predict(_predictor(model, data, settings), data, journal, settings.limit)
        spent = _Spent()
        rows = min(journal.rows, settings.limit or journal.rows)
        scored = measure(islice(spent.samples(journal), rows), student, teacher, into, settings, rows)
        results = write_results(
            into, record, data.record(rows, scored.tokens), data.teacher, student, scored, settings,
            speed=None if model is None else spent.speed(model), started=started,
        )  # fmt: skip
        journal.remove()
    return results


def _metrics(
    names: Sequence[str] | None, data: Data, has_model: bool, settings: Settings
) -> tuple[Chosen, Chosen | None]:
    """What is computed of the model, and of its teacher."""
    if not has_model and data.teacher is None:
        raise CapabilityError(
            "Expected predictions of a teacher in the data, as no model was named. Got none. Name a model directory, "
            "build the store with its teacher's predictions, or evaluate the teacher itself as the model."
        )
    context = Context(settings.embedding_model, settings.temperature)
    wanted = names or TASKS.get(data.task).metrics
    stored: set[Group] = {"text", "tokens"} if data.signal else {"text"}
    if not has_model:
        wanted = names or [name for name in wanted if not _compares(name)]
        return choose(wanted, context, stored, strict=names is not None), None
    teacher = choose(wanted, context, stored) if data.teacher else None
    groups: set[Group] = {"text", "tokens"}
    if data.teacher:
        groups.add("teacher_text")
    if data.signal:
        groups.add("teacher_signal")
    return choose(wanted, context, groups, teacher, strict=names is not None), teacher


def _compares(name: str) -> bool:
    """Whether a metric compares with a teacher, which has none itself."""
    return any(METRICS.get(part).inputs in ("teacher_text", "teacher_signal") for part in closure([name]))


def _predictor(model: Teacher | None, data: Data, settings: Settings) -> Predictor:
    if model is None or data.tokenizer is None:
        return StoredPredictor(data.tokenizer, data.signal, settings.batch_size)
    assert settings.max_output_tokens is not None  # set from the data
    return ModelPredictor(model, data.tokenizer, data.signal, settings.max_output_tokens, settings)


def _identity(record: ModelRecord, data: Data, settings: Settings) -> dict[str, object]:
    """What predictions depend on."""
    scoring = {"teacher_limit", "embedding_model", "draws", "level", "thresholds"}
    if not settings.sample:  # which rows are drawn together decides what is drawn
        scoring.add("limit")
    return {
        "schema": 1,
        "model": record.model_dump(mode="json"),
        "data": data.record(1, 0).model_dump(mode="json", exclude={"rows", "tokens", "rejected"}),
        "settings": settings.model_dump(mode="json", exclude=scoring),
        "versions": versions(("kdstore", "torch", "transformers")),
    }


def _predict(predictor: Predictor, data: Data, journal: Journal, limit: int | None) -> None:
    """Predict the rows that the journal lacks."""
    whole = data.total()
    with console.progress("predict", limit if whole is None else min(whole, limit or whole)) as bar:
        bar.advance(min(journal.rows, limit or journal.rows))
        for window in predictor.run(islice(data.items(), journal.rows, limit), journal.rows, bar.advance):
            journal.add(window)
    if data.rejected:
        console.note(f"{data.rejected:,} rows could not be used; the first: {data.first_rejection}")
    if not journal.rows:
        reason = f" The first rejection: {data.first_rejection}." if data.rejected else ""
        raise EmptyInputError(f"Expected at least one usable row to evaluate. Got none.{reason} Check --data.")


@dataclass
class _Spent:
    """Adds up what writing took while samples pass."""

    rows: int = 0
    seconds: float = 0.0
    tokens: int = 0

    def samples(self, journal: Journal) -> Iterator[Sample]:
        for window in journal.windows():
            self.rows += len(window.samples)
            self.seconds += window.seconds
            self.tokens += window.tokens
            yield from window.samples

    def speed(self, model: Teacher) -> Speed:
        return Speed(
            seconds=round(self.seconds, 3), rows=self.rows, tokens=self.tokens, threads=torch.get_num_threads(),
            device=model.device.type,
        )  # fmt: skip


def _model_record(directory: Path | None, model: Teacher | None, data: Data) -> ModelRecord:
    if model is None or directory is None:
        assert data.teacher is not None  # checked before
        return ModelRecord(
            name=data.teacher.name, kind="stored", weights_sha256=data.teacher.weights_sha256, parameters=None,
            bytes=None, vocab_size=None,
        )  # fmt: skip
    parameters = list(model.model.parameters())
    return ModelRecord(
        name=str(directory.resolve()),
        kind="directory",
        weights_sha256=weights_sha256(model.model),
        parameters=sum(parameter.numel() for parameter in parameters),
        bytes=sum(parameter.numel() * parameter.element_size() for parameter in parameters),
        vocab_size=model.vocab_size,
    )
