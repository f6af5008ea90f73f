"""Builds, appends, crashes and repeated runs in any order, against a list of the rows that were committed.

A crash is real: a forked process runs one step of the protocol and ends at a change of the file system, without any
of its handlers. What it leaves is what the next step finds.
"""

import hashlib
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kdstore.errors import MismatchError, StoreError
from kdstore.schema import Block, RaggedText, RaggedTokens, Scalar, Schema
from kdstore.store import atomic, layout
from kdstore.store.manifest import Head, Limits, Segment, TokenizerRecord
from kdstore.store.reader import Store
from kdstore.store.verify import verify
from kdstore.store.writer import begin, finalize, is_prepared, missing_parts, prepare, write_part

PART_ROWS = 2
SCHEMA = Schema(
    fields=(
        RaggedText(name="id"),
        RaggedTokens(name="input_ids", dtype="uint16"),
        RaggedTokens(name="labels", dtype="uint16"),
        Scalar(name="weight", dtype="float32"),
    )
)
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
Sizes = tuple[int, ...]


def head(sizes: Sizes, container: str) -> Head:
    """Settings of a store with so many rows in each segment."""
    return Head(
        task="t", template="{x}", schema=SCHEMA, vocab_size=50, codec=None, teacher=None, container=container,
        tokenizer=TokenizerRecord(sha256="0" * 64, vocab_size=50, pad_id=0, eos_id=1, decoder_start_id=0),
        encoders={}, limits=Limits(max_input_tokens=8, max_output_tokens=8, overlong="skip"),
        split="all", seed=0, part_rows=PART_ROWS, block_rows=1,
        segments=tuple(Segment(source_sha256="0" * 64, rows=rows, scan={}, versions={}) for rows in sizes),
    )  # fmt: skip


def row(segment: int, index: int) -> dict[str, Any]:
    rng = np.random.default_rng((segment, index))
    tokens = [rng.integers(0, 50, rng.integers(0, 5)) for _ in range(2)]
    return {"id": f"{segment}-{index}-é", "input_ids": tokens[0], "labels": tokens[1], "weight": float(index)}


def rows_of(sizes: Sizes) -> list[dict[str, Any]]:
    return [row(segment, index) for segment, rows in enumerate(sizes) for index in range(rows)]


def part(sizes: Sizes, wanted: int) -> Block:
    """The rows of one part."""
    parts = [
        [row(segment, index) for index in range(start, min(rows, start + PART_ROWS))]
        for segment, rows in enumerate(sizes)
        for start in range(0, rows, PART_ROWS)
    ]
    return SCHEMA.pack(parts[wanted])


def run(root: Path, sizes: Sizes, container: str) -> None:
    """What a build or an append does, from the first step to the last."""
    settled = head(sizes, container)
    begin(root, settled)
    prepare(root)
    for index in missing_parts(root, settled):
        write_part(root, settled, index, part(sizes, index))
    finalize(root, settled)


@cache
def straight(sizes: Sizes, container: str) -> dict[str, str]:
    """The files of a store that was built and appended to without any crash."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "s.kd"
        for count in range(1, len(sizes) + 1):
            run(root, sizes[:count], container)
        return files_of(root)


def files_of(root: Path) -> dict[str, str]:
    """SHA-256 of every file, the build's own left out."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.relative_to(root).parts[0].startswith(layout.BUILD)
    }


def end_amid(step: Callable[[], object], changes: int) -> bool:
    """Run ``step`` in a forked process that ends before its change number ``changes``, if it makes so many."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads that the child does not need
        child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, 9)
        return code == 9
    left = changes

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING):
            left -= 1
            if left < 0:
                os._exit(9)

    try:
        sys.addaudithook(count)
        step()
        os._exit(0)
    finally:
        os._exit(1)


class StoreMachine(RuleBasedStateMachine):
    """A store, and a model of it.

    ``committed``: rows of each segment that readers must see. ``wanted``: those that the running command is for.
    ``begun``: whether it has begun since the last crash. ``given_up``: an append was, whose parts may lie there.
    """

    container: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.root = self.directory / "s.kd"
        self.committed: Sizes = ()
        self.wanted: Sizes | None = None
        self.begun = self.given_up = False
        self.checked: object = None

    def teardown(self) -> None:
        shutil.rmtree(self.directory)

    def head(self, **changes: object) -> Head:
        assert self.wanted is not None
        return head(self.wanted, self.container).model_copy(update=changes)

    def missing(self) -> list[int]:
        return missing_parts(self.root, self.head())

    def commit(self) -> None:
        assert self.wanted is not None
        self.committed, self.wanted, self.begun, self.given_up = self.wanted, None, False, False

    # What a user does.

    @precondition(lambda self: self.wanted is None and len(self.committed) < 3)
    @rule(rows=st.integers(1, 5))
    def give_command(self, rows: int) -> None:
        self.wanted = (*self.committed, rows)

    @precondition(lambda self: self.wanted is not None and self.committed)
    @rule()
    def give_up_append(self) -> None:
        """By removing ``.build``: the store is what it was, its new parts are nobody's."""
        atomic.remove(self.root / layout.BUILD)
        self.wanted, self.begun, self.given_up = None, False, True

    @rule()
    def delete_staging(self) -> None:
        shutil.rmtree(layout.staging_path(self.root), ignore_errors=True)

    @precondition(lambda self: self.wanted is None and self.committed)
    @rule()
    def repeat_finished_command(self) -> None:
        settled = head(self.committed, self.container)
        assert not begin(self.root, settled)
        finalize(self.root, settled)
        assert not [*self.root.glob(f"{layout.BUILD}*")]

    # What a command does.

    @precondition(lambda self: self.wanted is not None and not self.begun)
    @rule()
    def begin(self) -> None:
        assert begin(self.root, self.head())
        assert not [*layout.staging_path(self.root).glob("*")], "what was abandoned is gone"
        self.begun, self.given_up = True, False

    @precondition(lambda self: self.begun)
    @rule()
    def prepare(self) -> None:
        prepare(self.root)

    @precondition(lambda self: self.begun and is_prepared(self.root) and self.missing())
    @rule(data=st.data())
    def write(self, data: st.DataObject) -> None:
        index = data.draw(st.sampled_from(self.missing()))
        write_part(self.root, self.head(), index, part(self.wanted, index))

    @precondition(lambda self: self.begun and is_prepared(self.root) and self.missing())
    @rule()
    def write_all(self) -> None:
        for index in self.missing():
            write_part(self.root, self.head(), index, part(self.wanted, index))

    @precondition(lambda self: self.begun and is_prepared(self.root) and not self.missing())
    @rule()
    def finalize(self) -> None:
        finalize(self.root, self.head())
        self.commit()
        assert not [*self.root.glob(f"{layout.BUILD}*")]

    # What goes wrong.

    @precondition(lambda self: self.wanted is not None)
    @rule(changes=st.integers(0, 60))
    def crash(self, changes: int) -> None:
        """In the step that is next."""
        settled = self.head()
        if not self.begun:
            step: Callable[[], object] = partial(begin, self.root, settled)
        elif not is_prepared(self.root):
            step = partial(prepare, self.root)
        elif missing := self.missing():
            step = partial(write_part, self.root, settled, missing[0], part(self.wanted, missing[0]))
        else:
            step = partial(finalize, self.root, settled)
        end_amid(step, changes)
        self.begun = False
        self.given_up = self.given_up and not layout.head_path(self.root).is_file()
        if (self.root / "manifest.json").is_file() and Store(self.root).head == settled:
            self.commit()

    @precondition(lambda self: self.begun and is_prepared(self.root))
    @rule()
    def abandon_a_half_written_part(self) -> None:
        """As a writer on another machine does, whose lock is gone with it."""
        staged = layout.staging_path(self.root) / "00000-abandoned"
        staged.mkdir(parents=True, exist_ok=True)
        staged.with_suffix(".lock").touch()
        (staged / "zarr.json").write_text("{")
        self.begun = False

    @precondition(lambda self: self.begun and is_prepared(self.root) and self.missing())
    @rule()
    def finalize_too_early(self) -> None:
        with pytest.raises(StoreError, match=f"the first missing is {self.missing()[0]}"):
            finalize(self.root, self.head())

    @precondition(lambda self: self.wanted is not None and layout.head_path(self.root).is_file())
    @rule(change=st.sampled_from([{"seed": 1}, {"block_rows": 2}, {"template": "{y}"}]))
    def another_command(self, change: dict[str, Any]) -> None:
        with pytest.raises(MismatchError, match=next(iter(change))):
            begin(self.root, self.head(**change))

    @precondition(lambda self: self.begun and is_prepared(self.root))
    @rule(data=st.data())
    def another_writer(self, data: st.DataObject) -> None:
        """Of a part that is there: the same rows change nothing, others are refused."""
        done = sorted(set(range(len(self.head().part_sizes()))) - set(self.missing()))
        if not done:
            return
        index = data.draw(st.sampled_from(done))
        block = part(self.wanted, index)
        write_part(self.root, self.head(), index, block)
        block.arrays["weight"] = block.arrays["weight"] + 1
        with pytest.raises(StoreError, match="another writer"):
            write_part(self.root, self.head(), index, block)

    # What always holds.

    @invariant()
    def store_is_as_the_model_says(self) -> None:
        files = files_of(self.root)
        state = (files, self.committed, self.wanted, self.given_up)
        if state != self.checked:
            self.check_rows()
            self.check_verify()
            self.check_bytes(files)
        self.checked = state

    def check_rows(self) -> None:
        """Readers see what was committed, all of it and nothing else."""
        if not self.committed:
            with pytest.raises(StoreError):
                Store(self.root)
            return
        found = [block.row(index) for block in Store(self.root).scan() for index in range(block.rows)]
        expected = rows_of(self.committed)
        assert [one["id"] for one in found] == [one["id"] for one in expected]
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one["labels"], other["labels"])
            np.testing.assert_array_equal(one["input_ids"], other["input_ids"])
            assert one["weight"] == other["weight"]

    def check_verify(self) -> None:
        """Nothing is wrong; parts of an append that was given up are named."""
        if self.committed:
            problems = verify(self.root, quick=False, advance=lambda rows: None).problems
            assert self.given_up or not problems
            assert all("is not in the manifest" in problem for problem in problems)

    def check_bytes(self, found: dict[str, str]) -> None:
        """Complete parts, and in the end all files, are those of a run without crashes."""
        if self.wanted is None:
            if self.committed and not self.given_up:
                assert found == straight(self.committed, self.container)
        elif not self.given_up:
            expected = straight(self.wanted, self.container)
            parts = [name for name in found if name.startswith("parts/0")]
            assert {name: found[name] for name in parts} == {name: expected[name] for name in parts}


class ZarrMachine(StoreMachine):
    container = "zarr"


class WebDatasetMachine(StoreMachine):
    container = "webdataset"


TestZarrStore = ZarrMachine.TestCase
TestWebDatasetStore = WebDatasetMachine.TestCase
TestZarrStore.settings = TestWebDatasetStore.settings = settings(
    max_examples=10, stateful_step_count=20, deadline=None
)


@pytest.mark.parametrize("appends", [0, 1])
def test_a_crash_while_finishing_stops_neither_the_same_command_nor_an_append(tmp_path: Path, appends: int) -> None:
    """At every change of the file system that finishing makes."""
    sizes = (1,) * (appends + 1)
    for changes in range(99):
        root = tmp_path / f"{changes}.kd"
        for count in range(1, len(sizes)):
            run(root, sizes[:count], "zarr")
        settled = head(sizes, "zarr")
        begin(root, settled)
        prepare(root)
        for index in missing_parts(root, settled):
            write_part(root, settled, index, part(sizes, index))
        ended = end_amid(partial(finalize, root, settled), changes)
        committed = (root / "manifest.json").is_file() and Store(root).head == settled
        if not committed:
            run(root, sizes, "zarr")
            assert files_of(root) == straight(sizes, "zarr")
        run(root, (*sizes, 1), "zarr")
        assert files_of(root) == straight((*sizes, 1), "zarr")
        assert not [*root.glob(f"{layout.BUILD}*")]
        if not ended:
            break
    assert committed
    assert changes > 10
