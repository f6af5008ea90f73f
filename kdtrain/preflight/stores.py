"""Checks of stores: whole, belonging together, and able to serve the loss."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kdstore.encode.alignment import ROWS, check_alignment
from kdstore.errors import EmptyInputError
from kdstore.store.reader import Store
from kdstore.store.verify import verify
from kdtrain import checks
from kdtrain.gate import check_signal, measured, worst_between
from kdtrain.preflight.findings import Found, failed, of_each, passed, skipped, warned
from kdtrain.preflight.flight import Flight
from kdtrain.run import Stores, make_mix

_WHOLE_BYTES = 1 << 30  # a store of so many bytes has all of its files summed
_BLOCKS = 64  # that are decoded
_PARTS = 16  # of which the first rows are tokenized again


def stores(flight: Flight) -> Iterator[Found]:
    """Can the stores be opened, and hold rows?"""
    request = flight.request
    paths = [*request.train, *filter(None, [request.val])]
    yield from of_each(paths, lambda path: _open(flight, path))
    if len(flight.opened) == len(paths):
        train, val = flight.opened[: len(request.train)], flight.opened[len(request.train) :]
        flight.stores = Stores(tuple(train), val[0] if val else None)


def _open(flight: Flight, path: Path) -> Iterator[Found]:
    store = Store(path)
    if store.rows == 0:
        raise EmptyInputError(f"Expected rows in {store.root}. Got an empty store. Build one from more rows.")
    flight.opened.append(store)
    manifest = store.manifest
    if manifest.lost_rows:
        yield warned(
            f"{store.root}: {manifest.lost_rows:,} rows are lost with parts that were put away. Make them again: "
            "kdstore repair --rows ROWS."
        )
    signal = store.head.codec.name if store.head.codec else "no"
    yield passed(
        f"{store.root}: {store.rows:,} rows, {manifest.label_tokens:,} label tokens, {signal} signal, fingerprint "
        f"{manifest.fingerprint}"
    )


def compatibility(flight: Flight) -> Iterator[Found]:
    """Are rows of a kind and length that the run takes, and have all stores one tokenizer?"""
    data, (first, *others) = flight.config.data, flight.stores.all
    for store in (first, *others):
        checks.check_rows(store, data)
    for store in others:
        checks.check_pair(first, store)
    yield passed(
        f"rows within {data.max_input_len} input and {data.max_output_len} output tokens, and one tokenizer of "
        f"{first.head.tokenizer.vocab_size:,} ids"
    )


def integrity(flight: Flight) -> Iterator[Found]:
    """Are files those that were written? Of a large store all sizes, and a sample of blocks with their checksums."""
    if not flight.opened:
        yield skipped("no store could be opened")
    yield from of_each(flight.opened, _verify)


def _verify(store: Store) -> Iterator[Found]:
    share = min(1.0, _BLOCKS / len(store.blocks()))
    whole = sum(ref.bytes for ref in store.manifest.parts) <= _WHOLE_BYTES
    reports = [verify(store.root, sample=share, advance=_silent)]
    if whole:
        reports.insert(0, verify(store.root, quick=True, advance=_silent))
    problems = list(dict.fromkeys(problem for report in reports for problem in report.problems))
    if problems:
        more = f" And {len(problems) - 1} more problems: run kdstore verify." if len(problems) > 1 else ""
        yield failed(f"{problems[0]}{more}")
        return
    yield from (warned(f"{store.root}: not checked: {reason}") for reason in reports[-1].not_checked)
    files = "checksums of all files" if whole else "sizes of all files (kdstore verify --quick reads them)"
    yield passed(f"{store.root}: {files}, and {share:.3g} of all blocks decoded")


def _silent(rows: int) -> None:
    """Nobody waits for so few blocks."""


def loss(flight: Flight) -> Iterator[Found]:
    """Do the components exist, and have the stores what they need?"""
    mix = make_mix(flight.config)
    columns = mix.columns(flight.stores.all)
    flight.mix, flight.compares = mix, mix.needs_signal
    settings = flight.config.loss
    taken = [f"{name} reads the embedding {column!r}" for name, (column, _) in columns.items()]
    lowest, highest = mix.temperatures
    falling = f" to {lowest:g}" if lowest != highest else ""
    at = [f"alpha {settings.alpha:g}", *([f"T = {highest:g}{falling}"] if mix.needs_signal else [])]
    yield passed("; ".join([", ".join(mix.names), *at, *taken]))


def alignment(flight: Flight) -> Iterator[Found]:
    """Do texts, tokens and signals belong together, in the first rows of several parts?"""
    if not flight.opened:
        yield skipped("no store could be opened")
    yield from of_each(flight.opened, lambda store: _align(store, flight.compares))


def _align(store: Store, with_signal: bool) -> Iterator[Found]:
    parts = [ref.index for ref in store.manifest.parts]
    chosen = [parts[at] for at in np.unique(np.linspace(0, len(parts) - 1, min(_PARTS, len(parts))).astype(int))]
    for reason in check_alignment(store, chosen, with_signal=with_signal):
        yield warned(f"{store.root}: not checked: {reason}")
    what = "texts, tokens and signals" if with_signal else "texts and tokens"
    yield passed(f"{store.root}: {what} agree in the first {ROWS} rows of {len(chosen)} parts")


def fidelity(flight: Flight) -> Iterator[Found]:
    """Is the signal true enough for each component, at all temperatures of the run?"""
    if not flight.mix.needs_signal:
        yield skipped("no component compares with a teacher")
        return
    yield from of_each(flight.stores.all, lambda store: _fidelity(flight, store))


def _fidelity(flight: Flight, store: Store) -> Iterator[Found]:
    codec = store.codec()
    if codec is None:
        yield failed(
            f"Expected a store with a teacher's signal. Got {store.root}, which holds tokens only. Build it with "
            "--teacher, or train on labels alone with --alpha 1."
        )
        return
    mix, settings = flight.mix, flight.config.loss
    for note in check_signal(store, codec, mix, settings):
        yield warned(note)
    for name in mix.compared:
        worst = worst_between(measured(store.head.codec, name), *mix.temperatures)
        if worst and worst.angle_deg <= settings.max_angle:
            yield passed(
                f"{store.root}: {name} at most {worst.angle_deg:.1f} degrees off (T = {worst.temperature:g}, allowed "
                f"are {settings.max_angle:g})"
            )
