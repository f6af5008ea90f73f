"""Turn raw rows into the token stores that a teacher is trained on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from kdstore.console import note
from kdstore.encode.build import BuildOptions, build
from kdstore.errors import EmptyInputError, RowError
from kdstore.sources import Rejected, open_source
from kdstore.store.reader import Store
from kdstore.tasks import TASKS
from kdtrain import checkpoint
from kdtrain.config import Config
from kdtrain.distributed import Processes
from kdtrain.models import tokenizer as tokenizers
from kdtrain.run import Stores
from kdtrain.rundir import RunDir


@dataclass(frozen=True)
class TeacherData:
    """Raw rows, and how they are divided; ``val_fraction`` counts only without ``val_rows``."""

    rows: tuple[Path, ...]
    val_rows: tuple[Path, ...]
    val_fraction: float
    task: str


def prepare(source: TeacherData, config: Config, run: RunDir, processes: Processes) -> Stores:
    """Build the stores ``data/train.kd`` and ``data/val.kd`` of a run, continuing where one was interrupted.

    Of several processes the main one builds, while the others wait.

    Raises
    ------
    KDError
        See `kdstore.encode.build.build`.
    """
    if processes.main:
        _build(source, config, run)
    processes.wait()
    data = run.root / "data"
    return Stores((Store(data / "train.kd"),), Store(data / "val.kd"))


def _build(source: TeacherData, config: Config, run: RunDir) -> None:
    data = run.root / "data"
    options = BuildOptions(
        rows=source.rows,
        out=data / "train.kd",
        val_rows=source.val_rows,
        val_out=data / "val.kd",
        val_fraction=source.val_fraction,
        task=source.task,
        tokenizer=_tokenizer(source, config, run),
        max_input_tokens=config.data.max_input_len,
        max_output_tokens=config.data.max_output_len,
        seed=config.run.seed,
    )
    build(options)


def build_arguments(command: Sequence[str], source: TeacherData, config: Config) -> tuple[str, ...]:
    """A command with ``{rows}`` replaced by what makes ``kdstore build`` read and divide rows as a teacher does."""
    divided = [word for path in source.val_rows for word in ("--val-rows", str(path))]
    words = [
        *map(str, source.rows), *(divided or ["--val-fraction", str(source.val_fraction)]), "--task", source.task,
        "--max-input-len", str(config.data.max_input_len), "--max-output-len", str(config.data.max_output_len),
        "--seed", str(config.run.seed),
    ]  # fmt: skip
    plain = [word.replace("{", "{{").replace("}", "}}") for word in words]
    return tuple(word for part in command for word in (plain if part == "{rows}" else [part]))


def _tokenizer(source: TeacherData, config: Config, run: RunDir) -> str:
    """Where the tokenizer is: the pretrained model's, or one learned from all of ROWS and kept in the run."""
    if not config.model.from_scratch:
        return config.model.model_name
    target = run.root / "tokenizer"
    if not target.exists():
        tokenizer = tokenizers.train(_texts(source), config.model.vocab_size)
        checkpoint.publish(target, lambda path: tokenizer.save_pretrained(path))
        note(f"tokenizer: {len(tokenizer):,} ids")
    return str(target)


def _texts(source: TeacherData) -> Iterator[str]:
    """Prompts and targets of all usable ROWS.

    Rows that ``val_fraction`` holds out are among them: they are separated later, by the build. So the
    tokenizer's merges, though none of the model's weights, are learned from validation rows too; with
    ``val_rows`` they are not.
    """
    task = TASKS.get(source.task)
    usable = 0
    for item in chain.from_iterable(map(open_source, source.rows)):
        if isinstance(item, Rejected):
            continue
        try:
            example = task.example(item.record)
        except RowError:
            continue  # the build counts and quarantines it
        usable += 1
        yield example.prompt
        yield example.target
    if usable == 0:
        files = ", ".join(map(str, source.rows))
        raise EmptyInputError(f"Expected at least one usable row. Got none in {files}. Check the keys of the rows.")
