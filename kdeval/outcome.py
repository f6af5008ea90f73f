"""What evaluations have in common once there are samples: they are measured, and what came of it is written down."""

import platform
import time
from collections.abc import Collection, Iterable
from importlib.metadata import version
from pathlib import Path

from safetensors.numpy import save

from kdeval.choose import Chosen
from kdeval.files import comparison, statistics_of
from kdeval.judge import judge
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
from kdeval.samples import Sample
from kdeval.score import Scored, score
from kdstore import console
from kdstore.store import atomic
from kdstore.store.files import sha256_file

_LIBRARIES = (
    "kdstore", "torch", "transformers", "numpy", "sacrebleu", "javalang", "tree-sitter", "tree-sitter-java",
    "sentence-transformers", "scikit-learn",
)  # fmt: skip


def tell_left_out(chosen: Chosen) -> None:
    """Say which metrics are left out, and why."""
    for reason, names in chosen.reasons().items():
        console.note(f"without {', '.join(names)}: {reason}")


def measure(
    samples: Iterable[Sample], student: Chosen, teacher: Chosen | None, into: Path, settings: Settings, rows: int
) -> Scored:
    """Measure ``rows`` samples and write the files about each, under a progress bar; see `score`."""
    with console.progress("score", rows) as bar:
        return score(samples, student, teacher, into, settings.teacher_limit, bar.advance)


def write_results(
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
        versions=versions(_LIBRARIES),
        seconds=round(time.monotonic() - started, 3),
        predictions_sha256=sha256_file(into / PREDICTIONS),
        statistics_sha256=sha256_file(into / STATISTICS),
    )
    atomic.write_text(into / COMPARISON, comparison(results).model_dump_json(indent=1) + "\n")
    atomic.write_text(into / SUMMARY, results.model_dump_json(indent=1) + "\n")
    return results


def versions(libraries: Collection[str]) -> dict[str, str]:
    """Of Python and some libraries."""
    return {"python": platform.python_version()} | {name: version(name) for name in libraries}
