"""Encode and write the parts of stores that are settled, and say in the manifest what their rows came from."""

import importlib.metadata
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kdstore.console import Bar, note, progress
from kdstore.encode.pipeline import Pipeline
from kdstore.encode.scan import Sides
from kdstore.encode.spool import Spool
from kdstore.encode.worklist import Job, Share
from kdstore.fidelity import drift
from kdstore.schema import Block
from kdstore.store import layout
from kdstore.store.manifest import Head, Segment
from kdstore.store.part_record import complete_parts
from kdstore.store.writer import write_part

_VERSIONED = ("kdstore", "torch", "transformers", "tokenizers", "zarr", "numcodecs")


def segment(spool: Spool, sides: Sides, rows: int) -> Segment:
    """What the manifest says of ``rows`` rows of a spool."""
    return Segment(
        source_sha256=spool.source_sha256,
        rows=rows,
        scan={**spool.counts, "leaked": sides.leaked, "shared_groups": sides.shared_groups},
        versions={name: importlib.metadata.version(name) for name in _VERSIONED} | {"python": sys.version.split()[0]},
    )


def write_parts(jobs: Sequence[Job], pipeline: Pipeline, spool: Spool, share: Share) -> None:
    """Encode and write those parts of the last segments that are in this share and not in place."""
    work = share.of([(job, index, rows) for job in jobs for index, rows in job.parts()])
    done = {
        job.out: complete_parts(
            job.out, job.head, [index for other, index, _ in work if other is job], checksums=True
        )
        for job in jobs
    }
    adopted = sum(map(len, done.values()))
    if adopted:
        note(f"continuing: {adopted} of {len(work)} parts are complete.")
    with progress(f"{jobs[0].out.name}: encoding", sum(len(rows) for _, _, rows in work)) as bar:
        for job, index, rows in work:
            bar.describe(f"{job.out.name}: encoding")
            if index in done[job.out] or layout.part_path(job.out, index).is_dir():
                bar.advance(len(rows))
                continue
            block, signal_kl = _encode(pipeline, spool, rows, job.head, bar)
            write_part(job.out, job.head, index, block, signal_kl)
            _tell_drift(index, signal_kl, job.head)


def _encode(
    pipeline: Pipeline, spool: Spool, rows: NDArray[np.int64], head: Head, bar: Bar
) -> tuple[Block, float | None]:
    """The block of a part; the encoded rows, as large as the block, are not kept while it is written."""
    encoded, signal_kl = pipeline.encode(list(spool.read(rows.tolist())), bar)
    return head.schema_.pack(encoded), signal_kl


def _tell_drift(index: int, signal_kl: float | None, head: Head) -> None:
    times = drift.ratio(signal_kl, head.codec) if head.codec else None
    if times is not None and times > drift.LIMIT:
        note(
            f"part {index}: the codec fits it {times:.1f} times worse than the rows it was fitted on (KL "
            f"{signal_kl:.2g} nats at T = {drift.TEMPERATURE:g}). Fit it on more rows: --fit-positions."
        )
