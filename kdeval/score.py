"""Measure samples as they come, and write a line for each: predictions with their scores, and a table of scores."""

import csv
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import IO, Any

from kdeval.choose import Chosen
from kdeval.judge import Side
from kdeval.metrics import Values
from kdeval.results import PREDICTIONS, SAMPLES_TABLE, Prediction, prediction_schema
from kdeval.samples import Sample
from kdeval.tally import Tally
from kdeval.text import assertion_kind
from kdstore.store import atomic

_CHUNK = 1024  # samples that are measured at once
WHO = ("id", "repo", "path", "expected_kind", "predicted_kind")


@dataclass(frozen=True)
class Scored:
    """What is left of samples that were measured; ``tokens`` counts label tokens, ``confusion`` assertion methods."""

    student: Side
    teacher: Side | None
    tokens: int
    confusion: dict[str, dict[str, int]]


def score(
    samples: Iterable[Sample],
    student: Chosen,
    teacher: Chosen | None,
    into: Path,
    teacher_limit: int | None,
    advance: Callable[[int], None],
) -> Scored:
    """Measure samples, and write both files of samples.

    The teacher's predictions are measured for the first ``teacher_limit``. Each file appears whole or not at all.
    ``advance`` is told the number of samples after every few.
    """
    ours, theirs = Tally(student.metrics), Tally(teacher.metrics if teacher else [])
    left = math.inf if teacher_limit is None else teacher_limit
    tokens, kinds = 0, Counter[tuple[str, str]]()
    with _files(into, ours, theirs if teacher else None) as write:
        for chunk in _chunks(samples, None if teacher is None else teacher_limit):
            found = None
            if teacher is not None and theirs.rows < left:
                found = theirs.add([_of_teacher(sample) for sample in chunk])
            scores = ours.add(chunk, found)
            for index, sample in enumerate(chunk):
                pair = _kinds(sample)
                tokens += len(sample.tokens or ())
                kinds[pair] += 1
                write(sample, pair, _row(scores, index), None if found is None else _row(found, index))
            advance(len(chunk))
            del chunk  # before the next one is read
    return Scored(
        student=Side(student.metrics, ours.statistics() if ours.rows else {}, ours.rows),
        teacher=Side(theirs.metrics, theirs.statistics(), theirs.rows) if theirs.rows else None,
        tokens=tokens,
        confusion=_table(kinds),
    )


def _chunks(samples: Iterable[Sample], cut: int | None) -> Iterator[list[Sample]]:
    """Samples some at a time; a chunk ends after the first ``cut``."""
    source, seen = iter(samples), 0
    while chunk := list(islice(source, min(_CHUNK, cut - seen) if cut is not None and seen < cut else _CHUNK)):
        seen += len(chunk)
        yield chunk
        del chunk


def _of_teacher(sample: Sample) -> Sample:
    """The teacher's predictions as if they were a student's."""
    return replace(
        sample,
        prediction=sample.teacher_prediction or "",
        teacher_prediction=None,
        tokens=sample.teacher_tokens,
        teacher_tokens=None,
    )


def _kinds(sample: Sample) -> tuple[str, str]:
    return assertion_kind(sample.reference), assertion_kind(sample.prediction)


def _row(values: Values, index: int) -> dict[str, float | None]:
    """The scores of one sample."""
    found = {name: float(value_N[index]) for name, value_N in values.items()}
    return {name: None if math.isnan(number) else number for name, number in found.items()}


def _table(kinds: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """Counts by expected and predicted kind, the commonest first; nothing where no text holds a call."""
    table: dict[str, dict[str, int]] = {}
    for (expected, predicted), count in kinds.most_common():
        table.setdefault(expected, {})[predicted] = count
    return {} if set(kinds) <= {("none", "none")} else table


Write = Callable[[Sample, tuple[str, str], dict[str, Any], dict[str, Any] | None], None]


@contextmanager
def _files(into: Path, ours: Tally, theirs: Tally | None) -> Iterator[Write]:
    """What writes one sample into both files, which take their places when the block ends well."""
    with (
        atomic.replacing(into / PREDICTIONS) as predictions,
        atomic.replacing(into / SAMPLES_TABLE) as table,
        predictions.open("wb") as lines,
        table.open("w", encoding="utf-8", errors="backslashreplace", newline="") as cells,
    ):
        columns = [*WHO, *_names(ours), *(f"teacher_{name}" for name in (_names(theirs) if theirs else []))]
        writer = csv.DictWriter(cells, columns, lineterminator="\n")
        writer.writeheader()
        yield lambda sample, kinds, scores, teacher: _write(lines, writer, sample, kinds, scores, teacher)


def _names(tally: Tally) -> list[str]:
    """Metrics and their parts, each after its own."""
    return [name for metric in tally.metrics for name in (metric.name, *metric.parts)]


def _write(
    lines: IO[bytes],
    writer: "csv.DictWriter[str]",
    sample: Sample,
    kinds: tuple[str, str],
    scores: dict[str, float | None],
    teacher: dict[str, float | None] | None,
) -> None:
    given = {field.name: getattr(sample, field.name) for field in fields(Sample)}
    prediction = Prediction(**given, scores=scores, teacher_scores=teacher)
    lines.write(prediction_schema().dump_json(prediction) + b"\n")
    who = dict(zip(WHO, (sample.id, sample.repo, sample.path, *kinds), strict=True))
    writer.writerow(who | scores | {f"teacher_{name}": number for name, number in (teacher or {}).items()})
