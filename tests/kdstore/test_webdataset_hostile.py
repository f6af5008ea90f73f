"""Tar files of unknown origin, under checksums that fit: refused at once, and never obeyed."""

import dataclasses
import hashlib
import io
import os
import pickle
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdstore.errors import CorruptStoreError
from kdstore.store.containers import _npy, _tar
from kdstore.store.files import file_record
from kdstore.store.reader import Store
from kdstore.store.verify import verify

from .test_store import reseal

ROWS = "parts/00000/rows.tar"


Member = tuple[str, bytes]
"""A member's name, and all its bytes: header, content and padding."""


def members(tar: bytes) -> list[Member]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        infos = archive.getmembers()
    ends = [info.offset for info in infos[1:]] + [len(tar) - len(_tar.END)]
    return [(info.name, tar[info.offset : end]) for info, end in zip(infos, ends, strict=True)]


def forge(root: Path, change: Callable[[list[Member]], list[Member]]) -> None:
    """Change the members of the first block, and make every checksum and size above them right again."""
    path = root / ROWS
    tar = path.read_bytes()

    def seal(record: dict[str, Any], part: Path) -> None:
        index = record["tar"]
        split = index["offsets"][1]
        first = [member for member in members(tar) if member[0] < "00000-000003"]
        block = b"".join(data for _, data in change(first))
        grown = len(block) - split
        path.write_bytes(block + tar[split:])
        index["offsets"] = [0, *(offset + grown for offset in index["offsets"][1:])]
        index["sha256"][0] = hashlib.sha256(block).hexdigest()
        index["field_bytes"] = {**dict.fromkeys(index["field_bytes"], 0), "id": index["offsets"][-1]}
        record["files"]["rows.tar"] = asdict(file_record(path))

    reseal(root, 0, seal)


def replaced(suffix: str, make: Callable[[bytes], bytes]) -> Callable[[list[Member]], list[Member]]:
    """Give the first member with this suffix another content, under a good header."""

    def change(found: list[Member]) -> list[Member]:
        at = next(i for i, (name, _) in enumerate(found) if name.endswith(suffix))
        name, data = found[at]
        with tarfile.open(fileobj=io.BytesIO(data + _tar.END)) as archive:
            file = archive.extractfile(name)
            assert file
            content = make(file.read())
        return [*found[:at], (name, _tar.member(name.encode(), content)), *found[at + 1 :]]

    return change


def header(name: str, **changes: Any) -> Member:
    info = tarfile.TarInfo(name)
    for key, value in changes.items():
        setattr(info, key, value)
    return name, info.tobuf(tarfile.GNU_FORMAT)


def with_first(name: str = "00000-000000.id.txt", **changes: Any) -> Callable[[list[Member]], list[Member]]:
    """Put an empty member of another type or name in place of the first one."""
    return lambda found: [header(name, **changes), *found[1:]]


def relabelled(at: int, value: bytes) -> Callable[[list[Member]], list[Member]]:
    """Overwrite bytes of the first header, and make its checksum right."""

    def change(found: list[Member]) -> list[Member]:
        data = bytearray(found[0][1])
        data[at : at + len(value)] = value
        data[148:156] = b" " * 8
        data[148:156] = b"%06o\0 " % sum(data[:512])
        return [(found[0][0], bytes(data)), *found[1:]]

    return change


def dirty_padding(found: list[Member]) -> list[Member]:
    return [(found[0][0], found[0][1][:-1] + b"x"), *found[1:]]


def cut_short(found: list[Member]) -> list[Member]:
    return [*found[:-1], (found[-1][0], found[-1][1][:-512])]


TARS: dict[str, Callable[[list[Member]], list[Member]]] = {
    "extra member": lambda found: [*found, header("00000-000002.zzz.txt")],
    "extra member between": lambda found: [found[0], header("00000-000000.aaa.txt"), *found[1:]],
    "missing member": lambda found: [found[0], *found[2:]],
    "missing row": lambda found: found[10:],
    "no members": lambda found: [],
    "member twice": lambda found: [found[0], *found],
    "members in another order": lambda found: [found[1], found[0], *found[2:]],
    "rows in another order": lambda found: [*found[10:20], *found[:10], *found[20:]],
    "renamed": lambda found: [header("00000-000000.ID.txt"), *found[1:]],
    "row of another part": lambda found: [header("00001-000000.id.txt"), *found[1:]],
    "absolute name": with_first(name="/etc/passwd"),
    "name that climbs": with_first(name="../../00000-000000.id.txt"),
    "symbolic link": with_first(type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "hard link": with_first(type=tarfile.LNKTYPE, linkname="00000-000000.labels.npy"),
    "directory": with_first(type=tarfile.DIRTYPE),
    "device": with_first(type=tarfile.CHRTYPE, devmajor=1, devminor=5),
    "fifo": with_first(type=tarfile.FIFOTYPE),
    "long name": with_first(name="n" * 200),
    "size in base 256": with_first(size=1 << 40),
    "huge size": relabelled(124, b"77777777777\0"),
    "negative size": relabelled(124, b"-0000000001\0"),
    "size with a sign": relabelled(124, b"+0000000014\0"),
    "size of no digits": relabelled(124, b"9" * 11 + b"\0"),
    "set-user-id bit": relabelled(100, b"0004755\0"),
    "owner": relabelled(265, b"root\0"),
    "dirty padding": dirty_padding,
    "bytes behind the last member": lambda found: [*found, ("", b"x" * 512)],
    "zeros in the middle": lambda found: [*found[:10], ("", _tar.END), *found[10:]],
    "truncated": cut_short,
}


def saved(values: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, values, version=version)
    return file.getvalue()


def lying(content: bytes, was: str, now: str) -> bytes:
    """Another text in the header of an npy file of the same length."""
    assert was.encode() in content
    return content.replace(was.encode(), now.encode()).replace(b" " * (len(now) - len(was)) + b"\n", b"\n", 1)


class Payload:
    """What must never be unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("unpickled",)


def zipped(content: bytes, change: Callable[[dict[str, bytes]], dict[str, bytes]], **options: Any) -> bytes:
    """The same zip file with other members."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        found = change({name: archive.read(name) for name in archive.namelist()})
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **{"compression": zipfile.ZIP_DEFLATED, **options}) as archive:
        for name, data in found.items():
            info = zipfile.ZipInfo(name)
            info.compress_type, info.external_attr = options.get("compression", zipfile.ZIP_DEFLATED), 0o100644 << 16
            archive.writestr(info, data)
    return file.getvalue()


def packed(names: list[str], contents: list[bytes], sizes: list[int]) -> bytes:
    """A zip file in our own form, whose sizes may lie."""
    made = [_npy._packed(f"{name}.npy".encode(), content) for name, content in zip(names, contents, strict=True)]
    made = [dataclasses.replace(member, size=size) for member, size in zip(made, sizes, strict=True)]
    parts = [part for member in made for part in (_npy._local(member), bytes(member.data))]
    return b"".join([*parts, _npy._directory(made)])


BOMB = 64 << 20
ZEROS = bytes(BOMB)
SIGNAL = ["ids", "log_probs", "log_tail", "kept/lengths"]


def tree_bomb(_: bytes) -> bytes:
    """Two arrays of 16 million nodes, deflated to a thousandth, whose headers are right."""
    nodes = np.zeros(BOMB // 4, np.int32)
    return _npy.npz({"values": nodes, "parents": nodes})


def tree_bomb_that_lies(_: bytes) -> bytes:
    """The same, said to be two nodes."""
    head = saved(np.zeros(1, np.int32))
    return packed(["values", "parents"], [head + ZEROS, head], [len(head), len(head)])


def tree_with_another_size(_: bytes) -> bytes:
    """One node, said to have two parents."""
    nodes = saved(np.zeros(1, np.int32))
    return packed(["values", "parents"], [nodes, nodes], [len(nodes), len(nodes) + 4])


def signal_bomb(content: bytes) -> bytes:
    """Zeros behind the values of an array, of which its size says nothing."""
    with np.load(io.BytesIO(content)) as found:
        arrays = {name: found[name] for name in SIGNAL}
    contents = [saved(values) for values in arrays.values()]
    sizes = [len(data) for data in contents]
    return packed(SIGNAL, [contents[0] + ZEROS, *contents[1:]], sizes)


def kept_lengths(content: bytes) -> bytes:
    """Counts that would make of each label token 65,535 entries."""
    with np.load(io.BytesIO(content)) as found:
        arrays = {name: found[name] for name in SIGNAL}
    arrays["kept/lengths"] = np.full_like(arrays["kept/lengths"], 65535)
    return _npy.npz(arrays)


FILES: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "npy: shape of a million times a million": (
        ".labels.npy",
        lambda content: lying(content, "(3,)", "(1000000000000,)"),
    ),
    "npy: shape that overflows": (".labels.npy", lambda content: lying(content, "(3,)", "(9223372036854775809,)")),
    "npy: negative shape": (".labels.npy", lambda content: lying(content, "(3,)", "(-3,)")),
    "npy: two dimensions": (".labels.npy", lambda _: saved(np.zeros((3, 1), np.uint16))),
    "npy: other dtype": (".labels.npy", lambda _: saved(np.zeros(3, np.int16))),
    "npy: other width": (".embeddings.minilm.npy", lambda _: saved(np.zeros(5, np.float16))),
    "npy: big-endian": (".labels.npy", lambda _: saved(np.zeros(3, ">u2"))),
    "npy: Fortran order": (".labels.npy", lambda content: lying(content, "False", "True ")),
    "npy: version 2": (".labels.npy", lambda _: saved(np.zeros(3, np.uint16), (2, 0))),
    "npy: structured": (".labels.npy", lambda _: saved(np.zeros(3, [("a", np.uint16)]))),
    "npy: pickled objects": (".labels.npy", lambda _: saved(np.array([Payload()] * 3, object))),
    "npy: a pickle": (".labels.npy", lambda _: pickle.dumps(Payload())),
    "npy: code in the header": (".labels.npy", lambda content: lying(content, "(3,)", "exit()")),
    "npy: too many values": (".labels.npy", lambda content: content + b"\0\0"),
    "npy: half a value": (".labels.npy", lambda content: content[:-1]),
    "npy: empty": (".labels.npy", lambda _: b""),
    "npy: header only in part": (".labels.npy", lambda content: content[:40]),
    "npy: one label less": (".labels.npy", lambda _: saved(np.zeros(2, np.uint16))),
    "npy: scalar with a dimension": (".weight.npy", lambda _: saved(np.zeros(1, np.float32))),
    "npy: fewer than there are labels": (".label_logprob.npy", lambda _: saved(np.zeros(2, np.float32))),
    "txt: another length": (".id.txt", lambda content: content + b"x"),
    "npz: bomb with honest headers": (".tree.npz", tree_bomb),
    "npz: bomb that lies": (".tree.npz", tree_bomb_that_lies),
    "npz: bomb behind the values": (".teacher.npz", signal_bomb),
    "npz: lengths that promise more": (".teacher.npz", kept_lengths),
    "npz: size that lies by a value": (".tree.npz", tree_with_another_size),
    "npz: extra member": (".tree.npz", lambda content: zipped(content, lambda found: {**found, "x.npy": b""})),
    "npz: missing member": (
        ".teacher.npz",
        lambda content: zipped(content, lambda found: {k: v for k, v in found.items() if k != "ids.npy"}),
    ),
    "npz: renamed member": (
        ".tree.npz",
        lambda content: zipped(content, lambda found: {k.replace("values", "../val"): v for k, v in found.items()}),
    ),
    "npz: other order": (
        ".tree.npz",
        lambda content: zipped(content, lambda found: dict(reversed(list(found.items())))),
    ),
    "npz: stored, not deflated": (
        ".tree.npz",
        lambda content: zipped(content, lambda found: found, compression=zipfile.ZIP_STORED),
    ),
    "npz: LZMA": (".tree.npz", lambda content: zipped(content, lambda found: found, compression=zipfile.ZIP_LZMA)),
    "npz: pickled objects": (
        ".tree.npz",
        lambda content: zipped(content, lambda found: {k: saved(np.array([Payload()], object)) for k in found}),
    ),
    "npz: other dtype": (
        ".tree.npz",
        lambda _: _npy.npz({"values": np.zeros(1, np.uint32), "parents": np.zeros(1, np.int32)}),
    ),
    "npz: arrays of different lengths": (
        ".tree.npz",
        lambda _: _npy.npz({"values": np.zeros(1, np.int32), "parents": np.zeros(2, np.int32)}),
    ),
    "npz: bytes behind": (".tree.npz", lambda content: content + b"\0"),
    "npz: bytes in front": (".tree.npz", lambda content: b"\0" + content),
    "npz: comment": (".tree.npz", lambda content: content[:-2] + b"\1\0x"),
    "npz: encrypted": (".tree.npz", lambda content: content[:6] + b"\1" + content[7:]),
    "npz: wrong CRC": (".tree.npz", lambda content: content[:14] + b"\0\0\0\0" + content[18:]),
    "npz: wrong CRC twice": (
        ".tree.npz",
        lambda content: content.replace(content[14:18], bytes(4)),
    ),
    "npz: not deflate": (
        ".tree.npz",
        lambda content: content[:40] + b"\xff" * 10 + content[50:],
    ),
    "npz: size of 4 GiB": (
        ".tree.npz",
        lambda content: content.replace(content[22:26], b"\xff" * 4),
    ),
    "npz: truncated": (".tree.npz", lambda content: content[:60]),
    "npz: empty": (".tree.npz", lambda _: b""),
    "npz: an npy": (".tree.npz", lambda _: saved(np.zeros(1, np.int32))),
}


def refused(root: Path) -> str:
    """Read all of the first part: it must be refused, without more memory than its honest rows take; the message."""
    tracemalloc.start()
    try:
        with pytest.raises(CorruptStoreError) as caught:
            Store(root).part(0).read(0, 2)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()
    return str(caught.value)


def test_a_forgery_that_changes_nothing_is_read(root: Path) -> None:
    for suffix in (".labels.npy", ".tree.npz", ".teacher.npz", ".id.txt"):
        forge(root, replaced(suffix, lambda content: content))
    assert verify(root, advance=lambda rows: None).problems == []


@pytest.mark.parametrize("case", TARS)
def test_a_tar_of_other_members_is_refused(root: Path, case: str) -> None:
    forge(root, TARS[case])
    assert "rows.tar" in refused(root)
    with pytest.raises(CorruptStoreError):
        list(Store(root).scan(["weight"]))


@pytest.mark.parametrize("case", FILES)
def test_a_member_of_another_content_is_refused(root: Path, case: str) -> None:
    suffix, make = FILES[case]
    forge(root, replaced(suffix, make))
    message = refused(root)
    assert "rows.tar" in message
    assert "00000-000000" in message or "in rows 0 to 3" in message


def test_text_that_is_not_utf8_is_refused_when_it_is_read_as_text(root: Path) -> None:
    forge(root, replaced(".assertion.txt", lambda content: b"\xff" * len(content)))
    block = Store(root).part(0).read(0, 1)
    with pytest.raises(CorruptStoreError, match="UTF-8"):
        block.row(0)
    assert len(verify(root, advance=lambda rows: None).problems) == 1


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        link,
        lambda path: os.truncate(path, 0),
        lambda path: os.truncate(path, path.stat().st_size - 1024),
        lambda path: path.write_bytes(path.read_bytes() + b"x"),
    ],
    ids=["missing", "link", "empty", "without its end", "longer"],
)
def test_a_file_of_another_size_is_refused_when_the_part_is_opened(
    root: Path, damage: Callable[[Path], object]
) -> None:
    damage(root / ROWS)
    with pytest.raises(CorruptStoreError, match=r"rows\.tar"):
        Store(root).part(0)


def no_index(record: dict[str, Any]) -> None:
    record["tar"] = None


INDEXES: dict[str, Callable[[dict[str, Any]], None]] = {
    "no index": no_index,
    "a block less": lambda record: record["tar"]["offsets"].pop(1),
    "no offsets": lambda record: record["tar"]["offsets"].clear(),
    "descending": lambda record: record["tar"]["offsets"].reverse(),
    "not from 0": lambda record: record["tar"]["offsets"].__setitem__(0, 512),
    "beyond the file": lambda record: record["tar"]["offsets"].__setitem__(1, 1 << 50),
    "ends beyond the file": lambda record: record["tar"]["offsets"].__setitem__(2, 1 << 50),
    "a checksum less": lambda record: record["tar"]["sha256"].pop(),
    "a field less": lambda record: record["tar"]["field_bytes"].pop("labels"),
    "another field": lambda record: record["tar"]["field_bytes"].__setitem__("x", 0),
    "wrong sum": lambda record: record["tar"]["field_bytes"].__setitem__("labels", 0),
    "another file": lambda record: record["files"].__setitem__("zarr.json", record["files"]["rows.tar"]),
    "no file": lambda record: record["files"].clear(),
}


@pytest.mark.parametrize("case", INDEXES)
def test_an_index_that_cannot_be_true_is_refused_before_the_file_is_opened(root: Path, case: str) -> None:
    (root / ROWS).unlink()
    reseal(root, 0, lambda record, _: INDEXES[case](record))
    with pytest.raises(CorruptStoreError, match=r"index of rows\.tar|Expected the files"):
        Store(root).part(0)


@pytest.mark.parametrize("axis", ["labels", "tree", "teacher/kept", "id"])
def test_block_offsets_that_lie_are_refused(root: Path, axis: str) -> None:
    def enlarge(record: dict[str, Any], _: Path) -> None:
        record["block_offsets"][axis] = [0, 1 << 40, 1 << 41]

    reseal(root, 0, enlarge)
    assert "1,099,511,627,776" in refused(root)
