"""Rows for a person to look at, how long they are, and whether the teacher knows their labels."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdstore.codecs import Codec, DenseSignal, SampledSignal
from kdstore.encode.tokenizer import Tokenizer
from kdstore.store.reader import Store
from kdtrain.preflight.findings import Found, failed, of_each, passed, skipped, warned
from kdtrain.preflight.flight import Flight
from kdtrain.preflight.sample import Sample, take

_SHOWN, _COMPARED = 3, 32
_PROMPT_CHARACTERS, _TARGET_CHARACTERS = 60, 120
_FEW = 0.2  # a teacher whose first choice is less often the label has hardly learned the task
_CUT_INPUTS, _CUT_TARGETS = 0.25, 0.01  # of the rows
_LEAST_LOG_PROB = -50.0


def rows(flight: Flight) -> Iterator[Found]:
    """Show the first rows: the end of the prompt, the target, and what the teacher would have said."""
    store = flight.stores.train[0]
    codec = store.codec() if flight.compares else None
    tokenizer, agreed, total = Tokenizer(store.tokenizer_path), 0, 0
    for index, row in enumerate(_first(store, _COMPARED)):
        chosen = first_choices(codec, row["teacher"]) if codec else None
        same = int((chosen == torch.from_numpy(row["labels"].astype(np.int64))).sum()) if chosen is not None else 0
        agreed, total = agreed + same, total + len(row["labels"])
        if index < _SHOWN:
            prompt = tokenizer.decode(row["input_ids"].tolist())[-_PROMPT_CHARACTERS:]
            target = tokenizer.decode(row["labels"].tolist())[:_TARGET_CHARACTERS]
            said = "" if chosen is None else tokenizer.decode(chosen.tolist())[:_TARGET_CHARACTERS]
            teacher = "" if chosen is None else f"; teacher {said!r} ({same} of {len(row['labels'])} tokens)"
            yield passed(f"{row.get('id', index)}: ... {prompt!r} -> {target!r}{teacher}")
    if codec:
        text = f"the teacher's first choice is the label for {agreed / total:.0%} of {total:,} label tokens"
        yield passed(text) if agreed >= _FEW * total else warned(f"{text}: is it a teacher of this task?")


def first_choices(codec: Codec[Any], arrays: Mapping[str, Any]) -> Tensor:
    """The teacher's likeliest id at each label token, int64 [L]; of draws the one that weighs most."""
    T = min(codec.temperatures or (1.0,), key=lambda T: abs(T - 1))
    signal = codec.decode({name: torch.from_numpy(array.copy()) for name, array in arrays.items()}, T)
    if isinstance(signal, DenseSignal):
        return signal.logits_LV.argmax(-1)
    values_LK = signal.weights_LK if isinstance(signal, SampledSignal) else signal.log_probs_LK
    return signal.ids_LK.gather(-1, values_LK.argmax(-1, keepdim=True))[:, 0]


def lengths(flight: Flight) -> Iterator[Found]:
    """How long are inputs and targets, and how many were cut at the limits?"""
    flight.samples = [take(store) for store in flight.stores.train]
    yield from of_each(flight.samples, _lengths)


def _lengths(sample: Sample) -> Iterator[Found]:
    limits = sample.store.head.limits
    told = []
    for what, length_N, limit, allowed in (
        ("input", sample.input_N, limits.max_input_tokens, _CUT_INPUTS),
        ("target", sample.label_N, limits.max_output_tokens, _CUT_TARGETS),
    ):
        cut = float((length_N >= limit).mean()) if limits.overlong == "truncate" else 0.0
        told.append(
            f"{what}s of {np.median(length_N):.0f} tokens in the median, {length_N.max()} at most, {cut:.1%} at the "
            f"limit of {limit}"
        )
        if cut > allowed:
            yield warned(
                f"{sample.store.root}: {cut:.1%} of the {what}s fill the limit of {limit} tokens: most of them were "
                f"cut. Build the store with --max-{what.replace('target', 'output')}-len above it"
            )
    yield passed(f"{sample.store.root}: {'; '.join(told)} (of {len(sample.input_N):,} rows)")


def teacher(flight: Flight) -> Iterator[Found]:
    """Does the teacher give labels a probability far above that of a guess?"""
    if not flight.mix.needs_signal:
        yield skipped("no component compares with a teacher")
        return
    yield from of_each(flight.samples, _teacher)


def _teacher(sample: Sample) -> Iterator[Found]:
    store, log_prob_L = sample.store, sample.log_prob_L[~np.isnan(sample.log_prob_L)]
    if not len(log_prob_L):
        yield skipped(f"{store.root}: the labels' log-probabilities are not stored")
        return
    mean, guess = float(log_prob_L.clip(_LEAST_LOG_PROB).mean()), -math.log(store.head.vocab_size)
    told = (
        f"{store.root}: labels have a log-probability of {mean:.2f} in the mean (perplexity {math.exp(-mean):,.1f}); "
        f"a guess over {store.head.vocab_size:,} ids has {guess:.2f}"
    )
    if mean <= guess:
        yield failed(
            f"Expected a teacher that knows its labels. Got one worse than a guess. {told}. Use another one."
        )
    else:
        yield warned(f"{told}: a weak teacher") if mean < guess / 2 else passed(told)


def _first(store: Store, count: int) -> Iterator[Mapping[str, Any]]:
    blocks = store.scan(limit=count)
    yield from [block.row(index) for block in blocks for index in range(block.rows)][:count]
