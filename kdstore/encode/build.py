"""Build stores: scan the sources, split, then encode and write one part at a time."""

import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from kdstore.console import note
from kdstore.encode.embed import load_encoders
from kdstore.encode.fit import Settled, SignalOptions, adopt, settle
from kdstore.encode.parts import segment, write_parts
from kdstore.encode.pipeline import Pipeline
from kdstore.encode.scan import Rows, Sides, scan, split
from kdstore.encode.spool import QUARANTINE, Spool
from kdstore.encode.teacher import Teacher
from kdstore.encode.tokenizer import Tokenizer
from kdstore.encode.worklist import Job, Share, failures_recorded, wait_until_prepared
from kdstore.errors import MismatchError, UsageError
from kdstore.fidelity.size import Layout
from kdstore.store import atomic, layout
from kdstore.store.manifest import MANIFEST, Head, Limits, Manifest, read_manifest
from kdstore.store.shared import publish_shared, stage_shared
from kdstore.store.writer import (
    begin,
    check_target,
    finish,
    is_finished,
    join,
    pinned_head,
    prepare,
)
from kdstore.tasks import TASKS

_PART_BYTES = 256 << 20  # raw bytes of a part's largest columns; bounds memory for fat codecs


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
    max_bad: float = 0.1
    container: Literal["zarr", "webdataset"] = "zarr"
    share: Share | None = None
    wait_minutes: float = 60.0

    @property
    def outs(self) -> tuple[Path, ...]:
        """The stores of this build."""
        return (self.out, self.val_out) if self.val_out else (self.out,)


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
    with atomic.full_disk_named(*options.outs):
        if options.share:
            with failures_recorded(options.out, options.share):
                return _build_share(options, options.share, open_origin)
        with _alone(options):
            return _build(options, Share(), open_origin)


@contextmanager
def _alone(options: BuildOptions) -> Iterator[None]:
    """Be the only process that settles these stores, and leave no spool in finished ones, also when refused."""
    with ExitStack() as stack:
        for out in options.outs:
            stack.enter_context(atomic.locked(layout.lock_path(out), "building"))
        stack.callback(_tidy, options.outs)
        yield


def _tidy(outs: Sequence[Path]) -> None:
    # The spool of a store that is being built may lie in another one that is finished.
    if not any(layout.head_path(out).is_file() for out in outs):
        for out in filter(is_finished, outs):
            atomic.remove(layout.spool_path(out))


def _build_share(options: BuildOptions, share: Share, open_origin: Callable[[BuildOptions], Origin]) -> list[Built]:
    # Others than process 0 do not see settings that differ from those of a store which is finished.
    late = (*atomic.VANISHED, MismatchError) if share.index else atomic.VANISHED
    if share.index:
        wait_until_prepared(options.outs, options.wait_minutes)
        if all(map(is_finished, options.outs)) and finish(options.outs):
            note("the build is finished already.")
            return _finished(options, 0.0)
    try:
        return _build(options, share, open_origin)
    except late:
        # Another process may have written the last part, finished, and removed what this one was reading.
        if not finish(options.outs):
            raise
        return _finished(options, 0.0)


def _build(options: BuildOptions, share: Share, open_origin: Callable[[BuildOptions], Origin]) -> list[Built]:
    start = time.monotonic()
    origin = open_origin(options)
    # A build without shares is alone all the time.
    with _alone(options) if options.share and share.index == 0 else nullcontext():
        # The spool lives in the store that is finished last.
        spool = read_rows(options, origin, layout.spool_path(options.outs[-1]), may_write=share.index == 0)
        jobs, pipeline = _prepare(options, origin, spool, first=share.index == 0)
    write_parts(jobs, pipeline, spool, share)
    finish(options.outs)
    return _finished(options, time.monotonic() - start)


def _finished(options: BuildOptions, seconds: float) -> list[Built]:
    """Those of the stores that are there."""
    there = (out for out in options.outs if (out / MANIFEST).is_file())
    return [Built(out, read_manifest(out), seconds, peak_rss_bytes()) for out in there]


def _prepare(options: BuildOptions, origin: Origin, spool: Spool, *, first: bool) -> tuple[list[Job], Pipeline]:
    """Settle the stores of a build, or adopt what an earlier start has settled; the ``first`` process writes it."""
    fraction = options.val_fraction if options.val_out and not options.val_rows else None
    sides = split(spool, fraction, options.seed, validate=options.val_out is not None)
    if first:
        _tell(spool, sides)
    rows = [shuffled(side, options.seed) for side in (sides.train, sides.validation)[: len(options.outs)]]
    settled = _settle(options, origin, spool, rows[0])
    pipeline = replace(origin.pipeline, codec=settled.codec) if settled else origin.pipeline
    common = _common_head(options, pipeline, settled) | origin.head
    jobs = [
        Job(out, _head(side, kept, common, options, pipeline, spool, sides), kept)
        for out, kept, side in zip(options.outs, rows, _side_names(options), strict=True)
    ]
    if first:
        for job in jobs:
            _stage(job.out, settled)
    # Settings of all stores are checked before the first part of any is computed.
    unfinished = [(begin if first else join)(job.out, job.head) for job in jobs]
    for job, todo in zip(jobs, unfinished, strict=True):
        # What is prepared is left alone: others may be reading it.
        if first and todo and not layout.prepared_path(job.out).is_file():
            publish_shared(job.out)
            pipeline.tokenizer.save(job.out / layout.TOKENIZER)
            shutil.copyfile(spool.quarantine, job.out / QUARANTINE)
            prepare(job.out)
    if settled and any(unfinished):
        kept = np.concatenate([job.rows for job, todo in zip(jobs, unfinished, strict=True) if todo])
        note(f"to write: {settled.cost(int(spool.index['label_tokens'][kept].sum()))}.")
    return jobs, pipeline


def read_rows(options: BuildOptions, origin: Origin, spool_path: Path, *, may_write: bool = True) -> Spool:
    """The usable rows of a build, spooled at ``spool_path``; raises `KDError` as `scan` does.

    Where another process was to spool them (not ``may_write``), they must be there.
    """
    return scan(
        spool_path,
        options.rows,
        options.val_rows,
        origin.rows,
        origin.pipeline.tokenizer,
        origin.pipeline.limits,
        strict=options.strict,
        limit=options.limit,
        max_bad=options.max_bad,
        may_write=may_write,
    )


def shuffled(rows: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Rows in the order they are written: a free global shuffle, so that block shuffling is enough later."""
    return rows[np.random.default_rng(seed).permutation(len(rows))]


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
        encoders=load_encoders(options.embed, device),
        teacher=teacher,
        codec=None,
        predict=options.predict and teacher is not None,
    )


def _settle(options: BuildOptions, origin: Origin, spool: Spool, order: NDArray[np.int64]) -> Settled | None:
    """The codec of all stores of a build: fitted on the first of them, or what an earlier start has settled."""
    if origin.settle is None:
        return None
    for out in options.outs:
        head = pinned_head(out)
        if head and head.codec is None:
            raise MismatchError(
                f"Expected no --teacher, as the store {out} of tokens was built without. Got one. "
                "Use the same settings, or another --out."
            )
        if head and head.codec:
            return adopt(out, head.codec, options.signal, head.vocab_size)
    layout = Layout(options.block_rows, options.part_rows, options.container)
    return origin.settle(options.signal, spool, order.tolist(), layout)


def _stage(out: Path, settled: Settled | None) -> None:
    """Stage the shared arrays of a store, unless its settings are pinned: then they are there."""
    if settled and pinned_head(out) is None:
        stage_shared(out, settled.shared)


def _side_names(options: BuildOptions) -> tuple[str, ...]:
    if not options.val_out:
        return ("all",)
    how = "" if options.val_rows else f" ({options.val_fraction:g} of the rows, by group)"
    return f"train{how}", f"validation{how}"


def _common_head(options: BuildOptions, pipeline: Pipeline, settled: Settled | None) -> dict[str, Any]:
    """The settings that both stores of a build have in common."""
    return {
        "schema": pipeline.schema(),
        "codec": settled.record if settled else None,
        "encoders": {encoder.column: encoder.fingerprint for encoder in pipeline.encoders},
        "limits": pipeline.limits,
        "seed": options.seed,
        "container": options.container,
    }


def _head(
    side: str, rows: NDArray[np.int64], common: dict[str, Any], options: BuildOptions, pipeline: Pipeline,
    spool: Spool, sides: Sides,
) -> Head:  # fmt: skip
    part_rows, block_rows = _sizes(options, pipeline, spool, rows)
    return Head(
        **common,
        split=side,
        part_rows=part_rows,
        block_rows=block_rows,
        segments=(segment(spool, sides, len(rows)),),
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
