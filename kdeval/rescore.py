"""Measure predictions that are there already, and write down what came of it."""

import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from kdeval.choose import choose
from kdeval.metrics import METRICS, Context
from kdeval.outcome import measure, tell_left_out, write_results
from kdeval.results import SUMMARY, DataRecord, ModelRecord, Results, Settings, TeacherRecord
from kdeval.rundir import writing
from kdeval.samples import Group, Sample
from kdeval.source import alike, first_sample, groups_of
from kdstore.errors import UsageError
from kdstore.store.files import sha256_file
from kdstore.tasks import TASKS


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
    context = Context(settings.embedding_model, settings.temperature, labels, settings.thresholds)
    groups = groups_of(first)
    names = metrics or _defaults(first, task)
    teacher = None
    if "teacher_text" in groups:
        theirs: set[Group] = {"text", "tokens"} if first.teacher_tokens else {"text"}
        teacher = choose(names, context, theirs)
    student = choose(names, context, groups, teacher, strict=metrics is not None)
    tell_left_out(student)
    with predictions.open("rb") as lines:
        rows = sum(1 for _ in islice(lines, settings.limit))
    name = str(predictions.resolve())
    record = ModelRecord(name=name, kind="file", weights_sha256=None, parameters=None, bytes=None, vocab_size=None)
    fingerprint = sha256_file(predictions)
    with writing(into):
        scored = measure(alike(predictions, groups, rows), student, teacher, into, settings, rows)
        data = DataRecord(
            path=name, kind="predictions", fingerprint=fingerprint, task=task, rows=rows, tokens=scored.tokens,
            rejected=0,
        )  # fmt: skip
        of_file = TeacherRecord(name="the predictions' teacher", weights_sha256=None)
        return write_results(into, record, data, of_file, student, scored, settings, speed=None, started=started)


def _defaults(sample: Sample, task: str) -> Sequence[str]:
    if sample.labels or sample.ranking:
        inputs = "labels" if sample.labels else "ranking"
        return [name for name in METRICS.names() if METRICS.get(name).inputs == inputs]
    return TASKS.get(task).metrics
