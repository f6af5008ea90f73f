"""Build stores from captures: what ``kdstore import`` runs."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from kdstore.codecs import build_codec
from kdstore.console import note
from kdstore.encode.build import BuildOptions, Built, Origin, build_from
from kdstore.encode.embed import load_encoders
from kdstore.encode.fit import Settled, SignalOptions, first_rows, settle_on
from kdstore.encode.pipeline import label_logprob
from kdstore.encode.scan import Rows
from kdstore.encode.spool import Spool
from kdstore.encode.tokenizer import Tokenizer
from kdstore.errors import UsageError
from kdstore.fidelity.probe import Probe
from kdstore.fidelity.reference import LabelFrequencies
from kdstore.fidelity.size import Layout
from kdstore.importers import IMPORTERS, CaptureSettings, Importer
from kdstore.importers._pipeline import GivenTokens, ImportedPipeline
from kdstore.store.manifest import CodecRecord, ImportRecord, Limits
from kdstore.tasks import TASKS

CANDIDATES_CODEC = "topk"


@dataclass(frozen=True)
class ImportOptions:
    """What `import_stores` is asked for; the options of ``kdstore import``.

    ``build`` holds what an import has in common with a build. Its token limits are replaced by the format's own
    where ``max_tokens`` has None.
    """

    format: str
    settings: CaptureSettings
    build: BuildOptions
    max_tokens: tuple[int | None, int | None] = (None, None)


def import_stores(options: ImportOptions) -> list[Built]:
    """Import the store, and the validation store when asked; continue where an interrupted import stopped.

    Raises
    ------
    KDError
        As for a build: unusable rows, settings that are missing or differ from those it was started with, ...
    """
    kind = IMPORTERS.get(options.format)
    longest = [given or default for given, default in zip(options.max_tokens, kind.max_tokens, strict=True)]
    build = replace(options.build, max_input_tokens=longest[0], max_output_tokens=longest[1])
    if kind.sparse:
        _check_for_candidates(build.signal)
    if kind.causal:
        _check_for_sequences(kind, build)
        # A sequence cannot be cut without leaving its signal: what is too long is left out.
        build = replace(build, overlong="skip")
    return build_from(build, partial(_origin, kind, options.settings))


def _check_for_candidates(signal: SignalOptions) -> None:
    """Refuse what would need full logits."""
    targets = (signal.target_angle, signal.target_bytes)
    if signal.codec != CANDIDATES_CODEC or set(signal.settings) - {"k"} or targets != (None, None):
        raise UsageError(
            f"Expected --codec {CANDIDATES_CODEC} for candidates, with no setting but k and no target. "
            f"Got {signal.codec}, {dict(signal.settings)} and {targets}. Leave the rest out."
        )


def _check_for_sequences(kind: type[Importer], options: BuildOptions) -> None:
    """Refuse what would need a reference text: a sequence is ids, and parts of it a model may have written."""
    if options.embed:
        raise UsageError(
            f"Expected no --embed for the format {kind.name!r}, whose rows are sequences of tokens without a text to "
            f"embed. Got {options.embed[0]!r}. Leave it out."
        )


def _origin(kind: type[Importer], settings: CaptureSettings, options: BuildOptions) -> Origin:
    task = TASKS.get(options.task)
    tokenizer = (GivenTokens if kind.causal else Tokenizer)(str(options.tokenizer))
    limits = Limits(
        max_input_tokens=options.max_input_tokens,
        max_output_tokens=options.max_output_tokens,
        overlong=options.overlong,
    )
    importer = kind((*options.rows, *options.val_rows), settings, tokenizer, limits, task)
    if importer.keeps_signal:
        options.signal.check()
    else:
        note("temperature or tail unknown: only tokens are kept, for losses that need no signal.")
    pipeline = ImportedPipeline(
        tokenizer=tokenizer,
        limits=limits,
        text_columns=() if kind.causal else task.text_columns,
        encoders=load_encoders(options.embed, torch.device("cpu")),
        teacher=None,
        codec=None,
        predict=importer.predicts,
        importer=importer,
    )
    imported = ImportRecord(
        format=kind.name,
        settings=settings.model_dump(mode="json", exclude_defaults=True),
        headers=importer.headers,
        causal=kind.causal,
    )
    head: dict[str, Any] = {
        "task": kind.name if kind.causal else task.name,
        "template": "" if kind.causal else task.template,
        "vocab_size": importer.vocab_size,
        "teacher": None,
        "imported": imported,
        "tokenizer": tokenizer.record(None),
    }
    rows = Rows(importer.example, {"task": head["task"], "imported": imported.model_dump(mode="json")}, importer.read)
    settle = partial(_settle_candidates if kind.sparse else _settle_logits, pipeline)
    return Origin(rows, pipeline, settle if importer.keeps_signal else None, head)


def _settle_logits(
    pipeline: ImportedPipeline, options: SignalOptions, spool: Spool, order: Sequence[int], layout: Layout
) -> Settled:
    """Fit the codec on the logits of the first rows, and measure it on the next ones, as a build does."""
    start = time.perf_counter()
    rows, fit_positions = first_rows(spool, order, options.wanted_positions, options.fidelity_positions)
    sample = pipeline.probe(spool, rows)
    _tell_unlikely(sample)
    reference = LabelFrequencies.of(spool.label_counts_V, pipeline.importer.vocab_size)
    decode_s = (time.perf_counter() - start) / max(1, sample.positions)
    return settle_on(options, *sample.head(fit_positions), reference, layout, decode_s)


def _tell_unlikely(sample: Probe) -> None:
    """Say when labels are less likely than by chance: what a wrong tokenizer or a shift by one looks like."""
    labels_F = torch.tensor([token for row in sample.labels for token in row])
    found, start = [], 0
    for output in sample.sample.chunks():
        stop = start + len(output.logits_LV)
        found.append(label_logprob(output.logits_LV, labels_F[start:stop]))
        start = stop
    mean = float(torch.cat(found).mean())
    if mean < -math.log(sample.sample.vocab_size):
        note(
            f"the labels have a mean log-probability of {mean:.1f} under these logits, less than by chance. A wrong "
            "--tokenizer or --logit-scale, or logits of another row, would look like this."
        )


def _settle_candidates(
    pipeline: ImportedPipeline, options: SignalOptions, spool: Spool, order: Sequence[int], layout: Layout
) -> Settled:
    """Keep as many candidates as the first rows have; nothing is there that fidelity could be measured against."""
    rows, _ = first_rows(spool, order, options.wanted_positions, options.fidelity_positions)
    k = options.settings["k"] if "k" in options.settings else pipeline.most_candidates(spool, rows)
    codec = build_codec(options.codec, {"k": k, "temperatures": [1.0]}, pipeline.importer.vocab_size, {})
    config = codec.config.model_dump(mode="json")
    return Settled(codec, CodecRecord(name=codec.name, config=config, requested=options.requested), {})
