"""Every damage to a store is noticed, or provably harmless: bit flips all over it, and files that changed as a whole.

The counts go to the file that ``KDSTORE_RELIABILITY_JSON`` names, from which `tools/docs/reliability.py` makes the
table of docs/reliability.md. Other readers of Zarr are measured beside ours; nothing is asked of them.
"""

import importlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from kdstore.errors import KDError
from kdstore.schema import Block
from kdstore.store.reader import Store

from ..small_store import write_store
from .damage import VERIFY, join_shard, refusal, split_shard
from .foreign_reader import PIPELINES
from .test_bombs import that_claims_a_petabyte

ROOT = Path(__file__).parents[2]
OUT = "KDSTORE_RELIABILITY_JSON"
WAYS = ("whole", "aligned", "partial")  # what others read: the array, the damaged chunk, some of that chunk's values
Truth = dict[tuple[int, int, str], bytes]


@dataclass(frozen=True)
class Damage:
    """One change of one file, by its path in the store. ``chunk``: of an array, the one whose values it concerns."""

    kind: str
    name: str
    apply: Callable[[Path], None]
    chunk: int | None = None


@dataclass(frozen=True)
class Kind:
    """How many bits are flipped in files of a kind, and whether readings of rows or of shared arrays need these."""

    name: str
    flips: int
    holds: Callable[[str], bool]
    read: bool


def in_part(name: str) -> bool:
    return name.startswith("parts/0")


def is_shard(name: str) -> bool:
    return in_part(name) and "/c/" in name


def is_array_metadata(name: str) -> bool:
    return in_part(name) and name.endswith("zarr.json") and name.rpartition("/")[0] in ARRAYS


VALUES, INDEX = "a bit in the values of an array", "a bit in the index of a shard"
METADATA = "a bit in the metadata of an array"
TAR = "a bit in the tar file of a webdataset part"
OTHERS = "a bit in values with a trailing crc32c, as other stores have them"
ARRAYS: set[str] = set()
KINDS = [
    Kind(VALUES, 80, is_shard, read=True),
    Kind(INDEX, 30, is_shard, read=True),
    Kind(METADATA, 20, is_array_metadata, read=True),
    Kind("a bit in `part.json`", 15, lambda name: name.endswith("part.json"), read=True),
    Kind("a bit in `manifest.json`", 15, lambda name: name == "manifest.json", read=True),
    Kind("a bit in a shared array", 15, lambda name: name.startswith("shared/") and name != "shared/zarr.json", True),
    Kind("a bit in the metadata of a group", 10, lambda name: name in ("zarr.json", "parts/zarr.json"), read=False),
    Kind("a bit in the row ids beside the parts", 15, lambda name: name.startswith("ids/"), read=False),
]


@pytest.fixture(scope="module")
def damages(pristine: Path) -> list[Damage]:
    """200 bit flips and 55 changes of whole shards, the same ones every time."""
    names = sorted(path.relative_to(pristine).as_posix() for path in pristine.rglob("*") if path.is_file())
    ARRAYS.update(name.rpartition("/c/")[0] for name in names if is_shard(name))
    rng = random.Random(4)
    found = [flip for kind in KINDS for flip in flips(kind, pristine, names, rng)]
    assert len(found) == 200
    shards = [name for name in names if is_shard(name)]
    whole = {"missing": Path.unlink, "empty": empty, "one byte short": cut, "all zeros": zeroed}
    for what, apply in whole.items():
        found += [Damage(f"a shard that is {what}", name, apply, 0) for name in rng.sample(shards, 10)]
    found += [Damage("a chunk that claims a petabyte", name, claim_a_petabyte, 0) for name in rng.sample(shards, 5)]
    return found + list(swaps(pristine, shards, rng))


def flips(kind: Kind, root: Path, names: list[str], rng: random.Random) -> Iterator[Damage]:
    """Positions spread evenly over all bytes of a kind."""
    files = [name for name in names if kind.holds(name)]
    spans = [(name, *span(kind, root, name)) for name in files]
    places = [(name, position) for name, start, stop in spans for position in range(start, stop)]
    for name, position in rng.sample(places, kind.flips):
        bit = 1 << rng.randrange(8)
        chunk = chunk_at(root, name, position) if kind.name in (VALUES, INDEX) else 0
        yield Damage(kind.name, name, lambda path, p=position, b=bit: flip(path, p, b), chunk)


def span(kind: Kind, root: Path, name: str) -> tuple[int, int]:
    """The bytes of a file that belong to a kind."""
    size = (root / name).stat().st_size
    if kind.name not in (VALUES, INDEX):
        return 0, size
    end = size - index_bytes(root, name)
    return (0, end) if kind.name == VALUES else (end, size)


def index_bytes(root: Path, name: str) -> int:
    shape, chunk = dimensions(root / name.rpartition("/c/")[0])
    return 16 * -(-shape // chunk) + 4


def dimensions(array: Path) -> tuple[int, int]:
    """Values, and values per chunk, of an array."""
    metadata = json.loads((array / "zarr.json").read_text(encoding="utf-8"))
    return metadata["shape"][0], metadata["codecs"][0]["configuration"]["chunk_shape"][0]


def chunk_at(root: Path, name: str, position: int) -> int:
    """The chunk that a byte of a shard belongs to, or that its entry of the index does."""
    data, index = (root / name).read_bytes(), index_bytes(root, name)
    start = len(data) - index
    if position >= start:
        return min((position - start) // 16, index // 16 - 1)
    ends = np.frombuffer(data[start:-4], "<u8").reshape(-1, 2).sum(axis=1)
    return int(np.searchsorted(ends, position, "right"))


def flip(path: Path, position: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= bit
    path.write_bytes(data)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def claim_a_petabyte(path: Path) -> None:
    path.write_bytes(join_shard([that_claims_a_petabyte(b"")]))


def swaps(root: Path, shards: list[str], rng: random.Random) -> Iterator[Damage]:
    """Shards that take the content of another one of the same size."""
    content = {name: (root / name).read_bytes() for name in shards}
    pairs = [
        (one, other)
        for one in shards
        for other in shards
        if len(content[one]) == len(content[other]) and content[one] != content[other]
    ]
    for one, other in rng.sample(pairs, 10):
        yield Damage("a shard in the place of another", one, lambda path, d=content[other]: put(path, d), 0)


def put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def truth_of(root: Path) -> Truth:
    """The bytes of every field of every block."""
    store = Store(root)
    return {
        (part, block, field.name): content(store.part(part).read(block, block + 1, [field.name]))
        for part, block in store.blocks()
        for field in store.schema.fields
    }


def content(block: Block) -> bytes:
    return b"".join(path.encode() + array.tobytes() for path, array in sorted(block.arrays.items()))


def read_everything(root: Path, truth: Truth, shared: dict[str, bytes]) -> str:
    """``noticed`` by one reading at least, or ``right``, all values being the true ones; ``wrong`` must not be."""
    outcomes = {"right"}
    try:
        store = Store(root)
    except KDError:
        return "noticed"
    for (part, block, field), expected in truth.items():
        try:
            found = content(store.part(part).read(block, block + 1, [field]))
        except KDError:
            outcomes.add("noticed")
        else:
            outcomes.add("right" if found == expected else "wrong")
    try:
        arrays = {name: array.tobytes() for name, array in store.shared_arrays().items()}
        outcomes.add("right" if arrays == shared else "wrong")
    except KDError:
        outcomes.add("noticed")
    return next(outcome for outcome in ("wrong", "noticed", "right") if outcome in outcomes)


@pytest.fixture(scope="module")
def ours(pristine: Path, damages: list[Damage], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """For every damage, what `verify`, `verify --quick` and the reader say of it."""
    root = tmp_path_factory.mktemp("matrix") / "store.kd"
    shutil.copytree(pristine, root)
    return said_of(root, damages)


def said_of(root: Path, damages: list[Damage]) -> list[dict[str, str]]:
    """See `ours`; the store is damaged and mended for each."""
    truth = truth_of(root)
    shared = {name: array.tobytes() for name, array in Store(root).shared_arrays().items()}
    found = []
    for damage in damages:
        path = root / damage.name
        before = path.read_bytes()
        damage.apply(path)
        row = {reading: "noticed" if refusal(root, reading) else "right" for reading in VERIFY}
        found.append(row | {"reader": read_everything(root, truth, shared)})
        path.write_bytes(before)
    assert read_everything(root, truth, shared) == "right"
    return found


@pytest.fixture(scope="module")
def theirs(pristine: Path, damages: list[Damage], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """For every damage to an array, what other readers say of it, by pipeline and way of reading."""
    directory = tmp_path_factory.mktemp("foreign")
    found: list[dict[str, str]] = [{} for _ in damages]
    concerned = [number for number, damage in enumerate(damages) if is_array(damage)]
    for pipeline in PIPELINES:
        cases, expected = [], []
        for number in concerned:
            damage, array = damages[number], directory / str(number)
            home = pristine / damage.name.rpartition("/c/" if "/c/" in damage.name else "/")[0]
            bounds = ranges(home, damage.chunk or 0)
            expected.append(case(home, bounds, "zarr-python"))
            if not array.exists():
                shutil.copytree(home, array)
                damage.apply(array / (pristine / damage.name).relative_to(home))
            cases.append(case(array, bounds, pipeline))
        for number, right, answer in zip(concerned, foreign(expected), foreign(cases), strict=True):
            found[number] |= {
                f"{pipeline} {way}": outcome(one, other) for way, one, other in zip(WAYS, right, answer, strict=True)
            }
    return found


def is_array(damage: Damage) -> bool:
    return is_shard(damage.name) or damage.kind == METADATA


def ranges(array: Path, index: int) -> list[list[int]]:
    """The ranges of `WAYS` that concern a chunk."""
    extent, chunk = dimensions(array)
    start, stop = index * chunk, min((index + 1) * chunk, extent)
    quarter = (stop - start) // 4
    return [[0, extent], [start, stop], [start + quarter, max(start + quarter + 1, stop - quarter - 1)]]


def outcome(right: str | None, answer: str | None) -> str:
    assert right
    if answer is None:
        return "noticed"
    return answer if answer == "aborted" else "right" if answer == right else "wrong"


def foreign(cases: list[dict[str, object]]) -> list[list[str | None]]:
    """The answers of `foreign_reader`, started again behind every case at which it ends."""
    answers: list[list[str | None]] = []
    while len(answers) < len(cases):
        result = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("foreign_reader.py"))],
            input="".join(json.dumps(case) + "\n" for case in cases[len(answers) :]),
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        answers += [json.loads(line) for line in result.stdout.splitlines()]
        if result.returncode:
            answers.append(["aborted"] * len(WAYS))
    return answers


def test_damage_is_noticed(damages: list[Damage], ours: list[dict[str, str]]) -> None:
    read = {kind.name: kind.read for kind in KINDS}
    for damage, row in zip(damages, ours, strict=True):
        where = f"{damage.kind}: {damage.name}"
        assert row["verify"] == row["verify --quick"] == "noticed", where
        assert row["reader"] == ("noticed" if read.get(damage.kind, True) else "right"), where


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Damage], list[dict[str, str]]]:
    """Bits flipped in the tar files of a store of webdataset parts, and what is said of them."""
    root = write_store(tmp_path_factory.mktemp("tars") / "store.kd", container="webdataset").root
    names = sorted(path.relative_to(root).as_posix() for path in root.glob("parts/*/*.tar"))
    assert len(names) == 2
    damages = list(flips(Kind(TAR, 40, lambda name: True, read=True), root, names, random.Random(6)))
    return damages, said_of(root, damages)


def test_damage_to_a_tar_file_is_noticed(tars: tuple[list[Damage], list[dict[str, str]]]) -> None:
    for damage, row in zip(*tars, strict=True):
        assert set(row.values()) == {"noticed"}, damage.name


def test_other_readers_are_measured(
    tmp_path: Path,
    damages: list[Damage],
    ours: list[dict[str, str]],
    theirs: list[dict[str, str]],
    tars: tuple[list[Damage], list[dict[str, str]]],
) -> None:
    """They see the undamaged arrays as we do; and the record is written where it is asked for."""
    counts: dict[str, dict[str, Counter[str]]] = {}
    rows = [one | other for one, other in zip(ours, theirs, strict=True)]
    for damage, row in zip([*damages, *tars[0]], [*rows, *tars[1]], strict=True):
        for column, result in row.items():
            counts.setdefault(damage.kind, {}).setdefault(column, Counter())[result] += 1
    counts[OTHERS] = other_checksums(tmp_path)
    missing = counts["a shard that is missing"]
    assert missing["zarr-python whole"]["wrong"] + missing["zarrs whole"]["wrong"] > 0, "they see zeros"
    if OUT in os.environ:
        record = {"versions": versions(), "counts": counts}
        Path(os.environ[OUT]).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def other_checksums(directory: Path) -> dict[str, Counter[str]]:
    """Bits flipped in an array whose chunks have a trailing crc32c in place of zstd's own checksum."""
    good, rng = directory / "good", random.Random(5)
    array = zarr.create_array(
        good, shape=(4096,), dtype="uint16", chunks=(256,), shards=(4096,), fill_value=0,
        compressors=[ZstdCodec(level=3), Crc32cCodec()],
    )  # fmt: skip
    array[:] = np.random.default_rng(5).integers(0, 1000, 4096)
    chunks = split_shard((good / "c/0").read_bytes(), 16)
    bounds = []
    for number in range(40):
        shutil.copytree(good, directory / str(number))
        chunk = rng.randrange(16)
        start = sum(map(len, chunks[:chunk]))
        flip(directory / str(number) / "c/0", start + rng.randrange(len(chunks[chunk])), 1 << rng.randrange(8))
        bounds.append(ranges(good, chunk))
    found: dict[str, Counter[str]] = {}
    expected = foreign([case(good, one, "zarr-python") for one in bounds])
    for pipeline in PIPELINES:
        answers = foreign([case(directory / str(number), one, pipeline) for number, one in enumerate(bounds)])
        for index, way in enumerate(WAYS):
            found[f"{pipeline} {way}"] = Counter(
                outcome(right[index], answer[index]) for right, answer in zip(expected, answers, strict=True)
            )
    return found


def case(directory: Path, bounds: list[list[int]], pipeline: str) -> dict[str, object]:
    return {"directory": str(directory), "ranges": bounds, "pipeline": pipeline}


def versions() -> dict[str, str]:
    return {name: version(name) for name in ("zarr", "zarrs", "numcodecs")}


def test_the_page_has_the_table_of_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools/docs")
    docs = importlib.import_module("reliability")
    assert docs.PAGE.read_text(encoding="utf-8") == docs.page(), f"run `{docs.COMMAND}`"
