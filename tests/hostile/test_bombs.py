"""Little that unpacks to much: refused before memory is taken, whatever the checksums say.

Every store here is sealed: all checksums above the bomb are right. All readings run in a process that may take
96 MiB more than it has at the start; the bombs hold 1 GiB.
"""

import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from numcodecs import zstd

from kdstore.store.manifest import MANIFEST

from .damage import ROWS, chunks_of, replace_chunk, seal

GIB = 1 << 30
ALLOWANCE = 96 << 20
ARRAY = "input_ids/values/c/0"
TESTS = Path(__file__).parents[1]

# Reads every store named on standard input in every way, with little memory; writes who refused, or the crash.
READER = f"""
import json, resource, sys
from tests.hostile.damage import READINGS, refusal
from kdstore.sources import jsonl
from pathlib import Path
import kdstore.codecs.lowrank

asked = json.load(sys.stdin)
virtual = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (virtual + {ALLOWANCE}, resource.RLIM_INFINITY))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = {{}}
for name in asked:
    if name.endswith(".kd"):
        found[name] = [reading for reading in READINGS if refusal(Path(name), reading)]
    else:
        found[name] = [result.reason for result in jsonl.read(Path(name)) if hasattr(result, "reason")]
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
json.dump({{"found": found, "grown": grown}}, sys.stdout)
"""


def frame(descriptor: int, size: bytes, blocks: list[bytes]) -> bytes:
    """A zstd frame, checksum left wrong: nothing should come so far as to look at it."""
    return b"\x28\xb5\x2f\xfd" + bytes([descriptor]) + size + b"".join(blocks) + b"\0\0\0\0"


def zeros(count: int) -> list[bytes]:
    """Zstd blocks of together ``count`` zeros, 4 bytes for 128 KiB."""
    blocks = count >> 17
    return [((1 << 20) | (1 << 1) | (index == blocks - 1)).to_bytes(3, "little") + b"\0" for index in range(blocks)]


def of_more(good: bytes) -> bytes:
    return zstd.compress(bytes(GIB), 1, True)


def of_two_frames(good: bytes) -> bytes:
    return good + zstd.compress(bytes(GIB), 1, True)


def that_claims_a_petabyte(good: bytes) -> bytes:
    """Some readers end the process on such a one."""
    return frame(0b1110_0100, (1 << 50).to_bytes(8, "little"), zeros(1 << 20))


def that_claims_little(good: bytes) -> bytes:
    return frame(0b0010_0100, bytes([len(zstd.decompress(good))]), zeros(GIB))


def that_does_not_say(good: bytes) -> bytes:
    return frame(0b0000_0100, b"\x38", zeros(GIB))


CHUNKS = [of_more, of_two_frames, that_claims_a_petabyte, that_claims_little, that_does_not_say]


def bomb_in_chunk(make: Callable[[bytes], bytes], store: Path) -> None:
    replace_chunk(store, ARRAY, make(chunks_of(store, ARRAY)[0]))


def bomb_in_shared(store: Path) -> None:
    (store / "shared/mean/c/0").write_bytes(zstd.compress(bytes(GIB), 1, True))
    seal(store)


def arrays_of_a_petabyte(store: Path) -> None:
    """Part record and metadata agree on a size that the shard cannot have."""
    values, path = 1 << 49, store / "parts/00000/input_ids/values/zarr.json"
    metadata = json.loads(path.read_text(encoding="utf-8"))
    metadata["shape"] = [2 * values]
    metadata["chunk_grid"]["configuration"]["chunk_shape"] = [2 * values]
    metadata["codecs"][0]["configuration"]["chunk_shape"] = [values]
    path.write_text(json.dumps(metadata), encoding="utf-8")
    seal(store, part=lambda record: record["block_offsets"].update(input_ids=[0, values, 2 * values]))


def ids_in(pieces: Iterator[bytes], store: Path) -> None:
    with gzip.open(store / "ids/00000.jsonl.gz", "wb", compresslevel=1) as file:
        for piece in pieces:
            file.write(piece)
    seal(store)


def endless_id(store: Path) -> None:
    ids_in((b'"' if index == 0 else bytes(1 << 20) for index in range(256)), store)


def endless_ids(store: Path) -> None:
    ids_in((b'"a"\n' * (1 << 18) for _ in range(256)), store)


def huge(name: str, store: Path) -> None:
    """A sparse file: it takes no space on disk."""
    with (store / name).open("ab") as file:
        file.truncate(GIB)


BOMBS: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    **{f"chunk {make.__name__}": (partial(bomb_in_chunk, make), ("verify", *ROWS)) for make in CHUNKS},
    "chunk of a shared array": (bomb_in_shared, ("verify", "beside")),
    "arrays of a petabyte": (arrays_of_a_petabyte, ("verify", *ROWS)),
    "an id without end": (endless_id, ("verify",)),
    "ids without end": (endless_ids, ("verify",)),
    "huge manifest": (partial(huge, MANIFEST), ("verify", "verify --quick", *ROWS, "beside")),
    "huge part.json": (partial(huge, "parts/00000/part.json"), ("verify", "verify --quick", *ROWS)),
    "huge zarr.json": (partial(huge, "parts/00000/labels/values/zarr.json"), ("verify", "verify --quick", *ROWS)),
}


def read_with_little_memory(names: list[str]) -> dict[str, list[str]]:
    """What each reading of each file refused; no reading takes more memory than is allowed."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", READER],
        input=json.dumps(names), capture_output=True, text=True, cwd=TESTS.parent, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    answer = json.loads(result.stdout)
    assert answer["grown"] < ALLOWANCE
    found: dict[str, list[str]] = answer["found"]
    return found


@pytest.fixture(scope="module")
def found(pristine: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Who refused which bomb."""
    directory = tmp_path_factory.mktemp("bombs")
    for name, (arm, _) in BOMBS.items():
        shutil.copytree(pristine, directory / f"{name}.kd")
        arm(directory / f"{name}.kd")
    answers = read_with_little_memory([str(path) for path in sorted(directory.iterdir())])
    return {Path(name).stem: readings for name, readings in answers.items()}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_in_a_store_is_refused(found: dict[str, list[str]], name: str) -> None:
    expected = set(BOMBS[name][1])
    assert expected <= set(found[name])
    assert ("verify --quick" in found[name]) == ("verify --quick" in expected), "the checksums should be right"


def test_a_bomb_in_source_rows_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b'{"a": 1}\n{"a": "')
        for _ in range(256):
            file.write(bytes(1 << 20))
        file.write(b'"}\n{"a": 2}\n')
    [reason] = read_with_little_memory([str(path)])[str(path)]
    assert "longer than" in reason
