"""Turn raw rows into the token stores that a teacher is trained on."""

from collections.abc import Iterator
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


def prepare(source: TeacherData, config: Config, run: RunDir) -> Stores:
    """Build the stores ``data/train.kd`` and ``data/val.kd`` of a run, continuing where one was interrupted.

    Raises
    ------
    KDError
        See `kdstore.encode.build.build`.
    """
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
    train, val = build(options)
    return Stores((Store(train.path),), Store(val.path))


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
