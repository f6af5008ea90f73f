"""Regular files as members of a tar archive (POSIX ustar), with nothing in their headers but name and size.

A member of a name and size has one header, so a reader builds the one that must be there and compares: links,
directories, other names and other orders are all told by that.
"""

import struct
from collections.abc import Iterable, Iterator

BLOCK = 512
END = bytes(2 * BLOCK)
"""What stands behind the last member."""
LONGEST_NAME = 100
"""Bytes of a member's name."""

_SIZE = slice(124, 135)
_CHECKSUM_AT = 148


def member(name: bytes, content: bytes) -> bytes:
    """A file as header, content, and zeros up to a whole number of blocks."""
    return _header(name, len(content)) + content + bytes(-len(content) % BLOCK)


def contents(data: memoryview, names: Iterable[bytes]) -> Iterator[memoryview]:
    """The contents of members of exactly these names in this order; raises ValueError where it is anything else."""
    at = 0
    for name in names:
        header = bytes(data[at : at + BLOCK])
        size = int(header[_SIZE], 8) if header[_SIZE].isdigit() else -1
        start, stop = at + BLOCK, at + BLOCK + size
        at = stop + -size % BLOCK
        if size < 0 or header != _header(name, size) or len(data) < at or bytes(data[stop:at]).strip(b"\0"):
            raise ValueError(f"something else where the member {name.decode()} was expected")
        yield data[start:stop]
    if at != len(data):
        raise ValueError(f"{len(data) - at:,} bytes behind the last member")


def _header(name: bytes, size: int) -> bytes:
    header = bytearray(
        struct.pack(
            "100s8s8s8s12s12s8s1s100s6s2s247x",
            name, b"0000644\0", b"0000000\0", b"0000000\0", b"%011o\0" % size, b"00000000000\0", b" " * 8, b"0",
            b"", b"ustar\0", b"00",
        )
    )  # fmt: skip
    struct.pack_into("8s", header, _CHECKSUM_AT, b"%06o\0 " % sum(header))
    return bytes(header)
