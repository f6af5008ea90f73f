"""Try codecs on a few of the rows, to choose one before a build."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from kdstore.codecs import CODECS, Sample, fit_codec
from kdstore.console import note, progress
from kdstore.encode.build import BuildOptions, from_teacher, read_rows, shuffled
from kdstore.encode.fit import reference_student, sample_rows
from kdstore.encode.teacher import Teacher
from kdstore.errors import CapabilityError, EmptyInputError, UsageError
from kdstore.fidelity.size import Layout
from kdstore.fidelity.trial import Candidate, Trial, run_trials

_REFERENCE = "dense"  # every logit: nobody's choice, and much memory for the sample; tried when it is named


@dataclass(frozen=True)
class Survey:
    """What building ``rows`` rows with ``label_tokens`` label tokens would give, by codec and settings.

    ``teacher_s`` seconds per label token for the teacher's forward pass, ``prediction_s`` per row for its own
    prediction, 0 where none is kept.
    """

    rows: int
    label_tokens: int
    trials: list[Trial]
    teacher_s: float
    prediction_s: float

    def minutes(self, trial: Trial) -> float:
        """Of teacher, codec and predictions, for all rows."""
        per_token = self.teacher_s + 1 / trial.encode_tok_s
        return (self.label_tokens * per_token + self.rows * self.prediction_s) / 60


def survey(options: BuildOptions, codecs: Sequence[str] | None = None) -> Survey:
    """Count the rows of a build, run its teacher over some of them, and try every codec's ladder on those.

    Nothing is left behind.

    Parameters
    ----------
    options
        Of the build; ``out`` is not used. ``signal`` says how many positions fit and measure, and at which student.
    codecs
        Names; None: all that this teacher can serve, but for ``dense``.

    Raises
    ------
    KDError
        As for `kdstore.encode.build.build`; a named codec that the teacher cannot serve.
    EmptyInputError
        The rows are too few to measure anything.
    """
    for name in codecs or ():
        CODECS.get(name)
    with tempfile.TemporaryDirectory(prefix="kdstore-plan-") as directory:
        origin = from_teacher(replace(options, embed=()))
        pipeline = origin.pipeline
        if pipeline.teacher is None:
            raise UsageError("Expected --teacher. Got none. Give the model whose signal is to be kept.")
        spool = read_rows(options, origin, Path(directory) / "spool")
        order = shuffled(np.arange(len(spool.index)), options.seed).tolist()
        start = time.perf_counter()
        fit, probe = sample_rows(
            pipeline, spool, order, options.signal.fit_positions, options.signal.fidelity_positions
        )
        teacher_s = (time.perf_counter() - start) / max(1, fit.positions + probe.positions)
        if not probe.positions:
            raise EmptyInputError(
                f"Expected rows enough to measure on. Got {len(spool.index):,} with {fit.positions:,} label tokens. "
                "Give more rows."
            )
        prediction_s = _prediction_s(pipeline.teacher, fit.inputs, options) if options.predict else 0.0
        candidates = _candidates(codecs, fit.sample)
        reference = reference_student(options.signal.student, pipeline.teacher, spool.label_counts_V)
        with progress(f"trying {len(candidates)} settings", None) as bar:
            layout = Layout(options.block_rows, options.part_rows)
            trials = run_trials(
                candidates, fit.sample, probe, reference, layout, divergences=["kl"], advance=bar.advance
            )
        return Survey(len(spool.index), int(spool.index["label_tokens"].sum()), trials, teacher_s, prediction_s)


def _candidates(codecs: Sequence[str] | None, sample: Sample) -> list[Candidate]:
    names = (
        [name for name in CODECS.names() if name != _REFERENCE and _serves(name, sample)]
        if codecs is None
        else codecs
    )
    return list(chain.from_iterable((Candidate(name, rung) for rung in CODECS.get(name).ladder) for name in names))


def _serves(name: str, sample: Sample) -> bool:
    """Whether a codec can be fitted on such a teacher's output at all; a few positions tell."""
    try:
        fit_codec(name, {}, sample.slice(0, 2))
    except CapabilityError as error:
        note(f"{name} is not tried: {error}")
        return False
    return True


def _prediction_s(teacher: Teacher, inputs: list[list[int]], options: BuildOptions) -> float:
    """Seconds per row, from one batch."""
    batch = inputs[: options.batch_size]
    start = time.perf_counter()
    teacher.predict(teacher.encode(batch), options.max_output_tokens)
    return (time.perf_counter() - start) / len(batch)
