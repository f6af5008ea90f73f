"""Measure a finished store again: run its teacher over the store's own rows, and compare with what is stored."""

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdstore.codecs import Codec
from kdstore.console import progress
from kdstore.encode.capture import capture
from kdstore.encode.fit import reference_student
from kdstore.encode.teacher import same_teacher
from kdstore.errors import CapabilityError
from kdstore.fidelity.measure import Subject, measure
from kdstore.schema import Arrays, Block, TeacherSignal, concatenate
from kdstore.store.manifest import Fidelity
from kdstore.store.reader import Store


def remeasure(store: Store, teacher: str, student: str | None, device: str, positions: int) -> list[Fidelity]:
    """How true the stored signal is, on at least ``positions`` label tokens that the codec's fit has not seen.

    Parameters
    ----------
    store
        With a signal.
    teacher
        The model that made it: a directory or hub name.
    student
        Gradients are compared at this trained student's; None: at one that knows the store's label frequencies.
    device
        Where the teacher runs, in the number format and batches of the build.
    positions
        Label tokens; fewer where the store ends before.

    Raises
    ------
    CapabilityError
        The store has no signal, or none of a teacher's own, or no rows that the fit has not seen.
    MismatchError
        The teacher has other weights.
    ModelError
        A model cannot be loaded.
    CorruptStoreError
        A chunk of the store is damaged.
    """
    codec, record = store.codec(), store.head.teacher
    if codec is None or record is None:
        raise CapabilityError(
            f"Expected a store that a teacher's forward pass made. Got {store.root}, which "
            f"{'keeps tokens only' if codec is None else 'was imported'}. Build one with `kdstore build --teacher`."
        )
    rows = _unseen_rows(store, positions)
    model = same_teacher(teacher, device, record)
    inputs, labels = (token_lists(rows, name) for name in ("input_ids", "labels"))
    ids = store.head.tokenizer.vocab_size
    with progress("running the teacher", len(labels)) as bar:
        probe = capture(model, inputs, labels, ids if ids < model.vocab_size else None, bar.advance)
    reference = reference_student(student, model, label_counts(store))
    stored = _Stored(codec, rows, model.device)
    subject = Subject(codec, store.manifest.signal_bytes_per_token, stored.positions)
    with progress("measuring fidelity", probe.positions) as bar:
        return measure([subject], probe, reference, advance=bar.advance)[0]


class _Stored:
    """The stored arrays of some rows, by positions among their label tokens."""

    def __init__(self, codec: Codec[Any], rows: Block, device: torch.device) -> None:
        self._signal = TeacherSignal(name="teacher", arrays=codec.arrays())
        self._arrays: Arrays = self._signal.unpack(rows.arrays)
        self._total, self._device = int(rows.offsets("labels")[-1]), device

    def positions(self, wanted: slice) -> dict[str, Tensor]:
        """The arrays of these positions, as the codec's ``encode`` would give them."""
        lengths = [wanted.start, wanted.stop - wanted.start, self._total - wanted.stop]
        piece = self._signal.split(self._arrays, lengths)[1]
        return {name: torch.from_numpy(values.copy()).to(self._device) for name, values in piece.items()}


def _unseen_rows(store: Store, positions: int) -> Block:
    """Rows after those of the fit, with at least so many label tokens where there are."""
    assert store.head.codec is not None
    # The codec of a validation store was fitted on the rows of the training store beside it.
    seen = 0 if store.head.split.startswith("validation") else store.head.codec.fit_positions
    blocks: list[Block] = []
    tokens = 0
    # What is read and left out again is small: codecs that keep much of a position are not fitted.
    for block in store.scan(["input_ids", "labels", "teacher"]):
        blocks.append(block)
        tokens += int(block.offsets("labels")[-1])
        if tokens >= seen + positions:
            break
    rows = concatenate(blocks)
    starts = rows.offsets("labels")
    first = int(np.searchsorted(starts, seen))
    if first >= rows.rows:
        raise CapabilityError(
            f"Expected rows after the {seen:,} label tokens on which the codec was fitted. Got none in {store.root}. "
            "Measure on its validation store."
        )
    stop = min(rows.rows, int(np.searchsorted(starts, starts[first] + positions)))
    return rows.cut(first, stop)


def token_lists(rows: Block, name: str) -> list[list[int]]:
    """The ids of a ragged field, row by row."""
    offsets, values = rows.offsets(name), rows.arrays[f"{name}/values"]
    return [values[start:stop].tolist() for start, stop in pairwise(offsets)]


def label_counts(store: Store) -> NDArray[np.int64]:
    """How often each id is a label, [ids of the tokenizer]."""
    ids = store.head.tokenizer.vocab_size
    counts = (np.bincount(block.arrays["labels/values"], minlength=ids) for block in store.scan(["labels"]))
    return sum(counts, np.zeros(ids, np.int64))
