"""Evaluate a model on a set of rows and write down the predictions and a summary."""

import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import IO

from kdeval.data import Data, open_data
from kdeval.predict import Predictor, load_model
from kdeval.results import (
    PREDICTIONS,
    SUMMARY,
    ModelRecord,
    Prediction,
    Results,
    Settings,
    TeacherRecord,
)
from kdeval.tally import Tally, make_metrics
from kdstore import console
from kdstore.encode.teacher import Teacher, weights_sha256
from kdstore.errors import EmptyInputError
from kdstore.store import atomic
from kdstore.store.files import sha256_file
from kdstore.store.manifest import Limits
from kdstore.tasks import TASKS

_DEFAULT_OUTPUT_TOKENS = 128
_LIBRARIES = ("kdstore", "torch", "transformers", "numpy", "sacrebleu", "javalang")


def evaluate(
    model_dir: Path,
    data_path: Path,
    into: Path,
    settings: Settings,
    metrics: Sequence[str] | None = None,
    task: str = "java_assertion",
) -> Results:
    """Evaluate the model in ``model_dir`` on a store or a file of rows; write both files into ``into``.

    Each file appears whole or not at all, the summary last. Without ``metrics``, those of the task are computed.
    ``task`` reads raw rows; a store knows its own.

    Raises
    ------
    KDError
        The model, the data, a name or a setting cannot be used; see `load_model` and `open_data`.
    """
    started = time.monotonic()
    chosen = make_metrics(metrics) if metrics else None
    model = load_model(model_dir, settings.device, settings.batch_size)
    limits = Limits(
        max_input_tokens=settings.max_input_tokens,
        max_output_tokens=settings.max_output_tokens or _DEFAULT_OUTPUT_TOKENS,
        overlong="truncate",
    )
    data = open_data(data_path, model_dir, model.vocab_size, limits, task)
    chosen = chosen or make_metrics(TASKS.get(data.task).metrics)
    max_output_tokens = settings.max_output_tokens or data.limits.max_output_tokens
    predictor = Predictor(
        model=model,
        tokenizer=data.tokenizer,
        max_output_tokens=max_output_tokens,
        num_beams=settings.num_beams,
    )
    student = Tally(chosen)
    teacher = Tally([metric for metric in chosen if metric.inputs == "text"]) if data.teacher else None
    into.mkdir(parents=True, exist_ok=True)
    with atomic.replacing(into / PREDICTIONS) as path, path.open("w", encoding="utf-8") as file:
        rows, tokens = _predict(predictor, data, settings.limit, file, student, teacher)
    results = Results(
        model=_model_record(model_dir, model),
        data=data.record(rows, tokens),
        metrics=student.results(),
        teacher=_teacher_record(data, teacher),
        settings=settings.model_copy(
            update={
                "device": model.device.type,
                "max_input_tokens": data.limits.max_input_tokens,
                "max_output_tokens": max_output_tokens,
            }
        ),
        versions={"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES},
        seconds=round(time.monotonic() - started, 3),
        predictions_sha256=sha256_file(into / PREDICTIONS),
    )
    atomic.write_text(into / SUMMARY, results.model_dump_json(indent=1) + "\n")
    return results


def _predict(
    predictor: Predictor, data: Data, limit: int | None, file: IO[str], student: Tally, teacher: Tally | None
) -> tuple[int, int]:
    """Predict, measure and write all rows; their number, and the number of their label tokens."""
    rows = tokens = 0
    whole = data.total()
    with console.progress("evaluate", limit if whole is None else min(whole, limit or whole)) as bar:
        for samples in predictor.run(islice(data.items(), limit), bar.advance):
            if teacher is not None:
                teacher.add([replace(sample, prediction=sample.teacher_prediction or "") for sample in samples])
            for sample, scores in zip(samples, student.add(samples), strict=True):
                file.write(Prediction(**asdict(sample), scores=scores).model_dump_json() + "\n")
            rows += len(samples)
            tokens += sum(sample.token_count for sample in samples)
    if data.rejected:
        console.note(f"{data.rejected:,} rows could not be used; the first: {data.first_rejection}")
    if not rows:
        reason = f" The first rejection: {data.first_rejection}." if data.rejected else ""
        raise EmptyInputError(f"Expected at least one usable row to evaluate. Got none.{reason} Check --data.")
    return rows, tokens


def _model_record(directory: Path, model: Teacher) -> ModelRecord:
    return ModelRecord(
        path=str(directory.resolve()),
        weights_sha256=weights_sha256(model.model),
        parameters=sum(parameter.numel() for parameter in model.model.parameters()),
        vocab_size=model.vocab_size,
    )


def _teacher_record(data: Data, tally: Tally | None) -> TeacherRecord | None:
    if data.teacher is None or tally is None:
        return None
    return TeacherRecord(name=data.teacher.name, weights_sha256=data.teacher.weights_sha256, metrics=tally.results())
