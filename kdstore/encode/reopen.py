"""The pipeline that a store was built with, made again from what the store says of it."""

from collections.abc import Sequence

import torch

from kdstore.encode.embed import Encoder, load_encoders
from kdstore.encode.pipeline import PREDICTION, Pipeline
from kdstore.encode.teacher import same_teacher
from kdstore.encode.tokenizer import Tokenizer
from kdstore.errors import CapabilityError, MismatchError
from kdstore.store.reader import Store
from kdstore.tasks import TASKS


def reopen(store: Store, teacher: str | None, embed: Sequence[str], device: str) -> Pipeline:
    """The store's pipeline, with threads set as the build had them.

    Parameters
    ----------
    store
        Not an import: what a teacher gave, or tokens only.
    teacher
        Where the teacher is; by default where the build found it. Its weights must be the same.
    embed
        Where the encoders are, as for ``kdstore build --embed``: exactly those that the store has.
    device
        Where models run.

    Raises
    ------
    CapabilityError
        The store was imported, or its task is not installed.
    MismatchError
        A model is not the one that the store was built with.
    ModelError
        A model cannot be loaded.
    """
    head = store.head
    if head.imported:
        raise CapabilityError(
            f"Expected a store that was built from rows. Got {store.root}, which was imported from "
            f"{head.imported.format}. Import all files again into a new store."
        )
    tokenizer = Tokenizer(store.tokenizer_path)
    model = None
    if head.teacher:
        torch.set_num_threads(head.teacher.threads)
        model = same_teacher(teacher or head.teacher.name, device, head.teacher)
    elif teacher:
        raise MismatchError(
            f"Expected no --teacher for {store.root}, which holds tokens only. Got one. Leave it out."
        )
    pipeline = Pipeline(
        tokenizer=tokenizer,
        limits=head.limits,
        text_columns=TASKS.get(head.task).text_columns,
        encoders=_encoders(store, embed, model.device if model else torch.device("cpu")),
        teacher=model,
        codec=store.codec(),
        predict=PREDICTION in {field.name for field in head.schema_.fields},
    )
    if pipeline.schema() != head.schema_ or TASKS.get(head.task).template != head.template:
        raise MismatchError(
            f"Expected the columns and the template of {store.root} from the task {head.task!r}. Got others. "
            "Install the version of the task that wrote it, or build a new store."
        )
    return pipeline


def _encoders(store: Store, embed: Sequence[str], device: torch.device) -> tuple[Encoder, ...]:
    encoders = load_encoders(embed, device)
    found = {encoder.column: encoder.fingerprint for encoder in encoders}
    if found != store.head.encoders:
        wanted = ", ".join(f"{column} ({value[:12]})" for column, value in store.head.encoders.items()) or "none"
        given = ", ".join(f"{column} ({value[:12]})" for column, value in found.items()) or "none"
        raise MismatchError(
            f"Expected --embed with the encoders of {store.root}: {wanted}. Got {given}. Give the same ones."
        )
    return encoders
