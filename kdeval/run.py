"""Evaluate a model, or predictions that are there already, and write down what came of it."""

import platform
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import torch
from safetensors.numpy import save

from kdeval.choose import Chosen, choose, closure
from kdeval.data import Data, open_data
from kdeval.files import comparison, statistics_of
from kdeval.journal import Journal
from kdeval.judge import judge
from kdeval.metrics import METRICS, Context
from kdeval.predict import ModelPredictor, Predictor, StoredPredictor, load_model
from kdeval.results import (
    COMPARISON,
    PREDICTIONS,
    STATISTICS,
    SUMMARY,
    DataRecord,
    ModelRecord,
    Results,
    Settings,
    Speed,
    TeacherRecord,
    TeacherResults,
)
from kdeval.rundir import writing
from kdeval.samples import Group, Sample
from kdeval.score import Scored, score
from kdeval.source import alike, first_sample, groups_of
from kdstore import console
from kdstore.encode.teacher import Teacher, weights_sha256
from kdstore.errors import CapabilityError, EmptyInputError, UsageError
from kdstore.store import atomic
from kdstore.store.files import sha256_file
from kdstore.store.manifest import Limits
from kdstore.tasks import TASKS

_DEFAULT_OUTPUT_TOKENS = 128
_LIBRARIES = (
    "kdstore", "torch", "transformers", "numpy", "sacrebleu", "javalang", "tree-sitter", "tree-sitter-java",
    "sentence-transformers", "scikit-learn",
)  # fmt: skip


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
    _tell(student)
    record = _model_record(model_dir, model, data)
    with writing(into), Journal(into, _identity(record, data, settings)) as journal:
        _predict(_predictor(model, data, settings), data, journal, settings.limit)
        spent = _Spent()
        rows = min(journal.rows, settings.limit or journal.rows)
        scored = _score(islice(spent.samples(journal), rows), student, teacher, into, settings, rows)
        results = _write(
            into, record, data.record(rows, scored.tokens), data.teacher, student, scored, settings,
            speed=None if model is None else spent.speed(model), started=started,
        )  # fmt: skip
        journal.remove()
    return results


def rescore(
    predictions: Path,
    into: Path,
    settings: Settings,
    metrics: Sequence[str] | None = None,
    task: str = "java_assertion",
) -> Results:
    """Measure the samples in a file of predictions, whoever made them; write the files of `kdeval.results`.

    Without ``metrics``, those of the task are computed, or of classification and retrieval all.

    Raises
    ------
    KDError
        The file, a name or a setting cannot be used.
    """
    started = time.monotonic()
    TASKS.get(task)
    first = first_sample(predictions)
    if (into / SUMMARY).exists() and predictions.resolve().parent == into.resolve():
        raise UsageError(f"Expected another directory as --into than that of {predictions}, whose results it holds.")
    labels = tuple(first.labels.scores) if first.labels else ()
    if first.tokens and first.tokens.temperature:
        settings = settings.model_copy(update={"temperature": first.tokens.temperature})
    context = Context(settings.embedding_model, settings.temperature, labels)
    groups = groups_of(first)
    names = metrics or _defaults(first, task)
    teacher = None
    if "teacher_text" in groups:
        theirs: set[Group] = {"text", "tokens"} if first.teacher_tokens else {"text"}
        teacher = choose(names, context, theirs)
    student = choose(names, context, groups, teacher, strict=metrics is not None)
    _tell(student)
    with predictions.open("rb") as lines:
        rows = sum(1 for _ in islice(lines, settings.limit))
    name = str(predictions.resolve())
    record = ModelRecord(name=name, kind="file", weights_sha256=None, parameters=None, bytes=None, vocab_size=None)
    fingerprint = sha256_file(predictions)
    with writing(into):
        scored = _score(alike(predictions, groups, rows), student, teacher, into, settings, rows)
        data = DataRecord(
            path=name, kind="predictions", fingerprint=fingerprint, task=task, rows=rows, tokens=scored.tokens,
            rejected=0,
        )  # fmt: skip
        theirs_record = TeacherRecord(name="the predictions' teacher", weights_sha256=None)
        return _write(into, record, data, theirs_record, student, scored, settings, speed=None, started=started)


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


def _tell(chosen: Chosen) -> None:
    """Say what is left out."""
    for reason, names in chosen.reasons().items():
        console.note(f"without {', '.join(names)}: {reason}")


def _compares(name: str) -> bool:
    """Whether a metric compares with a teacher, which has none itself."""
    return any(METRICS.get(part).inputs in ("teacher_text", "teacher_signal") for part in closure([name]))


def _defaults(sample: Sample, task: str) -> Sequence[str]:
    if sample.labels or sample.ranking:
        inputs = "labels" if sample.labels else "ranking"
        return [name for name in METRICS.names() if METRICS.get(name).inputs == inputs]
    return TASKS.get(task).metrics


def _predictor(model: Teacher | None, data: Data, settings: Settings) -> Predictor:
    if model is None or data.tokenizer is None:
        return StoredPredictor(data.tokenizer, data.signal, settings.batch_size)
    assert settings.max_output_tokens is not None  # set from the data
    return ModelPredictor(model, data.tokenizer, data.signal, settings.max_output_tokens, settings)


def _identity(record: ModelRecord, data: Data, settings: Settings) -> dict[str, object]:
    """What predictions depend on."""
    scoring = {"teacher_limit", "embedding_model", "draws", "level"}
    if not settings.sample:  # which rows are drawn together decides what is drawn
        scoring.add("limit")
    return {
        "schema": 1,
        "model": record.model_dump(mode="json"),
        "data": data.record(1, 0).model_dump(mode="json", exclude={"rows", "tokens", "rejected"}),
        "settings": settings.model_dump(mode="json", exclude=scoring),
        "versions": _versions(("kdstore", "torch", "transformers")),
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


def _score(
    samples: Iterator[Sample], student: Chosen, teacher: Chosen | None, into: Path, settings: Settings, rows: int
) -> Scored:
    with console.progress("score", rows) as bar:
        return score(samples, student, teacher, into, settings.teacher_limit, bar.advance)


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


def _write(
    into: Path,
    record: ModelRecord,
    data: DataRecord,
    teacher: TeacherRecord | None,
    student: Chosen,
    scored: Scored,
    settings: Settings,
    speed: Speed | None,
    started: float,
) -> Results:
    """The files about the set; the summary last, since it vouches for the others."""
    verdict = judge(scored.student, scored.teacher, settings)
    with atomic.replacing(into / STATISTICS) as path:
        path.write_bytes(save(statistics_of(scored)))
    theirs = None
    if scored.teacher is not None and teacher is not None and verdict.teacher is not None:
        theirs = TeacherResults(**teacher.model_dump(), rows=scored.teacher.rows, metrics=verdict.teacher)
    results = Results(
        model=record,
        data=data,
        metrics=verdict.student,
        teacher=theirs,
        gaps=verdict.gaps,
        confusion=scored.confusion,
        left_out={name: str(refusal) for name, refusal in student.left_out.items()},
        settings=settings,
        speed=speed,
        versions=_versions(_LIBRARIES),
        seconds=round(time.monotonic() - started, 3),
        predictions_sha256=sha256_file(into / PREDICTIONS),
        statistics_sha256=sha256_file(into / STATISTICS),
    )
    atomic.write_text(into / COMPARISON, comparison(results).model_dump_json(indent=1) + "\n")
    atomic.write_text(into / SUMMARY, results.model_dump_json(indent=1) + "\n")
    return results


def _versions(libraries: Collection[str]) -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in libraries}


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
