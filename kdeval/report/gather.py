"""Collect what a report shows from a run directory, the teacher's results and the store."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdeval.metrics import Direction
from kdeval.report.curves import Curve, read_curves
from kdeval.report.kept import Kept, kept
from kdeval.report.samples import ShownSample, choose_samples
from kdeval.results import PREDICTIONS, MetricResult, Metrics, Results, format_value, read_results
from kdstore.errors import InputError, KDError, MismatchError
from kdstore.store.files import sha256_file
from kdstore.store.manifest import Manifest, read_manifest

_HEADLINES = ("exact_match", "f1", "ast_validity", "loss")

Facts = dict[str, str]


@dataclass(frozen=True)
class Side:
    """One model's value: as text, whether it reaches the threshold, and its place (0 to 1) in the range."""

    text: str
    is_good: bool
    place: float | None


@dataclass(frozen=True)
class MetricRow:
    """A line of the metrics table. ``part`` marks a part of the metric above it."""

    name: str
    title: str
    direction: Direction
    unit: str
    part: bool
    student: Side
    teacher: Side | None
    gap: str
    good_at: str
    explanation: str


@dataclass(frozen=True)
class Report:
    """Everything on the page, ready to be shown."""

    name: str
    results: Results
    headline: list[str]
    tiles: list[MetricRow]
    rows: list[MetricRow]
    teacher_source: str
    noise: str
    curves: list[Curve]
    samples: list[ShownSample]
    store: Facts
    store_problem: str
    kept: Kept | None
    provenance: Facts
    config: Facts


def gather(run: Path, teacher_run: Path | None, samples: int, seed: int) -> Report:
    """Read everything a report needs; ``samples`` predictions are shown, chosen by ``seed``.

    Raises
    ------
    InputError
        A file of the run is missing or cannot be read.
    MismatchError
        The teacher was evaluated on other rows, or the predictions are not those of the summary.
    """
    results = _read(run)
    curves = read_curves(run)
    teacher = None if teacher_run is None else _read(teacher_run)
    if teacher is not None:
        _check_same_data(results, teacher)
    stored = results.teacher.metrics if results.teacher else {}
    rows = list(_rows(results.metrics, stored | (teacher.metrics if teacher else {})))
    manifest, problem = _manifest(results)
    config = _config(run)
    return Report(
        name=run.resolve().name,
        results=results,
        headline=list(_headline(results, teacher, rows, curves[0])),
        tiles=[row for row in rows if row.name in _HEADLINES],
        rows=rows,
        teacher_source=_teacher_source(results, teacher),
        noise=f"{0.98 / math.sqrt(results.data.rows):.1%}",
        curves=curves,
        samples=choose_samples(run, teacher_run, samples, seed),
        store={} if manifest is None else _store_facts(manifest, Path(results.data.path)),
        store_problem=problem,
        kept=None if manifest is None else kept(manifest.head.codec),
        provenance=_provenance(results, teacher, manifest, run),
        config=config,
    )


def _read(run: Path) -> Results:
    results = read_results(run)
    path = run / PREDICTIONS
    if path.is_file() and sha256_file(path) != results.predictions_sha256:
        raise MismatchError(
            f"Expected {path} to have the checksum {results.predictions_sha256[:12]} of its summary. "
            f"Got {sha256_file(path)[:12]}. Run `kdeval run` again."
        )
    return results


def _check_same_data(student: Results, teacher: Results) -> None:
    for name in ("fingerprint", "rows"):
        ours, theirs = getattr(student.data, name), getattr(teacher.data, name)
        if ours != theirs:
            raise MismatchError(
                f"Expected the teacher to be evaluated on the student's data, {name} {ours}. Got {theirs}. "
                f"Run `kdeval run TEACHER --data {student.data.path}` with the same --limit."
            )


def _rows(student: Metrics, teacher: Metrics) -> Iterator[MetricRow]:
    for name, metric in student.items():
        other = teacher.get(name)
        yield _row(name, metric, metric.value, None if other is None else other.value)
        for part, value in metric.parts.items():
            yield _row(part, metric, value, None if other is None else other.parts.get(part), part=True)


def _row(name: str, metric: MetricResult, student: float, teacher: float | None, part: bool = False) -> MetricRow:
    return MetricRow(
        name=name,
        title=name.replace("_", " ").capitalize() if part else metric.title,
        direction=metric.direction,
        unit=metric.unit,
        part=part,
        student=_side(student, metric),
        teacher=None if teacher is None else _side(teacher, metric),
        gap="" if teacher is None else _gap(student - teacher, metric.unit),
        good_at="" if metric.good_at is None else format_value(metric.good_at, metric.unit),
        explanation=f"{metric.aggregation}; {metric.implementation}",
    )


def _side(value: float, metric: MetricResult) -> Side:
    low, high = metric.range
    place = None if high is None else (value - low) / (high - low)
    return Side(format_value(value, metric.unit), metric.reaches_threshold(value), place)


def _gap(difference: float, unit: str) -> str:
    if unit == "fraction":
        return f"{100 * difference:+.1f} pp"
    return f"{difference:+.1f}" if unit == "BLEU points" else f"{difference:+.3f}"


def _headline(results: Results, teacher: Results | None, rows: list[MetricRow], loss: Curve) -> Iterator[str]:
    if rows:
        first = rows[0]
        against = f", {first.teacher.text} for its teacher" if first.teacher else ""
        yield f"{first.title}: {first.student.text} for the student{against}, on {results.data.rows:,} rows."
    label, start, end = loss.ends
    change = f" ({(end - start) / start:+.0%})" if start else ""
    yield f"The {label} loss went from {start:.3f} to {end:.3f}{change} in {_steps(loss):,g} steps."
    if teacher is not None:
        ratio = teacher.model.parameters / results.model.parameters
        yield (
            f"The student has {results.model.parameters:,} parameters, the teacher {teacher.model.parameters:,} "
            f"({ratio:.1f} times as many)."
        )


def _steps(curve: Curve) -> float:
    return max(step for step, _ in (*curve.train, *curve.val))


def _teacher_source(results: Results, teacher: Results | None) -> str:
    if teacher is not None:
        return "The teacher was run over the same rows."
    if results.teacher is not None:
        return "The teacher's values are those of its predictions that the store kept, so it has no loss here."
    return "There are no predictions of a teacher to compare with."


def _manifest(results: Results) -> tuple[Manifest | None, str]:
    """The manifest of the store that was evaluated on, or why it cannot be shown."""
    if results.data.kind != "store":
        return None, "The rows came from a file, not from a store."
    try:
        manifest = read_manifest(Path(results.data.path))
    except KDError as error:
        return None, str(error)
    if manifest.content_sha256 != results.data.fingerprint:
        return None, f"The store at {results.data.path} was built again since."
    return manifest, ""


def _store_facts(manifest: Manifest, path: Path) -> Facts:
    head = manifest.head
    facts = {
        "store": str(path),
        "rows": f"{manifest.rows:,}",
        "label tokens": f"{manifest.label_tokens:,}",
        "bytes of all parts": f"{sum(part.bytes for part in manifest.parts):,}",
        "vocabulary": f"{head.vocab_size:,} ids",
    }
    if head.codec is not None:
        size = manifest.signal_bytes_per_token
        dense = 2 * head.vocab_size
        settings = ", ".join(f"{key} = {value}" for key, value in head.codec.config.items())
        facts["codec"] = f"{head.codec.name} ({settings})" if settings else head.codec.name
        facts["signal"] = f"{size:,.1f} bytes per label token, 1/{dense / max(size, 1e-9):,.0f} of float16 logits"
    if head.encoders:
        facts["embeddings"] = ", ".join(f"{column} ({model})" for column, model in head.encoders.items())
    return facts


def _provenance(results: Results, teacher: Results | None, manifest: Manifest | None, run: Path) -> Facts:
    model, data, settings = results.model, results.data, results.settings
    facts = {
        "student": f"{model.path}, {model.parameters:,} parameters",
        "student weights (SHA-256)": model.weights_sha256,
    }
    if teacher is not None:
        facts["teacher"] = f"{teacher.model.path}, {teacher.model.parameters:,} parameters"
        facts["teacher weights (SHA-256)"] = teacher.model.weights_sha256
    if results.teacher is not None:
        facts["teacher of the store"] = results.teacher.name
        facts["its weights (SHA-256)"] = results.teacher.weights_sha256
    facts |= {
        "data": f"{data.path}, {data.rows:,} rows, {data.tokens:,} label tokens, {data.rejected:,} rejected",
        "data fingerprint": data.fingerprint,
        "generation": ("greedy" if settings.num_beams == 1 else f"{settings.num_beams} beams")
        + f", at most {settings.max_output_tokens} tokens, prompts of at most {settings.max_input_tokens}, "
        f"batches of {settings.batch_size} on {settings.device}",
        "evaluated in": f"{results.seconds:,.1f} s",
    }
    if manifest is not None:
        facts["seed of the store"] = str(manifest.head.seed)
    if (run / "config.json").is_file():
        facts["training configuration (SHA-256)"] = sha256_file(run / "config.json")
    return facts | {"versions": ", ".join(f"{name} {number}" for name, number in results.versions.items())}


def _config(run: Path) -> Facts:
    """The settings in the run's ``config.json``, flat; nothing where there is no such file."""
    path = run / "config.json"
    if not path.is_file():
        return {}
    try:
        return dict(_flat("", json.loads(path.read_bytes())))
    except (ValueError, RecursionError) as error:
        raise InputError(f"Expected JSON in {path}. Got: {error}. Restore the file or remove it.") from None


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), item)
    elif value is not None:
        yield prefix, value if isinstance(value, str) else json.dumps(value)
