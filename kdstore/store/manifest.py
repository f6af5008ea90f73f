"""The JSON records of a store, as validated models: head, part records, and the manifest that commits them.

``manifest.json`` is the only thing that makes rows visible. It holds the *head* (all that was settled before
the first part was written), the list of complete parts, and a checksum of its own content. Each part carries a
``part.json`` with the size and SHA-256 of every one of its files; the manifest holds that file's SHA-256.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, PlainSerializer, PlainValidator, StringConstraints, model_validator

from kdstore.errors import CorruptStoreError, StoreError
from kdstore.schema import Dtype, Name, Schema
from kdstore.store import atomic, layout
from kdstore.store.files import Count, FileRecord, Record, Sha256, read_bounded
from kdstore.validation import parse

FORMAT_VERSION: Final = 1
MANIFEST = "manifest.json"

SUM_BYTES = 8


def _packed_sums(value: Any) -> bytes:
    """Checksums of chunks as the file has them, a list of texts, in the form that is kept in memory."""
    if isinstance(value, bytes):
        return value
    digits = 2 * SUM_BYTES
    if not isinstance(value, list) or not all(isinstance(one, str) and len(one) == digits for one in value):
        raise ValueError(f"not a list of texts of {digits} digits")
    return bytes.fromhex("".join(value))


def _listed_sums(sums: bytes) -> list[str]:
    return [sums[i : i + SUM_BYTES].hex() for i in range(0, len(sums), SUM_BYTES)]


ChunkSums = Annotated[bytes, PlainValidator(_packed_sums), PlainSerializer(_listed_sums)]
"""The first 8 bytes of the SHA-256 of each chunk, end to end; in JSON a list of texts of 16 digits."""
# Every segment starts with a word character: no "..", no absolute path, no hidden file.
FilePath = Annotated[str, StringConstraints(pattern=r"^\w[\w.-]*(/\w[\w.-]*)*$", max_length=240)]
MAX_PART_ROWS = 1 << 20
Finite = Annotated[float, Field(allow_inf_nan=False)]


class TeacherRecord(Record):
    """Which model gave the signals, and what its batches were made of."""

    name: str
    revision: str | None
    weights_sha256: Sha256
    dtype: Annotated[str, StringConstraints(pattern="^(fp32|bf16|fp16)$")]
    device: str
    batch_size: Annotated[int, Field(gt=0, le=1 << 20)]
    threads: Annotated[int, Field(ge=1)]


class ImportRecord(Record):
    """Where a signal came from that was not made here; the teacher itself is known by hearsay only.

    ``format`` is the importer's name, ``settings`` what its user said of the capture, ``headers`` what the files say
    of themselves. ``causal``: labels follow the input in one sequence, without decoder start and forced end tokens.
    """

    format: str
    settings: dict[str, Any]
    headers: tuple[dict[str, Any], ...]
    causal: bool


class TokenizerRecord(Record):
    """Which tokenizer made the ids: its files lie in the store's ``tokenizer/``."""

    sha256: Sha256
    vocab_size: Annotated[int, Field(gt=0, le=1 << 24)]
    pad_id: Annotated[int, Field(ge=0, lt=1 << 24)]
    eos_id: Annotated[int, Field(ge=0, lt=1 << 24)]
    decoder_start_id: Annotated[int, Field(ge=0, lt=1 << 24)]


class Limits(Record):
    """Longest input and output in tokens, and what happens to longer ones."""

    max_input_tokens: int = Field(gt=0, le=1 << 20)
    max_output_tokens: int = Field(gt=0, le=1 << 20)
    overlong: Literal["truncate", "skip"]


class SharedArray(Record):
    """One array that all parts have in common: its dtype and shape, and the SHA-256 of its values.

    The checksum is over ``dtype shape`` as numpy prints them, a space between, and the bytes in C order.
    """

    dtype: Dtype
    shape: Annotated[tuple[Annotated[int, Field(gt=0, le=1 << 24)], ...], Field(min_length=1, max_length=3)]
    sha256: Sha256

    @model_validator(mode="after")
    def _check_size(self) -> "SharedArray":
        if math.prod(self.shape) > 1 << 32:
            raise ValueError("a shared array has at most 2**32 values")
        return self


class Fidelity(Record):
    """How true a stored signal is to its teacher, for one codec, temperature and divergence.

    Angles in degrees between the gradients of the loss under the full and under the stored teacher, over batches of
    ``batch_positions`` label positions; ``reference`` says whose gradients, and ``reference_kl`` how far that
    student is from the teacher: mean KL(p_1 || q_1) in nats. ``norm_ratio`` is the stored gradient's norm divided
    by the full one's. ``kl_*``: KL(p_T || stored p_T) per position, nats. ``total_variation``: mean of half the
    absolute difference. ``top1_agreement``: share of positions whose likeliest id is kept. ``tail_mass_error``: mean
    absolute difference in the mass outside the teacher's 100 likeliest ids. Over a sparse signal, all that lies
    outside its candidates counts as one id, the tail; draws have an angle only.
    """

    codec: str
    settings: dict[str, Any]
    divergence: str
    temperature: Finite
    reference: str
    reference_kl: Finite
    positions: Count
    batch_positions: Count
    angle_deg: Finite
    angle_worst_deg: Finite
    norm_ratio: Finite
    kl_mean: Finite | None = None
    kl_p99: Finite | None = None
    total_variation: Finite | None = None
    top1_agreement: Finite | None = None
    tail_mass_error: Finite | None = None
    bytes_per_token: Finite
    shared_bytes: Count

    @property
    def basis(self) -> str:
        """What the figures rest on, for people."""
        return (
            f"{self.positions:,} label tokens that no fit has seen, in batches of at least {self.batch_positions:,}; "
            f"gradients of {self.reference}, {self.reference_kl:.2f} nats from the teacher"
        )


class CodecRecord(Record):
    """How the teacher's output is kept, and how true that was found to be before the first part was written.

    ``requested`` is what the build was asked for, from which the settings in ``config`` followed. ``fit_positions``
    label positions, the first ones in the store's order, settled the shared arrays; fidelity was measured on the
    next ones. It is empty where too few positions were left.
    """

    name: str
    config: dict[str, Any]
    requested: dict[str, Any] = Field(default_factory=dict)
    shared: dict[Name, SharedArray] = Field(default_factory=dict)
    fit_positions: Count = 0
    fidelity: tuple[Fidelity, ...] = ()


class Segment(Record):
    """Rows that one command read and wrote: those of the build, then those of each append.

    ``scan`` counts what became of all rows that were read, ``versions`` are those of the libraries that wrote.
    """

    source_sha256: Sha256
    rows: Count
    scan: dict[str, Count]
    versions: dict[str, str]


class Ancestor(Record):
    """A store that this one was converted from: its fingerprint, and what was changed on the way."""

    fingerprint: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
    changes: dict[str, Any]


class Head(Record):
    """All that is settled before the first part; a build that is run again must come to the same head."""

    format: Literal["kdstore"] = "kdstore"
    format_version: Literal[1] = FORMAT_VERSION
    task: str
    template: str
    schema_: Schema = Field(alias="schema")
    vocab_size: Annotated[int, Field(gt=0, le=1 << 24)]
    codec: CodecRecord | None
    teacher: TeacherRecord | None
    imported: ImportRecord | None = None
    tokenizer: TokenizerRecord
    encoders: dict[str, str]
    limits: Limits
    split: str
    seed: int
    container: Literal["zarr", "webdataset"] = "zarr"
    part_rows: Annotated[int, Field(gt=0, le=MAX_PART_ROWS)]
    block_rows: Annotated[int, Field(gt=0, le=4096)]
    segments: Annotated[tuple[Segment, ...], Field(min_length=1, max_length=1 << 16)]
    ancestors: Annotated[tuple[Ancestor, ...], Field(max_length=1 << 10)] = ()

    @property
    def rows(self) -> int:
        """Rows of all segments."""
        return sum(segment.rows for segment in self.segments)

    def part_sizes(self) -> list[int]:
        """Rows of every part: all but the last of each segment are full."""
        full = self.part_rows
        return [
            min(full, segment.rows - start) for segment in self.segments for start in range(0, segment.rows, full)
        ]

    def parts_of(self, segment: int) -> range:
        """The indices of one segment's parts."""
        counts = [-(-other.rows // self.part_rows) for other in self.segments[: segment + 1]]
        return range(sum(counts[:-1]), sum(counts))


class TarIndex(Record):
    """Where the blocks of a webdataset part lie in its tar file.

    ``offsets``: byte at which each block starts, and at which the last one ends. ``sha256``: of the bytes of each
    block. ``field_bytes``: bytes of every field's members, headers and padding included.
    """

    offsets: list[Count]
    sha256: list[Sha256]
    field_bytes: dict[Name, Count]


class PartRecord(Record):
    """``part.json``: what one part holds, and the size and checksum of its every file.

    ``block_offsets`` gives, per axis, where each block starts and where the last one ends. ``signal_kl`` is the mean
    KL(full || stored) at T = 2 over a few of its positions, to be compared with what the manifest's fidelity says:
    a part that the shared arrays do not fit has a larger one. ``chunks`` has, for every Zarr shard, a checksum
    of each chunk as it is stored, and one of the index behind them: a chunk's own does not say whose chunk it is.
    """

    index: Count
    rows: Count
    block_offsets: dict[str, list[Count]]
    files: dict[FilePath, FileRecord]
    chunks: dict[FilePath, ChunkSums] = Field(default_factory=dict)
    signal_kl: Finite | None = None
    tar: TarIndex | None = None

    def extent(self, axis: str) -> int:
        """Number of values along ``axis`` in this part."""
        return self.block_offsets[axis][-1]

    def bytes_under(self, prefix: str) -> int:
        """Bytes of all files below a path such as ``teacher``."""
        return sum(record.bytes for path, record in self.files.items() if f"{path}/".startswith(f"{prefix}/"))


class PartRef(Record):
    """A complete part as the manifest lists it."""

    index: Count
    rows: Count
    label_tokens: Count
    bytes: Count
    signal_bytes: Count
    sha256: Sha256


class Manifest(Record):
    """The commit record of a store. ``lost``: parts that were damaged and put away, and not made again yet."""

    head: Head
    parts: list[PartRef]
    lost: list[Count] = Field(default_factory=list)
    shared_files: dict[FilePath, FileRecord]
    content_sha256: Sha256

    @model_validator(mode="after")
    def _check_parts(self) -> "Manifest":
        if sum(-(-segment.rows // self.head.part_rows) for segment in self.head.segments) != self._parts_in_all:
            raise ValueError("there must be as many parts as segments and part_rows of the head give")
        present, sizes = [part.index for part in self.parts], self.head.part_sizes()
        if sorted([*present, *self.lost]) != list(range(len(sizes))) or present != sorted(present):
            raise ValueError("parts must be numbered from 0, in order, without gaps but for those that are lost")
        if any(part.rows != sizes[part.index] for part in self.parts):
            raise ValueError("the parts' rows must be those that segments and part_rows of the head give")
        ids = self.head.tokenizer
        if max(ids.pad_id, ids.eos_id, ids.decoder_start_id) >= min(ids.vocab_size, self.head.vocab_size):
            raise ValueError("special ids must lie within the vocabulary")
        if self.head.codec and self.head.vocab_size < ids.vocab_size:
            raise ValueError("a signal must cover every id of the tokenizer")
        return self

    @property
    def _parts_in_all(self) -> int:
        return len(self.parts) + len(self.lost)

    @property
    def rows(self) -> int:
        """Rows of all parts that are there."""
        return sum(part.rows for part in self.parts)

    @property
    def lost_rows(self) -> int:
        """Rows of the parts that are lost."""
        return self.head.rows - self.rows

    @property
    def label_tokens(self) -> int:
        """Label tokens of all parts."""
        return sum(part.label_tokens for part in self.parts)

    @property
    def signal_bytes_per_token(self) -> float:
        """Bytes of every file under ``teacher/`` divided by label tokens; 0 for a store without tokens."""
        return sum(part.signal_bytes for part in self.parts) / max(1, self.label_tokens)

    @property
    def fingerprint(self) -> str:
        """Short name of the content, for logs and for the order of reading."""
        return self.content_sha256[:16]


def make_manifest(
    head: Head, parts: list[PartRef], shared_files: dict[str, FileRecord], lost: Sequence[int] = ()
) -> Manifest:
    """A manifest with its checksum filled in."""
    empty = Manifest(head=head, parts=parts, lost=list(lost), shared_files=shared_files, content_sha256="0" * 64)
    return empty.model_copy(update={"content_sha256": _content_sha256(empty)})


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Commit: replace the store's manifest atomically."""
    atomic.write_text(root / MANIFEST, manifest.to_json(), layout.build_path(root))


def read_manifest(root: Path) -> Manifest:
    """Read and check the manifest of the store at ``root``.

    Raises
    ------
    StoreError
        ``root`` is not a store, is an unfinished one, or has a newer format.
    CorruptStoreError
        The manifest is not what was written.
    """
    path = root / MANIFEST
    if not path.is_file() or path.is_symlink():
        raise StoreError(_why_no_manifest(root))
    text = read_bounded(path)
    version = _format_version(text, path)
    if version != FORMAT_VERSION:
        raise StoreError(
            f"Expected a store of format version {FORMAT_VERSION} at {root}. Got version {version}. "
            "Read it with the release that wrote it, or upgrade this one."
        )
    manifest = parse(Manifest, text, f"manifest {path}", CorruptStoreError)
    # Canonical text, so that no byte of the file can change unnoticed, duplicated keys included.
    if not manifest.is_written_as(text) or _content_sha256(manifest) != manifest.content_sha256:
        raise CorruptStoreError(
            f"Expected {path} to match its checksum {manifest.content_sha256[:12]}. Got another content. "
            "The file was changed; restore it or build again."
        )
    return manifest


def _content_sha256(manifest: Manifest) -> str:
    content = manifest.model_copy(update={"content_sha256": "0" * 64}).to_json()
    return hashlib.sha256(content.encode()).hexdigest()


def _format_version(text: bytes, path: Path) -> object:
    try:
        return json.loads(text)["head"]["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CorruptStoreError(
            f"Expected JSON with head.format_version in {path}. Got something else. "
            "The file is damaged; restore it or build again."
        ) from None


def _why_no_manifest(root: Path) -> str:
    if not root.is_dir():
        return f"Expected a store at {root}. Got {'a file' if root.exists() else 'nothing'} there."
    if (root / ".build").is_dir():
        return (
            f"Expected a finished store at {root}. Got one whose build has not finished. "
            "Run the same `kdstore build` again: it continues."
        )
    return f"Expected a store at {root}. Got a directory without {MANIFEST}."
