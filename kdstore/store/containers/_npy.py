"""Arrays as ``.npy`` and ``.npz`` files, byte for byte as numpy writes them.

There is one way to write an array, so a reader builds the bytes that must be there and compares, instead of acting on
what a file says of itself. Files of unknown origin cannot make it guess, unpickle, or unpack more than is expected.
"""

import math
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from kdstore.schema import Array

_MAGIC = b"\x93NUMPY\x01\x00"
_GROWTH = 21  # digits that numpy keeps free for the first dimension
_ALIGN = 64

_LOCAL, _CENTRAL, _END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_VERSION, _UNIX = 20, 3
_UTF8, _DEFLATED = 1 << 11, 8
_TIME, _DATE = 0, 1 << 5 | 1  # the first moment that zip can say: 1980-01-01
_MODE = 0o100644 << 16
_SIZES_AT, _NAME_AT = 14, 30
_LEVEL = 9  # arrays of one row are small: the best level costs little


def npy(values: Array) -> bytes:
    """An array as an ``.npy`` file."""
    return _header(str(values.dtype), values.shape) + values.tobytes()


def npy_body(data: memoryview, dtype: str, shape: tuple[int, ...]) -> memoryview:
    """The values' bytes in an ``.npy`` file of this dtype and shape; raises ValueError where it is another."""
    header = _header(dtype, shape)
    size = len(header) + _bytes(dtype, shape)
    if len(data) != size or data[: len(header)] != header:
        raise ValueError(f"something else than {size:,} bytes of {dtype} {list(shape)} as .npy")
    return data[len(header) :]


def npy_size(dtype: str, shape: tuple[int, ...]) -> int:
    """Bytes of an ``.npy`` file."""
    return len(_header(dtype, shape)) + _bytes(dtype, shape)


def npy_entries(size: int, dtype: str, shape: tuple[int, ...]) -> int:
    """How many entries [n, *shape] an ``.npy`` file of ``size`` bytes has; raises ValueError where none fits."""
    entries, rest = divmod(size - npy_size(dtype, (0, *shape)), _bytes(dtype, shape))
    if entries < 0 or rest:
        raise ValueError(f"{size:,} bytes, which no array of {dtype} {['n', *shape]} has as .npy")
    return entries


@dataclass(frozen=True)
class Packed:
    """One member of a zip file: its name, and the CRC-32 and size of what is deflated in ``data``."""

    name: bytes
    crc: int
    size: int
    data: bytes | memoryview

    def unpacked(self, size: int) -> memoryview:
        """The content, which must have ``size`` bytes; no more than that is ever unpacked. Raises ValueError."""
        if self.size != size:
            raise ValueError(f"{self.size:,} bytes in {self.name.decode()}, where {size:,} were expected")
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            # One byte more, so that the end of the stream is reached when everything is right.
            content = inflate.decompress(self.data, size + 1)
        except zlib.error as error:
            raise ValueError(f"{error} in {self.name.decode()}") from None
        if len(content) != size or not inflate.eof or inflate.unused_data or zlib.crc32(content) != self.crc:
            raise ValueError(f"{self.name.decode()} with another content than its size and CRC-32 say")
        return memoryview(content)


def npz(arrays: Mapping[str, Array]) -> bytes:
    """Arrays by name as an ``.npz`` file, deflated."""
    members = [_packed(_member_name(name), npy(values)) for name, values in arrays.items()]
    return b"".join([*(part for member in members for part in (_local(member), member.data)), _directory(members)])


def npz_members(data: memoryview, names: Iterable[str]) -> dict[str, Packed]:
    """The members of an ``.npz`` file with arrays of exactly these names in this order; raises ValueError."""
    found, at = {}, 0
    for name in names:
        encoded = _member_name(name)
        start = at + _NAME_AT + len(encoded)
        if len(data) < start:
            raise ValueError(f"the end where {name}.npy was expected")
        crc, length, size = struct.unpack_from("<3L", data, at + _SIZES_AT)
        found[name] = Packed(encoded, crc, size, data[start : start + length])
        if data[at:start] != _local(found[name]):
            raise ValueError(f"something else where {name}.npy was expected")
        at = start + length
    if data[at:] != _directory(list(found.values())):
        raise ValueError("a directory of other members")
    return found


@lru_cache(4096)
def _header(dtype: str, shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': {np.dtype(dtype).str!r}, 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (_GROWTH - len(str(shape[0])) if shape else 0)
    before = len(_MAGIC) + 2
    text += " " * (_ALIGN - (before + len(text) + 1) % _ALIGN) + "\n"
    return _MAGIC + struct.pack("<H", len(text)) + text.encode()


def _bytes(dtype: str, shape: tuple[int, ...]) -> int:
    return np.dtype(dtype).itemsize * math.prod(shape)


def _member_name(name: str) -> bytes:
    return f"{name}.npy".encode()


def _packed(name: bytes, content: bytes) -> Packed:
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return Packed(name, zlib.crc32(content), len(content), deflate.compress(content) + deflate.flush())


def _common(member: Packed) -> bytes:
    """What a member's own header and the directory say alike."""
    return struct.pack(
        "<5H3L2H",
        _VERSION, 0 if member.name.isascii() else _UTF8, _DEFLATED, _TIME, _DATE,
        member.crc, len(member.data), member.size, len(member.name), 0,
    )  # fmt: skip


def _local(member: Packed) -> bytes:
    return _LOCAL + _common(member) + member.name


def _directory(members: Sequence[Packed]) -> bytes:
    entries, at = b"", 0
    for member in members:
        made_by = struct.pack("<2B", _VERSION, _UNIX)
        entries += _CENTRAL + made_by + _common(member) + struct.pack("<3H2L", 0, 0, 0, _MODE, at) + member.name
        at += _NAME_AT + len(member.name) + len(member.data)
    return entries + _END + struct.pack("<4H2LH", 0, 0, len(members), len(members), len(entries), at, 0)
