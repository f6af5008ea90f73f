"""Write a store again in another form: container, sizes of parts and blocks, or codec; rows and their order stay."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdstore.codecs import Codec, DenseSignal, Output, Sample
from kdstore.console import note, progress
from kdstore.encode.build import Built, peak_rss_bytes
from kdstore.encode.fit import Settled, SignalOptions, adopt, settle_on
from kdstore.encode.pipeline import encode_arrays
from kdstore.encode.remeasure import label_counts, token_lists
from kdstore.errors import CapabilityError, EmptyInputError, StoreError, UsageError
from kdstore.fidelity.probe import Probe
from kdstore.fidelity.reference import LabelFrequencies
from kdstore.fidelity.size import Layout
from kdstore.schema import Arrays, Block, Schema, TeacherSignal, concatenate
from kdstore.store import atomic, layout
from kdstore.store.containers import CONTAINERS
from kdstore.store.manifest import Ancestor, CodecRecord, Fidelity, Head
from kdstore.store.part_record import complete_parts
from kdstore.store.reader import Store
from kdstore.store.shared import publish_shared, stage_shared
from kdstore.store.writer import begin, check_target, finalize, pinned_head, prepare, write_part

_SAMPLE_BYTES = 2 << 30  # of full logits, for the fit of another codec
_FULL = ("dense", "hidden", "lowrank")
_UNKNOWN = ("kl_mean", "kl_p99", "total_variation", "top1_agreement", "tail_mass_error")


@dataclass(frozen=True)
class ConvertOptions:
    """What `convert` is asked for; the options of ``kdstore convert``. None: as the store has it."""

    store: Path
    out: Path
    container: str | None = None
    part_rows: int | None = None
    block_rows: int | None = None
    signal: SignalOptions | None = None


@dataclass(frozen=True)
class Estimate:
    """What a conversion would give: bytes of all parts now and then, and of the signal per label token."""

    bytes_now: int
    bytes_then: int
    signal_bytes_per_token_now: float
    signal_bytes_per_token_then: float


def convert(options: ConvertOptions) -> Built:
    """Convert a store; continue where an interrupted conversion stopped.

    Raises
    ------
    StoreError
        The source has lost parts, or the target is something else.
    CapabilityError
        Another codec is asked for, and the store's own does not give full distributions.
    MismatchError
        The conversion that is there was started with other settings.
    """
    start = time.monotonic()
    store = _whole(options.store)
    check_target(options.out)
    with atomic.locked(layout.lock_path(options.out), "converting"):
        form = _settle(store, options)
        if pinned_head(options.out) is None:
            stage_shared(options.out, form.shared)
        if begin(options.out, form.head):
            publish_shared(options.out)
            _copy_beside(store.root, options.out)
            prepare(options.out)
            _write_parts(store, options.out, form)
            finalize(options.out, form.head)
    return Built(options.out, Store(options.out).manifest, time.monotonic() - start, peak_rss_bytes())


def estimate(options: ConvertOptions) -> Estimate:
    """What `convert` would write, judged by the first part; nothing is left behind."""
    store = _whole(options.store)
    now = sum(ref.bytes for ref in store.manifest.parts)
    with tempfile.TemporaryDirectory(prefix="kdstore-convert-") as directory:
        out = Path(directory) / "store.kd"
        form = _settle(store, replace(options, out=out))
        begin(out, form.head)
        record = write_part(out, form.head, 0, form.encode(next(_parts(store, form.head))))
    ratio = store.rows / record.rows
    signal = CONTAINERS.get(form.head.container).stored_bytes(record, form.head.schema_).get("teacher", 0)
    return Estimate(
        bytes_now=now,
        bytes_then=round(ratio * sum(file.bytes for file in record.files.values())),
        signal_bytes_per_token_now=store.manifest.signal_bytes_per_token,
        signal_bytes_per_token_then=ratio * signal / max(1, store.manifest.label_tokens),
    )


@dataclass(frozen=True)
class _Form:
    """The form that a store takes: its head, what all parts share, and both codecs where the signal changes."""

    head: Head
    shared: Arrays
    source: Codec[Any] | None = None
    target: Codec[Any] | None = None

    def encode(self, block: Block) -> Block:
        """The block with its signal in the new codec."""
        if self.source is None or self.target is None:
            return Block(self.head.schema_, block.rows, block.arrays)
        signal = TeacherSignal(name="teacher", arrays=self.target.arrays())
        found = signal.pack([encode_arrays(self.target, Output(_logits(self.source, block)))])
        arrays = {path: values for path, values in block.arrays.items() if not path.startswith("teacher/")}
        return Block(self.head.schema_, block.rows, arrays | found)


def _whole(root: Path) -> Store:
    store = Store(root)
    if store.manifest.lost:
        raise StoreError(
            f"Expected a store with all of its parts at {root}. Got one that has lost {len(store.manifest.lost)}. "
            "Make them again first: kdstore repair --rows."
        )
    if store.rows == 0:
        raise EmptyInputError(f"Expected rows in {root}. Got an empty store.")
    return store


def _settle(store: Store, options: ConvertOptions) -> _Form:
    """The head of the store to write, and its codec, fitted on the first rows where it is another one."""
    old = store.head
    chosen = {"container": options.container, "part_rows": options.part_rows, "block_rows": options.block_rows}
    given = {key: value for key, value in chosen.items() if value is not None}
    changes: dict[str, Any] = dict(given)
    codec, source, shared = old.codec, None, store.shared_arrays()
    target = None
    schema = old.schema_
    if options.signal:
        source = _dense(store)
        settled = _settle_codec(store, source, options)
        target, codec, shared = settled.codec, settled.record, settled.shared
        schema = _with_signal(schema, target)
        changes["codec"] = options.signal.requested
    if not changes:
        raise UsageError("Expected something to change: --container, --part-rows, --block-rows or --codec. Got none.")
    ancestor = Ancestor(fingerprint=store.manifest.fingerprint, changes=changes)
    head = old.model_copy(
        update={**given, "schema_": schema, "codec": codec, "ancestors": (*old.ancestors, ancestor)}
    )
    if head.part_rows < head.block_rows:
        raise UsageError(f"Expected parts of at least a block's {head.block_rows} rows. Got {head.part_rows}.")
    return _Form(head, shared, source, target)


def _dense(store: Store) -> Codec[Any]:
    """The store's codec, if it gives full distributions."""
    codec = store.codec()
    if codec is None or codec.name not in _FULL:
        raise CapabilityError(
            f"Expected a store whose codec gives full distributions ({', '.join(_FULL)}). Got "
            f"{'one of tokens' if codec is None else codec.name}. Build it again with the teacher and --codec."
        )
    return codec


def _settle_codec(store: Store, source: Codec[Any], options: ConvertOptions) -> Settled:
    assert options.signal is not None
    options.signal.check()
    head = pinned_head(options.out)
    if head and head.codec:
        return adopt(options.out, head.codec, options.signal, head.vocab_size)
    wanted = options.signal.wanted_positions + options.signal.fidelity_positions
    sample = _sample(store, source, wanted)
    fit_positions = min(options.signal.wanted_positions, sample.positions - sample.positions // 4)
    reference = LabelFrequencies.of(label_counts(store), store.head.vocab_size)
    form = Layout(
        options.block_rows or store.head.block_rows,
        options.part_rows or store.head.part_rows,
        options.container or store.head.container,
    )
    settled = settle_on(options.signal, *sample.head(fit_positions), reference, form, 0.0)
    return replace(settled, record=_since_the_teacher(settled.record, store.head.codec))


def _sample(store: Store, source: Codec[Any], positions: int) -> Probe:
    """The first rows with so many label tokens, or with as many as fit into 2 GiB of logits."""
    most = min(positions, _SAMPLE_BYTES // (4 * store.head.vocab_size))
    blocks, tokens = [], 0
    for block in store.scan(["input_ids", "labels", "teacher"]):
        blocks.append(block)
        tokens += int(block.offsets("labels")[-1])
        if tokens >= most:
            break
    rows = concatenate(blocks)
    rows = rows.cut(0, min(rows.rows, 1 + int(np.searchsorted(rows.offsets("labels")[1:], most))))
    ids = store.head.tokenizer.vocab_size
    sample = Sample(logits_FV=_logits(source, rows), padded_from=ids if ids < store.head.vocab_size else None)
    return Probe(token_lists(rows, "input_ids"), token_lists(rows, "labels"), sample)


def _since_the_teacher(record: CodecRecord, source: CodecRecord | None) -> CodecRecord:
    """Fidelity to the teacher itself: angles on a sphere add up at most, all else is unknown.

    What was measured compares with the source's signal. Where nobody measured that, nothing is known.
    """
    assert source is not None
    kept = {
        (r.divergence, r.temperature): r
        for r in source.fidelity
        if (r.codec, r.settings) == (source.name, source.config)
    }
    found: list[Fidelity] = []
    for new in record.fidelity:
        if (old := kept.get((new.divergence, new.temperature))) is None:
            continue
        found.append(
            new.model_copy(
                update={
                    "angle_deg": new.angle_deg + old.angle_deg,
                    "angle_worst_deg": new.angle_worst_deg + old.angle_worst_deg,
                    "norm_ratio": new.norm_ratio * old.norm_ratio,
                    "reference": f"{new.reference}, at most, with the {old.codec} it was converted from",
                    **dict.fromkeys(_UNKNOWN),
                }
            )
        )
    return record.model_copy(update={"fidelity": tuple(found)})


def _logits(codec: Codec[Any], block: Block) -> torch.Tensor:
    """Full logits of all label tokens of a block, float32 [L, V], -inf for ids never emitted."""
    signal = TeacherSignal(name="teacher", arrays=codec.arrays())
    arrays = {name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in signal.unpack(block.arrays).items()}
    decoded = codec.decode(arrays, 1.0)
    assert isinstance(decoded, DenseSignal)
    return decoded.logits_LV


def _with_signal(schema: Schema, codec: Codec[Any]) -> Schema:
    fields = tuple(
        TeacherSignal(name=field.name, arrays=codec.arrays()) if isinstance(field, TeacherSignal) else field
        for field in schema.fields
    )
    return Schema(fields=fields)


def _parts(store: Store, head: Head) -> Iterator[Block]:
    """The store's rows in parts of the size that ``head`` asks for."""
    blocks = iter(store.scan())
    kept: list[Block] = []
    for size in head.part_sizes():
        while sum(block.rows for block in kept) < size:
            kept.append(next(blocks))
        rows = concatenate(kept)
        kept = [rows.cut(size, rows.rows)] if rows.rows > size else []
        yield rows.cut(0, size)


def _write_parts(store: Store, out: Path, form: _Form) -> None:
    total = len(form.head.part_sizes())
    done = complete_parts(out, form.head, range(total), checksums=True)
    if done:
        note(f"continuing: {len(done)} of {total} parts are complete.")
    same_parts = form.target is None and form.head.part_rows == store.head.part_rows
    with progress(f"{out.name}: converting", store.rows) as bar:
        for index, block in enumerate(_parts(store, form.head)):
            if index not in done:
                signal_kl = store.part(index).record.signal_kl if same_parts else None
                write_part(out, form.head, index, form.encode(block), signal_kl)
            bar.advance(block.rows)


def _copy_beside(source: Path, out: Path) -> None:
    """The tokenizer, and what became of rows that could not be used."""
    if (source / layout.TOKENIZER).is_dir():
        shutil.copytree(source / layout.TOKENIZER, out / layout.TOKENIZER, dirs_exist_ok=True)
    for path in source.glob("quarantine*.jsonl"):
        shutil.copyfile(path, out / path.name)
