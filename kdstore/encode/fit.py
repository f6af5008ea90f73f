"""Settle a codec before the first part is written: choose its settings, fit it, and measure how true it is."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdstore.codecs import CODECS, Codec, build_codec
from kdstore.console import progress
from kdstore.encode.capture import capture
from kdstore.encode.pipeline import Pipeline
from kdstore.encode.spool import Spool
from kdstore.encode.teacher import Teacher, weights_sha256
from kdstore.errors import MismatchError, UsageError
from kdstore.fidelity.plan import recommend
from kdstore.fidelity.probe import Probe
from kdstore.fidelity.reference import LabelFrequencies, Reference, TrainedStudent
from kdstore.fidelity.size import Layout
from kdstore.fidelity.trial import Candidate, Trial, run_trials
from kdstore.schema import Arrays
from kdstore.store.manifest import CodecRecord, Fidelity
from kdstore.store.shared import read_shared, shared_records
from kdstore.validation import parse

_MASK_SHARE = 16  # a codec with nothing to fit needs fewer positions: to see which ids are never emitted


@dataclass(frozen=True)
class SignalOptions:
    """How the teacher's output is to be kept.

    ``codec`` with ``settings``; or with a ``target_angle`` in degrees or ``target_bytes`` per label token, for which
    the codec's own ladder of settings is tried. ``fit_positions`` and ``fidelity_positions`` label positions are
    used to fit and to measure. Gradients are compared at ``student``, a model directory, where there is one.
    """

    codec: str = "lowrank"
    settings: Mapping[str, Any] = field(default_factory=dict)
    target_angle: float | None = None
    target_bytes: float | None = None
    fit_positions: int = 16_384
    fidelity_positions: int = 2_048
    student: str | None = None

    def check(self) -> None:
        """Raise `KDError` for what can be refused before any row is read."""
        parse(CODECS.get(self.codec).Config, self.settings, f"settings of codec {self.codec!r}")
        if self.target_angle is not None and self.target_bytes is not None:
            raise UsageError("Expected --target-angle or --target-bytes. Got both. Leave one out.")
        if self.settings and (self.target_angle is not None or self.target_bytes is not None):
            raise UsageError("Expected --codec-set or a target. Got both. A target chooses the settings itself.")

    @property
    def wanted_positions(self) -> int:
        """Label positions that the fit is to see."""
        return self.fit_positions if CODECS.get(self.codec).fitted else max(1, self.fit_positions // _MASK_SHARE)

    @property
    def requested(self) -> dict[str, Any]:
        """What of it the manifest keeps, and a build that continues must ask for again."""
        return {
            "codec": self.codec, "settings": dict(self.settings), "target_angle": self.target_angle,
            "target_bytes": self.target_bytes, "fit_positions": self.fit_positions,
            "fidelity_positions": self.fidelity_positions, "student": self.student,
        }  # fmt: skip

    def candidates(self) -> list[Candidate]:
        """What to try."""
        if self.target_angle is None and self.target_bytes is None:
            return [Candidate(self.codec, self.settings)]
        return [Candidate(self.codec, settings) for settings in CODECS.get(self.codec).ladder]


@dataclass(frozen=True)
class Settled:
    """A codec that is ready to encode, what a manifest says of it, and its arrays to keep once.

    ``bytes_per_token`` on disk and ``tokens_per_s`` of teacher and codec were measured on a sample; None where an
    earlier start has settled the codec.
    """

    codec: Codec[Any]
    record: CodecRecord
    shared: Arrays
    bytes_per_token: float | None = None
    tokens_per_s: float | None = None

    def cost(self, tokens: int) -> str:
        """What so many label tokens will cost, in one line."""
        if self.bytes_per_token is None or self.tokens_per_s is None:
            return f"{tokens:,} label tokens, {self.codec.summary()}"
        minutes = tokens / self.tokens_per_s / 60
        return (
            f"{tokens:,} label tokens as {self.codec.summary()}: about {self.bytes_per_token:.1f} bytes per token, "
            f"{self.bytes_per_token * tokens / 1e6:,.1f} MB, and {minutes:,.1f} minutes of teacher and codec"
        )


def adopt(root: Path, record: CodecRecord, options: SignalOptions, vocab_size: int) -> Settled:
    """The codec that an interrupted or finished build at ``root`` has settled.

    Raises
    ------
    MismatchError
        That build was asked for another one.
    CorruptStoreError
        Its shared arrays are damaged.
    """
    for key, value in options.requested.items():
        if record.requested.get(key) != value:
            raise MismatchError(
                f"Expected {key} = {record.requested.get(key)!r} for the codec, as the build at {root} was started "
                f"with. Got {value!r}. Use the same settings, or another --out."
            )
    shared = read_shared(root, record.shared)
    return Settled(build_codec(record.name, record.config, vocab_size, shared), record, shared)


def settle(pipeline: Pipeline, options: SignalOptions, spool: Spool, order: Sequence[int], layout: Layout) -> Settled:
    """Fit the codec on the first rows of a store, in the order they will be written, and measure it on the next ones.

    Raises
    ------
    KDError
        The codec cannot be fitted on this teacher's output, or no setting reaches the target.
    """
    assert pipeline.teacher is not None
    start = time.perf_counter()
    fit, probe = sample_rows(pipeline, spool, order, options.wanted_positions, options.fidelity_positions)
    teacher_s = (time.perf_counter() - start) / max(1, fit.positions + probe.positions)
    reference = reference_student(options.student, pipeline.teacher, spool.label_counts_V)
    return settle_on(options, fit, probe, reference, layout, teacher_s)


def settle_on(
    options: SignalOptions, fit: Probe, probe: Probe, reference: Reference, layout: Layout, teacher_s: float
) -> Settled:
    """Fit the codec on ``fit`` and measure it on ``probe``; ``teacher_s`` seconds per position gave their output.

    Raises
    ------
    KDError
        As for `settle`.
    """
    kind = CODECS.get(options.codec)
    with progress("measuring fidelity", None) as bar:
        trials = run_trials(options.candidates(), fit.sample, probe, reference, layout, advance=bar.advance)
    chosen = recommend(trials, options.target_angle, options.target_bytes) if len(trials) > 1 else trials[0]
    settled = _settled(options, chosen, trials, fit.positions if kind.fitted else 0)
    # A store of a few rows leaves none to measure on.
    tokens_per_s = 1 / (teacher_s + 1 / chosen.encode_tok_s) if probe.positions else None
    return replace(settled, bytes_per_token=chosen.bytes_per_token, tokens_per_s=tokens_per_s)


def _settled(options: SignalOptions, chosen: Trial, trials: Sequence[Trial], fit_positions: int) -> Settled:
    shared = {name: values.numpy() for name, values in chosen.codec.shared.items()}
    # The chosen one first; what else was tried says what the choice was worth.
    fidelity: list[Fidelity] = [*chosen.fidelity]
    fidelity += [record for trial in trials if trial is not chosen for record in trial.fidelity]
    record = CodecRecord(
        name=chosen.codec.name,
        config=chosen.codec.config.model_dump(mode="json"),
        requested=options.requested,
        shared=shared_records(shared),
        fit_positions=fit_positions,
        fidelity=tuple(fidelity),
    )
    return Settled(chosen.codec, record, shared)


def sample_rows(
    pipeline: Pipeline, spool: Spool, order: Sequence[int], fit_positions: int, fidelity_positions: int
) -> tuple[Probe, Probe]:
    """The teacher's output for the first rows of a store, and for the next ones; see `first_rows`."""
    assert pipeline.teacher is not None
    rows, fit_positions = first_rows(spool, order, fit_positions, fidelity_positions)
    inputs, labels = pipeline.tokens(list(spool.read(rows)))
    padded_from = len(pipeline.tokenizer.backend)
    with progress("sampling the teacher", len(labels)) as bar:
        captured = capture(
            pipeline.teacher, inputs, labels, padded_from if padded_from < pipeline.teacher.vocab_size else None,
            bar.advance,
        )  # fmt: skip
    return captured.head(fit_positions)


def first_rows(
    spool: Spool, order: Sequence[int], fit_positions: int, fidelity_positions: int
) -> tuple[list[int], int]:
    """Rows from the start of ``order`` with label tokens enough to fit and to measure, and how many to fit on.

    A small store keeps a quarter of its positions to measure.
    """
    tokens = spool.index["label_tokens"][list(order)].astype(int).cumsum()
    total = int(tokens[-1]) if len(tokens) else 0
    fidelity_positions = min(fidelity_positions, total // 4)
    fit_positions = min(fit_positions, total - fidelity_positions)
    return list(order[: int((tokens < fit_positions + fidelity_positions).sum()) + 1]), fit_positions


def reference_student(student: str | None, teacher: Teacher, label_counts: NDArray[np.int64]) -> Reference:
    """The trained student in a directory; where there is none, one that knows only how often each id is a label."""
    if student is None:
        return LabelFrequencies.of(label_counts, teacher.vocab_size)
    model = Teacher(student, str(teacher.device), "fp32", teacher.batch_size)
    return TrainedStudent(model, weights_sha256(model.model))
