"""Build stores: scan the sources, split, then encode and write one part at a time."""

import importlib.metadata
import resource
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from kdstore.console import note, progress
from kdstore.encode.embed import load_encoder
from kdstore.encode.fit import Settled, SignalOptions, adopt, settle
from kdstore.encode.pipeline import Pipeline
from kdstore.encode.scan import QUARANTINE, Rows, Sides, scan, source_sha256, split
from kdstore.encode.spool import Spool
from kdstore.encode.teacher import Teacher
from kdstore.encode.tokenizer import Tokenizer
from kdstore.errors import MismatchError, UsageError
from kdstore.fidelity import drift
from kdstore.fidelity.trial import Layout
from kdstore.store import atomic, layout
from kdstore.store.manifest import MANIFEST, Head, Limits, Manifest, read_manifest
from kdstore.store.shared import publish_shared, stage_shared
from kdstore.store.writer import begin, check_target, complete_parts, finalize, pinned_head, write_part
from kdstore.tasks import TASKS

_PART_BYTES = 256 << 20  # raw bytes of a part's largest columns; bounds memory for fat codecs
_VERSIONED = ("kdstore", "torch", "transformers", "tokenizers", "zarr", "numcodecs")


@dataclass(frozen=True)
class BuildOptions:
    """What `build` is asked for; the options of ``kdstore build``.

    Without a ``teacher`` the store holds tokens only (``tokenizer`` is then required): enough to train a teacher.
    ``val_out`` asks for a validation store, from ``val_rows`` or from ``val_fraction`` of the rows.
    """

    rows: tuple[Path, ...]
    out: Path
    val_rows: tuple[Path, ...] = ()
    val_out: Path | None = None
    val_fraction: float = 0.1
    task: str = "java_assertion"
    teacher: str | None = None
    tokenizer: str | None = None
    signal: SignalOptions = field(default_factory=SignalOptions)
    predict: bool = True
    embed: tuple[str, ...] = ()
    max_input_tokens: int = 512
    max_output_tokens: int = 128
    overlong: Literal["truncate", "skip"] = "truncate"
    batch_size: int = 64
    part_rows: int = 1024
    block_rows: int = 128
    device: str = "auto"
    dtype: str = "fp32"
    seed: int = 42
    limit: int | None = None
    strict: bool = False


@dataclass(frozen=True)
class Built:
    """One finished store of a build."""

    path: Path
    manifest: Manifest
    seconds: float
    peak_rss_bytes: int


def build(options: BuildOptions) -> list[Built]:
    """Build the store, and the validation store when asked; continue where an interrupted build stopped.

    Raises
    ------
    KDError
        See `kdstore.errors`: unusable rows, a teacher that cannot be loaded, settings that differ from those the
        build was started with, ...
    """
    return build_from(options, from_teacher)


@dataclass(frozen=True)
class Origin:
    """Where the rows of a build come from, and their signal.

    ``settle`` fits the codec, None where no signal is kept; ``head`` says of the teacher what the head keeps.
    """

    rows: Rows
    pipeline: Pipeline
    settle: Callable[[SignalOptions, Spool, Sequence[int], Layout], Settled] | None
    head: dict[str, Any]


def build_from(options: BuildOptions, open_origin: Callable[[BuildOptions], Origin]) -> list[Built]:
    """Build from another origin than a teacher's forward pass; ``open_origin`` is called once options are checked.

    Raises
    ------
    KDError
        As for `build`.
    """
    _check(options)
    with ExitStack() as stack:
        for out in filter(None, (options.out, options.val_out)):
            stack.enter_context(atomic.locked(layout.lock_path(out), "building"))
            stack.callback(_tidy, out)
        return _build(options, open_origin)


def _tidy(out: Path) -> None:
    """Remove the rows that were spooled in a store which is finished, also when the build was refused."""
    if (out / MANIFEST).is_file():
        atomic.remove(layout.spool_path(out))


def _build(options: BuildOptions, open_origin: Callable[[BuildOptions], Origin]) -> list[Built]:
    start = time.monotonic()
    origin = open_origin(options)
    pipeline = origin.pipeline
    # The spool lives in the store that is finished last.
    spool_path = layout.spool_path(options.val_out or options.out)
    spool = read_rows(options, origin, spool_path)
    fraction = options.val_fraction if options.val_out and not options.val_rows else None
    sides = split(spool, fraction, options.seed, validate=options.val_out is not None)
    _tell(spool, sides)
    jobs = [_Job(options.out, sides.train, "train" if options.val_out else "all")]
    if options.val_out:
        jobs.append(_Job(options.val_out, sides.validation, "validation"))
    settled = _settle(jobs, options, origin, spool)
    if settled:
        pipeline = replace(pipeline, codec=settled.codec)
    common = _common_head(options, pipeline, spool, sides, settled) | origin.head
    heads = [_head(job, common, options, pipeline, spool) for job in jobs]
    for job in jobs:
        _stage(job.out, settled)
    # Settings of all stores are checked before the first part of any is computed.
    unfinished = [begin(job.out, head) for job, head in zip(jobs, heads, strict=True)]
    for job in jobs:
        publish_shared(job.out)
    if settled and any(unfinished):
        kept = np.concatenate([job.rows for job, todo in zip(jobs, unfinished, strict=True) if todo])
        note(f"to write: {settled.cost(int(spool.index['label_tokens'][kept].sum()))}.")
    for job, head, todo in zip(jobs, heads, unfinished, strict=True):
        if todo:
            _write_parts(job, head, pipeline, spool, spool_path / QUARANTINE)
    for job, head, todo in zip(jobs, heads, unfinished, strict=True):
        if todo:
            finalize(job.out, head)
    seconds = time.monotonic() - start
    return [Built(job.out, read_manifest(job.out), seconds, peak_rss_bytes()) for job in jobs]


def read_rows(options: BuildOptions, origin: Origin, spool_path: Path) -> Spool:
    """The usable rows of a build, spooled at ``spool_path``; raises `KDError` as `scan` does."""
    return scan(
        spool_path,
        options.rows,
        options.val_rows,
        origin.rows,
        origin.pipeline.tokenizer,
        origin.pipeline.limits,
        strict=options.strict,
        limit=options.limit,
    )


def shuffled(rows: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Rows in the order they are written: a free global shuffle, so that block shuffling is enough later."""
    return rows[np.random.default_rng(seed).permutation(len(rows))]


@dataclass(frozen=True)
class _Job:
    out: Path
    rows: NDArray[np.int64]
    side: str


def _check(options: BuildOptions) -> None:
    if options.teacher is None and options.tokenizer is None:
        raise UsageError("Expected --teacher, or --tokenizer for a store without a signal. Got neither.")
    if options.val_rows and options.val_out is None:
        raise UsageError("Expected --val-out with --val-rows. Got none. Say where the validation store goes.")
    if options.part_rows < options.block_rows:
        raise UsageError(
            f"Expected --part-rows of at least --block-rows. Got {options.part_rows} and {options.block_rows}."
        )
    out, val_out = options.out.resolve(), options.val_out.resolve() if options.val_out else None
    if val_out and (out in (val_out, *val_out.parents) or val_out in out.parents):
        raise UsageError(
            f"Expected two separate directories for --out and --val-out. Got {options.out} and {options.val_out}."
        )
    for out in filter(None, (options.out, options.val_out)):
        check_target(out)


def from_teacher(options: BuildOptions) -> Origin:
    """Rows that a teacher's forward pass gives a signal; raises `KDError` for a model that cannot be loaded."""
    if options.teacher is None and options.signal != SignalOptions():
        raise UsageError("Expected --teacher with options for its signal (--codec, --target-angle, ...). Got none.")
    pipeline = _pipeline(options)
    task, teacher = TASKS.get(options.task), pipeline.teacher
    head = {
        "task": task.name,
        "template": task.template,
        "vocab_size": teacher.vocab_size if teacher else len(pipeline.tokenizer.backend),
        "teacher": teacher.record() if teacher else None,
        "tokenizer": pipeline.tokenizer.record(teacher.decoder_start_id if teacher else None),
    }
    return Origin(
        Rows(task.example, {"task": task.name}), pipeline, partial(settle, pipeline) if teacher else None, head
    )


def _pipeline(options: BuildOptions) -> Pipeline:
    tokenizer = Tokenizer(options.tokenizer or str(options.teacher))
    teacher: Teacher | None = None
    if options.teacher is not None:
        options.signal.check()
        teacher = Teacher(options.teacher, options.device, options.dtype, options.batch_size)
        teacher.check_vocabulary(len(tokenizer.backend))
    device = teacher.device if teacher else torch.device("cpu")
    return Pipeline(
        tokenizer=tokenizer,
        limits=Limits(
            max_input_tokens=options.max_input_tokens,
            max_output_tokens=options.max_output_tokens,
            overlong=options.overlong,
        ),
        text_columns=TASKS.get(options.task).text_columns,
        encoders=tuple(load_encoder(spec, device) for spec in options.embed),
        teacher=teacher,
        codec=None,
        predict=options.predict and teacher is not None,
    )


def _settle(jobs: list[_Job], options: BuildOptions, origin: Origin, spool: Spool) -> Settled | None:
    """The codec of all stores of a build: fitted on the first of them, or what an earlier start has settled."""
    if origin.settle is None:
        return None
    for job in jobs:
        head = pinned_head(job.out)
        if head and head.codec is None:
            raise MismatchError(
                f"Expected no --teacher, as the store {job.out} of tokens was built without. Got one. "
                "Use the same settings, or another --out."
            )
        if head and head.codec:
            return adopt(job.out, head.codec, options.signal, head.vocab_size)
    layout = Layout(options.block_rows, options.part_rows)
    return origin.settle(options.signal, spool, shuffled(jobs[0].rows, options.seed).tolist(), layout)


def _stage(out: Path, settled: Settled | None) -> None:
    """Stage the shared arrays of a store, unless its settings are pinned: then they are there."""
    if settled and pinned_head(out) is None:
        stage_shared(out, settled.shared)


def _common_head(
    options: BuildOptions, pipeline: Pipeline, spool: Spool, sides: Sides, settled: Settled | None
) -> dict[str, Any]:
    """The settings that both stores of a build have in common."""
    return {
        "schema": pipeline.schema(),
        "codec": settled.record if settled else None,
        "encoders": {encoder.column: encoder.fingerprint for encoder in pipeline.encoders},
        "limits": pipeline.limits,
        "source_sha256": source_sha256([*options.rows, *options.val_rows]),
        "scan": {**spool.counts, "leaked": sides.leaked, "shared_groups": sides.shared_groups},
        "versions": {name: importlib.metadata.version(name) for name in _VERSIONED}
        | {"python": sys.version.split()[0]},
    }


def _head(job: _Job, common: dict[str, Any], options: BuildOptions, pipeline: Pipeline, spool: Spool) -> Head:
    by_group = (
        f" ({options.val_fraction:g} of the rows, by group)" if options.val_out and not options.val_rows else ""
    )
    part_rows, block_rows = _sizes(options, pipeline, spool, job.rows)
    return Head(
        **common,
        split=f"{job.side}{by_group}",
        seed=options.seed,
        rows=len(job.rows),
        part_rows=part_rows,
        block_rows=block_rows,
    )


def _sizes(options: BuildOptions, pipeline: Pipeline, spool: Spool, kept: NDArray[np.int64]) -> tuple[int, int]:
    """Rows per part and per block: as asked for, or as many as the memory for one part allows.

    That is filled by the signal, or by what an import reads its signal from.
    """
    arrays = pipeline.codec.arrays() if pipeline.codec else ()
    per_token = sum(array.bytes for array in arrays)
    per_row = max(1.0, per_token * float(spool.index["label_tokens"][kept].mean()), spool.mean_row_bytes)
    rows = max(1, min(options.part_rows, int(_PART_BYTES / per_row)))
    block_rows = min(options.block_rows, rows)
    return rows // block_rows * block_rows, block_rows


def _write_parts(job: _Job, head: Head, pipeline: Pipeline, spool: Spool, quarantine: Path) -> None:
    pipeline.tokenizer.save(job.out / layout.TOKENIZER)
    shutil.copyfile(quarantine, job.out / QUARANTINE)
    order = shuffled(job.rows, head.seed)
    done = complete_parts(job.out, head, checksums=True)
    if done:
        note(f"{job.out}: continuing, {len(done)} of {-(-head.rows // head.part_rows)} parts are complete.")
    with progress(f"{job.out.name}: encoding", head.rows) as bar:
        for index, start in enumerate(range(0, head.rows, head.part_rows)):
            rows = order[start : start + head.part_rows]
            if index in done:
                bar.advance(len(rows))
                continue
            encoded, signal_kl = pipeline.encode(list(spool.read(rows.tolist())), bar)
            write_part(job.out, index, head.schema_.pack(encoded), head.block_rows, signal_kl)
            _tell_drift(index, signal_kl, head)


def _tell_drift(index: int, signal_kl: float | None, head: Head) -> None:
    times = drift.ratio(signal_kl, head.codec) if head.codec else None
    if times is not None and times > drift.LIMIT:
        note(
            f"part {index}: the codec fits it {times:.1f} times worse than the rows it was fitted on (KL "
            f"{signal_kl:.2g} nats at T = {drift.TEMPERATURE:g}). Fit it on more rows: --fit-positions."
        )


def _tell(spool: Spool, sides: Sides) -> None:
    counts = ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in spool.counts.items() if value)
    note(f"rows: {counts}.")
    if sides.leaked:
        note(f"{sides.leaked:,} validation rows dropped: their prompt and target also occur in training.")
    if sides.shared_groups:
        note(
            f"{sides.shared_groups:,} test files have rows on both sides: a later assertion's prompt holds earlier "
            "ones, so validation may look better than it is. Split by file, or use --val-fraction."
        )


def peak_rss_bytes() -> int:
    """Largest resident set of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
