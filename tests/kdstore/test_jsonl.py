import gzip
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdstore.errors import EmptyInputError, InputError
from kdstore.sources import SOURCES, Located, Rejected, open_source
from kdstore.sources.jsonl import read

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
records = st.dictionaries(st.text(), json_values, max_size=4)
reusing_tmp_path = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def reasons(path: Path, **options: int) -> list[tuple[str, str]]:
    return [(item.origin, item.reason) for item in read(path, **options) if isinstance(item, Rejected)]


@given(rows=st.lists(records, max_size=6), ascii_only=st.booleans())
@reusing_tmp_path
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_reads_back_what_was_written(
    tmp_path: Path, name: str, rows: list[dict[str, object]], ascii_only: bool
) -> None:
    lines = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
    path = write(tmp_path / name, "\n".join(lines).encode())
    expected = [Located(row, f"{name}:{number}") for number, row in enumerate(rows, 1)]
    assert list(open_source(path)) == expected


@given(
    content=st.binary(max_size=300)
    | st.lists(st.sampled_from([b"{", b"}", b'"', b"\\ud800", b":", b"[", b"1e999", b"\n", b"a", b"NaN"])).map(
        b"".join
    )
)
@reusing_tmp_path
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_arbitrary_bytes_never_crash_and_no_line_is_lost(tmp_path: Path, name: str, content: bytes) -> None:
    items = list(open_source(write(tmp_path / name, content)))
    if not content.startswith(b"\x1f\x8b"):
        lines = enumerate(content.split(b"\n"), 1)
        bom = b"\xef\xbb\xbf"
        filled = [n for n, line in lines if (line.removeprefix(bom) if n == 1 else line).strip()]
        assert [item.origin for item in items] == [f"{name}:{number}" for number in filled]
    for item in items:
        if isinstance(item, Located):
            json.dumps(item.record, ensure_ascii=False, allow_nan=False).encode()
        else:
            assert "\n" not in item.reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": 1', "malformed JSON at column 8"),
        (b'{"a": "\xff"}', "not UTF-8 at byte 8"),
        (b"[1]", "expected a JSON object, got list"),
        (b"null", "expected a JSON object, got NoneType"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": -Infinity}', "-Infinity is not a JSON number"),
        (b'{"a": 1e999}', "the number 1e999 is too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "integer string conversion"),
        (b'{"a": 1, "a": 2}', "the key 'a' occurs twice"),
        (b'{"a": {"b": 1, "b": 2}}', "the key 'b' occurs twice"),
        (b'{"a": "\\ud800"}', "lone surrogate"),
        (b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "nested too deeply"),
    ],
)
def test_a_bad_line_is_rejected_with_its_number_and_the_others_are_kept(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    path = write(tmp_path / "rows.jsonl", b'{"n": 1}\n\n' + line + b'\n{"n": 2}\n')
    first, bad, last = read(path)
    assert (first, last) == (Located({"n": 1}, "rows.jsonl:1"), Located({"n": 2}, "rows.jsonl:4"))
    assert isinstance(bad, Rejected)
    assert bad.origin == "rows.jsonl:3"
    assert reason in bad.reason


def test_an_overlong_line_is_rejected_and_the_next_one_read(tmp_path: Path) -> None:
    fits = b'{"a": "' + b"x" * 90 + b'"}\n'
    path = write(tmp_path / "rows.jsonl", fits + b"y" * 1000 + b"\n" + fits)
    items = list(read(path, max_line_bytes=len(fits)))
    assert [type(item) for item in items] == [Located, Rejected, Located]
    assert reasons(path, max_line_bytes=len(fits)) == [("rows.jsonl:2", "the line is longer than 100 bytes")]


def test_a_decompression_bomb_needs_little_memory(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "bomb.jsonl.gz"
    with gzip.open(path, "wb") as packed:
        for _ in range(64):
            packed.write(b" " * (1 << 20))
    tracemalloc.start()
    assert reasons(path, max_line_bytes=1 << 16) == [("bomb.jsonl.gz:1", "the line is longer than 65,536 bytes")]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_where_a_gzip_stream_breaks_the_lines_before_are_kept(tmp_path: Path, damage: str) -> None:
    import random

    noise = random.Random(0)
    lines = [json.dumps({"n": n, "noise": noise.random()}) for n in range(20_000)]
    packed = bytearray(gzip.compress("\n".join(lines).encode()))
    half = len(packed) // 2
    if damage == "cut":
        del packed[half:]
    else:
        packed[half : half + 64] = b"\xff" * 64
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(packed)
    *kept, last = read(path)
    assert isinstance(last, Rejected)
    assert "gzip stream breaks here" in last.reason
    good = [item for item in kept if isinstance(item, Located)]
    assert len(good) > 5_000
    assert last.origin == f"rows.jsonl.gz:{len(kept) + 1}"
    if damage == "cut":
        assert [item.record["n"] for item in good] == list(range(len(good)))


def test_gzip_is_known_by_content(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.jsonl.gz", tmp_path / "packed.jsonl"
    plain.write_bytes(b'{"a": 1}\n')
    packed.write_bytes(gzip.compress(b'{"a": 1}\n'))
    for path in (plain, packed):
        assert [item.record for item in read(path) if isinstance(item, Located)] == [{"a": 1}]


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", b'\xef\xbb\xbf{"a": 1}\r\n')
    assert list(read(path)) == [Located({"a": 1}, "rows.jsonl:1")]


def test_a_directory_is_read_file_by_file_in_order(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", b'{"n": 2}')
    write(tmp_path / "a.jsonl.gz", b'{"n": 1}')
    write(tmp_path / "notes.txt", b"not rows")
    assert [item.origin for item in open_source(tmp_path)] == ["a.jsonl.gz:1", "b.jsonl:1"]


def test_unusable_paths_are_one_line_errors_at_once(tmp_path: Path) -> None:
    text = write(tmp_path / "rows.txt", b"{}")
    folder = tmp_path / "empty"
    folder.mkdir()
    with pytest.raises(InputError, match=r"does not exist. Check the path\.$"):
        open_source(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match=r"Expected a file ending in \.jsonl.*Got .*rows\.txt"):
        open_source(text)
    with pytest.raises(EmptyInputError, match="Got none in the directory"):
        open_source(folder)


def test_the_registry_finds_the_readers() -> None:
    assert {"jsonl", "java_repo"} <= set(SOURCES.names())
    assert SOURCES.get("jsonl") is read
    assert SOURCES.origin("java_repo") == "kdstore.sources.java_repo"
