"""JSON and text that are not what they should be: keys twice, NaN, deep nesting, bytes that are no text, pickles."""

import gzip
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from numcodecs import zstd

from kdstore.store.manifest import MANIFEST

from .damage import READINGS, ROWS, VERIFY, assert_refused, chunks_of, replace_chunk, seal, seal_part_json

PART = "parts/00000/part.json"
METADATA = "parts/00000/labels/values/zarr.json"


def reseal_text(store: Path, name: str, change: Callable[[str], str]) -> None:
    """Change the text of a JSON file, and make right what can be made right above it."""
    path = store / name
    text = change(path.read_text(encoding="utf-8"))
    path.write_text(text, encoding="utf-8")
    if name == PART:
        seal_part_json(store)
    elif name != MANIFEST:
        seal(store)


@pytest.mark.parametrize(
    ("name", "readings", "key"),
    [
        (MANIFEST, tuple(READINGS), '"seed": 0'),
        (PART, (*VERIFY, *ROWS), '"rows": 6'),
        (METADATA, ("verify", *ROWS), '"zarr_format": 3'),
    ],
)
def test_a_key_that_occurs_twice_is_refused(store: Path, name: str, readings: tuple[str, ...], key: str) -> None:
    """The last one wins in most readers, so that all values are right here; in others the first one does."""
    wrong = key[:-1] + "7"

    def twice(text: str) -> str:
        assert text.count(key) == 1
        return text.replace(key, f"{wrong}, {key}" if name == METADATA else f"{wrong},\n {key}")

    reseal_text(store, name, twice)
    assert_refused(store, *readings)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" * 5000])
def test_numbers_that_json_does_not_have_are_refused(store: Path, number: str) -> None:
    seal(store, manifest=lambda m: m["head"]["codec"]["config"].update(other=0))
    for name, key, readings in (
        (PART, '"signal_kl": null', (*VERIFY, *ROWS)),
        (METADATA, '"fill_value": 0', ("verify", *ROWS)),
    ):
        before = (store / name).read_bytes()
        reseal_text(store, name, lambda text, key=key: text.replace(key, f"{key.split(':')[0]}: {number}"))
        assert_refused(store, *readings)
        (store / name).write_bytes(before)
        seal(store)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_json_does_not_have_are_refused_where_anything_may_stand(store: Path, number: float) -> None:
    seal(store, manifest=lambda m: m["head"]["codec"]["requested"].update(other=number))
    assert_refused(store, *READINGS)


@pytest.mark.parametrize("name", [MANIFEST, PART, METADATA])
@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{}", "0", '"text"', "[" * 200_000, '{"a":' * 200_000, "\ufeff{}", "{} {}", '{"rows": 6}'],
    ids=lambda text: f"{text[:6]}x{len(text)}",
)
def test_another_document_is_refused(store: Path, name: str, text: str) -> None:
    reseal_text(store, name, lambda _: text)
    assert_refused(store, "verify", *ROWS)


def test_nesting_where_anything_may_stand_is_refused(store: Path) -> None:
    """The settings of a codec are any JSON; valid JSON of any depth is no reason to crash."""
    deep = "[" * 100_000 + "]" * 100_000
    path = store / MANIFEST
    path.write_text(re.sub(r'"requested": \{[^}]*\}', f'"requested": {{"a": {deep}}}', path.read_text()))
    assert_refused(store, *READINGS)


@pytest.mark.parametrize("name", [MANIFEST, PART, METADATA])
@pytest.mark.parametrize("data", [b"\xff\xfe{}", b'{"a": "\xc3\x28"}', b"\x00" * 40, '{"a": 1}'.encode("utf-16")])
def test_json_that_is_not_utf8_is_refused(store: Path, name: str, data: bytes) -> None:
    (store / name).write_bytes(data)
    if name == METADATA:
        seal(store)
    assert_refused(store, "verify", *ROWS)


def change_text(store: Path, field: str, change: Callable[[bytes], bytes]) -> None:
    """Change the first text of the first chunk of a text column, keeping its length."""
    name = f"{field}/values/c/0"
    chunk = zstd.decompress(chunks_of(store, name)[0])
    changed = change(chunk)
    assert len(changed) == len(chunk)
    replace_chunk(store, name, zstd.compress(changed, 16, True))


@pytest.mark.parametrize("field", ["id", "text/assertion"])
@pytest.mark.parametrize("start", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80"])
def test_a_text_that_is_not_utf8_is_refused(store: Path, field: str, start: bytes) -> None:
    change_text(store, field, lambda chunk: start + chunk[len(start) :])
    assert_refused(store, "verify", "rows")


def test_an_id_that_occurs_twice_is_refused(store: Path) -> None:
    change_text(store, "id", lambda chunk: chunk.replace(b"row-0", b"row-1"))
    assert_refused(store, "verify")


def test_ids_beside_the_parts_that_are_not_theirs_are_refused(store: Path) -> None:
    path = store / "ids/00000.jsonl.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    assert len(lines) == 11
    changes: dict[str, list[bytes]] = {
        "in another order": lines[::-1],
        "one less": lines[1:],
        "one more": [*lines, b'"a"\n'],
        "one is another": [b'"a"\n', *lines[1:]],
        "numbers": [b"1\n"] * 11,
        "not UTF-8": [b'"\xff"\n', *lines[1:]],
        "half a character": [b'"\\ud800"\n', *lines[1:]],
        "deep nesting": [b"[" * 200_000 + b"\n", *lines[1:]],
        "no line break at the end": [*lines[:-1], lines[-1].rstrip()],
        "a longer file after the end": [*lines, b"\0" * 100],
    }
    for what, changed in changes.items():
        path.write_bytes(gzip.compress(b"".join(changed)))
        seal(store)
        assert_refused(store, "verify"), what
    for what, data in {"no gzip": b"".join(lines), "a torn stream": gzip.compress(b"".join(lines))[:-9]}.items():
        path.write_bytes(data)
        seal(store)
        assert_refused(store, "verify"), what
    damaged = bytearray(gzip.compress(b"".join(lines)))
    damaged[len(damaged) // 2] ^= 0xFF
    path.write_bytes(damaged)
    seal(store)
    assert_refused(store, "verify")


class Touch:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize(
    ("name", "readings"),
    [
        (MANIFEST, VERIFY),
        (PART, (*VERIFY, *ROWS)),
        (METADATA, ("verify", *ROWS)),
        ("parts/00000/labels/values/c/0", ("verify", *ROWS)),
        ("shared/mean/c/0", ("verify", "beside")),
        ("ids/00000.jsonl.gz", ("verify",)),
    ],
)
@pytest.mark.parametrize("compress", [lambda data: data, gzip.compress, lambda data: zstd.compress(data, 3, True)])
def test_a_pickle_is_never_loaded(
    store: Path, name: str, readings: tuple[str, ...], compress: Callable[[bytes], bytes]
) -> None:
    witness = store.with_name("was loaded")
    payload = pickle.dumps(Touch(witness))
    pickle.loads(payload)
    assert witness.exists(), "the payload works"
    witness.unlink()
    (store / name).write_bytes(compress(payload))
    if name == PART:
        seal_part_json(store)
    elif name != MANIFEST:
        seal(store)
    assert_refused(store, *readings)
    assert not witness.exists()


@pytest.mark.parametrize("dtype", ["object", "numpy.object", "string", {"name": "structured"}])
@pytest.mark.parametrize("codec", ["numcodecs.pickle", "pickle", "numcodecs.vlen-utf8", "vlen-bytes"])
def test_an_array_of_objects_is_refused(store: Path, dtype: object, codec: str) -> None:
    path = store / METADATA
    metadata = json.loads(path.read_text(encoding="utf-8"))
    metadata |= {"data_type": dtype, "codecs": [{"name": codec, "configuration": {}}]}
    path.write_text(json.dumps(metadata), encoding="utf-8")
    seal(store)
    assert_refused(store, "verify", *ROWS)
