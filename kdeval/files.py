"""What stands beside the summary of an evaluation: the flat comparison, and the statistics of samples."""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from kdeval.results import STATISTICS, Compared, Comparison, MetricResult, Results, Value
from kdeval.score import Scored
from kdeval.tally import Statistics
from kdstore.errors import InputError, MismatchError
from kdstore.store.files import sha256_file

_STUDENT, _TEACHER = "student.", "teacher."
_NOTHING = Value(value=None, interval=None)


def comparison(results: Results) -> Comparison:
    """The content of ``evaluation_metrics.json``."""
    rows: dict[str, Compared] = {}
    theirs = results.teacher.metrics if results.teacher else {}
    for name, metric in results.metrics.items():
        other = theirs.get(name)
        rows[name] = _compared(metric, metric.title, metric, other or _NOTHING, results.gaps.get(name, _NOTHING))
        for part, value in metric.parts.items():
            found = other.parts[part] if other else _NOTHING
            rows[part] = _compared(metric, part, value, found, results.gaps.get(part, _NOTHING))
    return Comparison(
        rows=results.data.rows,
        teacher_rows=results.teacher.rows if results.teacher else 0,
        level=results.settings.level,
        metrics=rows,
    )


def _compared(metric: MetricResult, title: str, student: Value, teacher: Value, gap: Value) -> Compared:
    return Compared(
        title=title,
        unit=metric.unit,
        direction=metric.direction,
        good_at=metric.good_at,
        student=student.value,
        student_interval=student.interval,
        teacher=teacher.value,
        teacher_interval=teacher.interval,
        gap=gap.value,
        gap_interval=gap.interval,
    )


def statistics_of(scored: Scored) -> Statistics:
    """The content of ``statistics.safetensors``: [N, K] of each metric, by side and name."""
    sides = {_STUDENT: scored.student, _TEACHER: scored.teacher}
    return {
        prefix + name: np.ascontiguousarray(stats_NK)
        for prefix, side in sides.items()
        if side is not None
        for name, stats_NK in side.statistics.items()
    }


def read_statistics(run: Path, results: Results) -> tuple[Statistics, Statistics]:
    """Statistics of the evaluation in ``run``, [N, K] by metric: the model's, and its teacher's, if any.

    Raises
    ------
    InputError
        The file is missing, damaged, or holds something else.
    MismatchError
        It is not the one that the summary vouches for.
    """
    path = run / STATISTICS
    if not path.is_file():
        raise InputError(f"Expected {path}. Got nothing there. Run `kdeval run` again.")
    if (found := sha256_file(path)) != results.statistics_sha256:
        raise MismatchError(
            f"Expected {path} to have the checksum {results.statistics_sha256[:12]} of its summary. "
            f"Got {found[:12]}. Run `kdeval run` again."
        )
    try:
        read = load_file(path)
    except SafetensorError as error:
        raise InputError(f"Expected safetensors in {path}. Got: {error}. Run `kdeval run` again.") from None
    teacher_rows = results.teacher.rows if results.teacher else 0
    return (
        _checked(path, read, _STUDENT, results.data.rows),
        _checked(path, read, _TEACHER, teacher_rows),
    )


def _checked(path: Path, read: Statistics, prefix: str, rows: int) -> Statistics:
    """The arrays of one side, each of which has ``rows`` rows and as many columns as its metric."""
    found = {name.removeprefix(prefix): array for name, array in read.items() if name.startswith(prefix)}
    for name, array in found.items():
        known = array.dtype in (np.float64, np.uint16, np.uint32)
        if not known or array.ndim != 2 or len(array) != rows or not np.isfinite(array).all():
            raise InputError(
                f"Expected finite numbers, float64, uint16 or uint32, of {rows} rows for {name} in {path}. "
                f"Got {array.dtype} {list(array.shape)}. Run `kdeval run` again."
            )
    return found
