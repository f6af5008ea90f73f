"""Read runs of values from the shard file of a Zarr array, chunk by chunk, with every size known beforehand.

General Zarr pipelines believe what a chunk says of its own size: a few kilobytes take gigabytes or end the process,
and a chunk of another size passes in partial reads. Here a chunk that does not say exactly the size that the metadata
ask for is refused before memory is taken.
"""

import hashlib
import math
import os
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import zstandard
from numpy.typing import NDArray

from kdstore.errors import CorruptStoreError
from kdstore.schema import Array, ArraySpec
from kdstore.store.manifest import SUM_BYTES

_MAGIC = b"\x28\xb5\x2f\xfd"
_MOST_PER_BYTE = (128 << 10) // 4  # the densest zstd block: 128 KiB in a header of 3 bytes and one byte
_INDEX_CHECKSUM_BYTES = 4


class Shard:
    """The only shard of an array, with its index read.

    Parameters
    ----------
    path
        Its file.
    spec
        The array's dtype and trailing shape.
    extent
        Values along the array's axis.
    chunk
        Values per chunk; the last one is padded.
    sums
        Checksums of the chunks as they are stored, and of the index, see `PartRecord`; None where the values are
        checked as a whole.

    Raises
    ------
    CorruptStoreError
        The chunks that the index names do not fill the file one after the other, or cannot hold ``extent`` values.
    """

    __slots__ = ("_bounds", "_chunk", "_chunk_bytes", "_dtype", "_index_sum", "_known", "_path", "_shape", "_sums")

    def __init__(self, path: Path, spec: ArraySpec, extent: int, chunk: int, sums: bytes | None) -> None:
        self._path, self._chunk, self._sums = path, chunk, sums
        self._dtype, self._shape = np.dtype(spec.dtype), spec.shape
        self._chunk_bytes = chunk * math.prod(spec.shape) * self._dtype.itemsize
        chunks = math.ceil(extent / chunk)
        self._known = bytearray(chunks)  # 1 where a chunk has been compared with its checksum
        # An array without values has no file.
        self._index_sum, self._bounds = _sum(b""), np.zeros(1, np.int64)
        if not chunks:
            return
        if sums is not None and len(sums) != (chunks + 1) * SUM_BYTES:
            raise self._damaged(f"{len(sums) // SUM_BYTES:,} checksums for {chunks:,} chunks and an index")
        index = self._read_index(chunks)
        self._index_sum = _sum(index)
        if sums is not None and self._index_sum != sums[-SUM_BYTES:]:
            raise self._damaged("an index that does not match its checksum")
        self._bounds = self._chunk_bounds(index, chunks)

    def _read_index(self, chunks: int) -> bytes:
        """The end of the file: offset and length of every chunk, and a checksum that needs no check of its own."""
        index_bytes = 16 * chunks + _INDEX_CHECKSUM_BYTES
        size = self._path.stat().st_size if self._path.is_file() else 0
        if size * _MOST_PER_BYTE < chunks * self._chunk_bytes or size < index_bytes:
            raise self._damaged(f"{size:,} bytes, which cannot hold {chunks:,} chunks of {self._chunk_bytes:,}")
        with self._path.open("rb") as file:
            file.seek(size - index_bytes)
            return file.read()

    def _chunk_bounds(self, index: bytes, chunks: int) -> NDArray[np.int64]:
        """Where each chunk starts in the file, and where the last one ends, int64 [chunks + 1]."""
        bounds = [0]
        for start, length in np.frombuffer(index, "<u8", 2 * chunks).reshape(chunks, 2).tolist():
            if start != bounds[-1]:
                raise self._damaged("an index with gaps")
            bounds.append(start + length)
        if bounds[-1] + len(index) != self._path.stat().st_size:
            raise self._damaged("an index that ends elsewhere")
        return np.asarray(bounds, np.int64)

    def read(self, start: int, stop: int, out: Array | None = None) -> Array:
        """Values [start, stop) along the axis, checksums verified; written into ``out`` where it is given.

        Raises
        ------
        CorruptStoreError
            A checksum or the size of a chunk is wrong.
        """
        values = np.empty((stop - start, *self._shape), self._dtype) if out is None else out
        if start == stop:
            return values
        first, last = start // self._chunk, math.ceil(stop / self._chunk)
        for index, piece in enumerate(self._stored(first, last), first):
            begin = index * self._chunk
            low, high = max(start, begin), min(stop, begin + self._chunk)
            values[low - start : high - start] = self._decoded(piece, index)[low - begin : high - begin]
        return values

    def sums(self) -> bytes:
        """The checksum of every chunk as it is stored, and of the index, see `PartRecord`."""
        chunks = (_sum(self._stored(index, index + 1)[0]) for index in range(len(self._bounds) - 1))
        return b"".join([*chunks, self._index_sum])

    def _stored(self, first: int, last: int) -> list[memoryview]:
        """The chunks [first, last) as they are stored, by one read; good until this thread's next one."""
        bounds = self._bounds[first : last + 1].tolist()
        size = bounds[-1] - bounds[0]
        # Not `open`, whose buffers and checks cost more than the read of a small block.
        try:
            file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise self._damaged("no file") from None
        try:
            if hasattr(os, "posix_fadvise"):  # blocks come in random order: read no more than is asked for
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
            data = _thread.memory(size)
            data = data[: os.preadv(file, [data], bounds[0])]
        finally:
            os.close(file)
        return [data[start - bounds[0] : stop - bounds[0]] for start, stop in pairwise(bounds)]

    def _decoded(self, chunk: memoryview, index: int) -> Array:
        # That it is the right chunk is settled at the first read; later flips its own checksum tells.
        if self._sums is not None and not self._known[index]:
            if _sum(chunk) != self._sums[index * SUM_BYTES : (index + 1) * SUM_BYTES]:
                raise self._damaged(f"chunk {index} that does not match its checksum")
            self._known[index] = 1
        if _content_size(bytes(chunk[:18])) != self._chunk_bytes:
            raise self._damaged(f"chunk {index} of another size or without a checksum")
        try:
            content = _thread.decompressor.decompress(chunk, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise self._damaged(f"chunk {index}: {error}") from None
        return np.frombuffer(content, self._dtype).reshape(self._chunk, *self._shape)

    def _damaged(self, what: str) -> CorruptStoreError:
        return CorruptStoreError(
            f"Expected {self._path} to hold the array's chunks. Got {what}. Mend the store with `kdstore repair`."
        )


class _Thread(threading.local):
    """What a thread keeps from one read to the next: making them anew costs more than small chunks do."""

    def __init__(self) -> None:
        self.decompressor = zstandard.ZstdDecompressor()
        self._memory = bytearray()

    def memory(self, size: int) -> memoryview:
        """So many bytes to read into."""
        if len(self._memory) < size:
            self._memory = bytearray(size)
        return memoryview(self._memory)[:size]


_thread = _Thread()


def _sum(chunk: bytes | memoryview) -> bytes:
    return hashlib.sha256(chunk).digest()[:SUM_BYTES]


def _content_size(head: bytes) -> int | None:
    """The size that a zstd frame with a checksum unpacks to, from its first bytes; None for anything else."""
    if len(head) < 6 or head[:4] != _MAGIC:
        return None
    descriptor = head[4]
    # No dictionary, a checksum, nothing reserved.
    if descriptor & 0b1111 != 0b0100:
        return None
    flag, single_segment = descriptor >> 6, bool(descriptor & 0b10_0000)
    start, width = 5 + (not single_segment), (int(single_segment), 2, 4, 8)[flag]
    if not width:
        return None
    return int.from_bytes(head[start : start + width], "little") + (256 if width == 2 else 0)
