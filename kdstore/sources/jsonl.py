"""JSON Lines, plain or gzip: one JSON object per line."""

import gzip
import json
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from kdstore.errors import InputError
from kdstore.schema import Record
from kdstore.sources import SOURCES, Located, Rejected

MAX_LINE_BYTES = 16 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"


@SOURCES.register("jsonl")
def read(path: Path, max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[Located | Rejected]:
    """Yield the object of every line; blank lines are ignored, bad lines come as `Rejected`.

    Memory is bounded by ``max_line_bytes`` whatever the file holds or unpacks to. Gzip is recognised by its
    content, not by the file's name. Where a compressed stream breaks, the lines before are kept and the place
    is rejected.

    Raises
    ------
    InputError
        The file cannot be opened or read.
    """
    number = 0
    try:
        with _open(path) as stream:
            while line := stream.readline(max_line_bytes + 1):
                number += 1
                origin = f"{path.name}:{number}"
                if len(line) > max_line_bytes:
                    _skip_line(stream, line)
                    yield Rejected(origin, f"the line is longer than {max_line_bytes:,} bytes")
                elif line := (line.removeprefix(_BOM) if number == 1 else line).strip():
                    yield located(line, origin)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        yield Rejected(f"{path.name}:{number + 1}", f"the gzip stream breaks here, the rest is lost: {error}")
    except OSError as error:
        raise InputError(
            f"Expected a readable file. Got {path}: {error.strerror or error}. Check the path and its permissions."
        ) from None


def _open(path: Path) -> BinaryIO:
    stream = path.open("rb")
    if stream.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC):
        stream.close()
        return gzip.open(path, "rb")  # type: ignore[return-value]
    return stream


def _skip_line(stream: BinaryIO, line: bytes) -> None:
    while line and not line.endswith(b"\n"):
        line = stream.readline(1 << 16)


def located(line: bytes, origin: str) -> Located | Rejected:
    """The JSON object of a line, or why it is none."""
    try:
        return Located(_parse(line), origin)
    except UnicodeDecodeError as error:
        return Rejected(origin, f"not UTF-8 at byte {error.start + 1}")
    except UnicodeEncodeError:
        return Rejected(origin, "holds a lone surrogate escape, which is not valid Unicode text")
    except json.JSONDecodeError as error:
        return Rejected(origin, f"malformed JSON at column {error.colno}: {error.msg}")
    except ValueError as error:
        return Rejected(origin, str(error))
    except RecursionError:
        return Rejected(origin, "JSON nested too deeply")


def _parse(line: bytes) -> Record:
    value = json.loads(line.decode(), object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_finite)
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, got {type(value).__name__}")
    if b"\\u" in line:
        # Escapes can smuggle in half a surrogate pair, which no later step could encode.
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, item in pairs:
        if key in value:
            raise ValueError(f"the key {key[:40]!a} occurs twice")
        value[key] = item
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"the number {digits[:40]} is too large")
    return value
