"""Decode what a file declares only after checking the declaration, and never more than it may be."""

import base64
import binascii
from collections.abc import Callable
from functools import partial
from typing import Final

import lz4.frame
import numpy as np

from kdstore.errors import RowError
from kdstore.importers import Logits

MAX_LOGITS: Final = 1 << 26
"""Most logits of a row: 256 MiB as float32."""

_PIECE = 1 << 20  # bytes unpacked at once
_DECODERS: Final[dict[str, Callable[[str], bytes]]] = {
    "hex": binascii.unhexlify,
    "base64": partial(base64.b64decode, validate=True),
}


def decode_text(text: object, encoding: str) -> bytes:
    """The bytes of a text in ``hex`` or ``base64``; raises `RowError` when it is something else."""
    if not isinstance(text, str):
        raise RowError(f"Expected a text in {encoding}. Got {type(text).__name__}. Correct the row.")
    try:
        return _DECODERS[encoding](text)
    except ValueError:  # binascii.Error is one
        raise RowError(
            f"Expected a text in {encoding}. Got {len(text):,} characters that are not. Correct the row."
        ) from None


def decompress(data: bytes, most: int) -> bytes:
    """What an LZ4 frame holds, at most ``most`` bytes; a frame that unpacks to more is left alone.

    Raises
    ------
    RowError
        It is not one whole frame, or holds more than ``most``.
    """
    try:
        declared = lz4.frame.get_frame_info(data)["content_size"]
        if declared > most:
            raise RowError(
                f"Expected at most {most:,} bytes in an LZ4 frame. Got a size of {declared:,}. Drop the row."
            )
        unpacked = bytearray()
        frame = lz4.frame.LZ4FrameDecompressor()
        piece = frame.decompress(data, max_length=_PIECE)
        while piece and len(unpacked) <= most:
            unpacked += piece
            piece = b"" if frame.eof else frame.decompress(b"", max_length=_PIECE)
    except RuntimeError as error:
        raise RowError(
            f"Expected an LZ4 frame. Got {len(data):,} bytes that are not: {error}. Drop the row."
        ) from None
    if len(unpacked) > most:
        raise RowError(f"Expected at most {most:,} bytes in an LZ4 frame. Got more. Drop the row.")
    if not frame.eof or frame.unused_data:
        raise RowError(
            f"Expected one whole LZ4 frame. Got one that {'goes on after its end' if frame.eof else 'breaks off'}. "
            "Drop the row."
        )
    return bytes(unpacked)


def finite(logits_LV: Logits) -> Logits:
    """The logits, [L, V]; raises `RowError` where one is not a finite number."""
    good_LV = np.isfinite(logits_LV)
    if not good_LV.all():
        position, token = np.argwhere(~good_LV)[0]
        raise RowError(
            f"Expected finite logits. Got {logits_LV[position, token]} at position {position}, id {token}. "
            "Drop the row."
        )
    return logits_LV
