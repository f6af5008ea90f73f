"""Build stores: scan the sources, split, then encode and write one part at a time."""

import importlib.metadata
import resource
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from kdstore.codecs import Codec, build_codec
from kdstore.console import note, progress
from kdstore.encode.embed import load_encoder
from kdstore.encode.pipeline import Pipeline
from kdstore.encode.scan import QUARANTINE, Sides, scan, source_sha256, split
from kdstore.encode.spool import Spool
from kdstore.encode.teacher import Teacher
from kdstore.encode.tokenizer import Tokenizer
from kdstore.errors import UsageError
from kdstore.store import atomic, layout
from kdstore.store.manifest import CodecRecord, Head, Limits, Manifest, read_manifest
from kdstore.store.writer import begin, check_target, complete_parts, finalize, write_part
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
    codec: str = "topk"
    codec_config: Mapping[str, Any] = field(default_factory=dict)
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
    _check(options)
    with ExitStack() as stack:
        for out in filter(None, (options.out, options.val_out)):
            stack.enter_context(atomic.locked(layout.lock_path(out), "building"))
        return _build(options)


def _build(options: BuildOptions) -> list[Built]:
    start = time.monotonic()
    pipeline = _pipeline(options)
    # The spool lives in the store that is finished last.
    spool_path = layout.spool_path(options.val_out or options.out)
    spool = scan(
        spool_path,
        options.rows,
        options.val_rows,
        TASKS.get(options.task),
        pipeline.tokenizer,
        pipeline.limits,
        strict=options.strict,
        limit=options.limit,
    )
    fraction = options.val_fraction if options.val_out and not options.val_rows else None
    sides = split(spool, fraction, options.seed, validate=options.val_out is not None)
    _tell(spool, sides)
    jobs = [_Job(options.out, sides.train, "train" if options.val_out else "all")]
    if options.val_out:
        jobs.append(_Job(options.val_out, sides.validation, "validation"))
    shared = _shared_head(options, pipeline, spool, sides)
    heads = [_head(job, shared, options, pipeline, spool) for job in jobs]
    # Settings of all stores are checked before the first part of any is computed.
    unfinished = [begin(job.out, head) for job, head in zip(jobs, heads, strict=True)]
    for job, head, todo in zip(jobs, heads, unfinished, strict=True):
        if todo:
            _write_parts(job, head, pipeline, spool, spool_path / QUARANTINE)
    for job, head, todo in zip(jobs, heads, unfinished, strict=True):
        if todo:
            finalize(job.out, head)
    seconds = time.monotonic() - start
    return [Built(job.out, read_manifest(job.out), seconds, peak_rss_bytes()) for job in jobs]


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


def _pipeline(options: BuildOptions) -> Pipeline:
    tokenizer = Tokenizer(options.tokenizer or str(options.teacher))
    teacher: Teacher | None = None
    codec: Codec[Any] | None = None
    if options.teacher is not None:
        teacher = Teacher(options.teacher, options.device, options.dtype, options.batch_size)
        teacher.check_vocabulary(len(tokenizer.backend))
        codec = build_codec(options.codec, options.codec_config, teacher.vocab_size)
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
        codec=codec,
        predict=options.predict and teacher is not None,
    )


def _shared_head(options: BuildOptions, pipeline: Pipeline, spool: Spool, sides: Sides) -> dict[str, Any]:
    """The settings that both stores of a build have in common."""
    task, teacher, codec = TASKS.get(options.task), pipeline.teacher, pipeline.codec
    tokenizer = pipeline.tokenizer.record(teacher.decoder_start_id if teacher else None)
    return {
        "task": task.name,
        "template": task.template,
        "schema": pipeline.schema(),
        "vocab_size": teacher.vocab_size if teacher else tokenizer.vocab_size,
        "codec": CodecRecord(name=codec.name, config=codec.config.model_dump(mode="json")) if codec else None,
        "teacher": teacher.record() if teacher else None,
        "tokenizer": tokenizer,
        "encoders": {encoder.column: encoder.fingerprint for encoder in pipeline.encoders},
        "limits": pipeline.limits,
        "source_sha256": source_sha256([*options.rows, *options.val_rows]),
        "scan": {**spool.counts, "leaked": sides.leaked, "shared_groups": sides.shared_groups},
        "versions": {name: importlib.metadata.version(name) for name in _VERSIONED}
        | {"python": sys.version.split()[0]},
    }


def _head(job: _Job, shared: dict[str, Any], options: BuildOptions, pipeline: Pipeline, spool: Spool) -> Head:
    by_group = (
        f" ({options.val_fraction:g} of the rows, by group)" if options.val_out and not options.val_rows else ""
    )
    part_rows, block_rows = _sizes(options, pipeline, spool.index["label_tokens"][job.rows])
    return Head(
        **shared,
        split=f"{job.side}{by_group}",
        seed=options.seed,
        rows=len(job.rows),
        part_rows=part_rows,
        block_rows=block_rows,
    )


def _sizes(options: BuildOptions, pipeline: Pipeline, label_tokens: NDArray[np.uint32]) -> tuple[int, int]:
    """Rows per part and per block: as asked for, or as many as the memory for one part's signal allows."""
    arrays = pipeline.codec.arrays() if pipeline.codec else ()
    per_token = sum(np.dtype(a.dtype).itemsize * int(np.prod(a.shape)) for a in arrays)
    per_row = max(1.0, per_token * float(label_tokens.mean()))
    rows = max(1, min(options.part_rows, int(_PART_BYTES / per_row)))
    block_rows = min(options.block_rows, rows)
    return rows // block_rows * block_rows, block_rows


def _write_parts(job: _Job, head: Head, pipeline: Pipeline, spool: Spool, quarantine: Path) -> None:
    pipeline.tokenizer.save(job.out / layout.TOKENIZER)
    shutil.copyfile(quarantine, job.out / QUARANTINE)
    # The build is a free global shuffle: cheap block shuffling is enough in training.
    order = job.rows[np.random.default_rng(head.seed).permutation(len(job.rows))]
    done = complete_parts(job.out, head, checksums=True)
    if done:
        note(f"{job.out}: continuing, {len(done)} of {-(-head.rows // head.part_rows)} parts are complete.")
    with progress(f"{job.out.name}: encoding", head.rows) as bar:
        for index, start in enumerate(range(0, head.rows, head.part_rows)):
            rows = order[start : start + head.part_rows]
            if index in done:
                bar.advance(len(rows))
                continue
            encoded = pipeline.encode(list(spool.read(rows.tolist())), bar)
            write_part(job.out, index, head.schema_.pack(encoded), head.block_rows)


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
