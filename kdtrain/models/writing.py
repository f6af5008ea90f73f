"""Let a student write for validation rows, as ``kdeval run`` lets it, beside what it should have written."""

from contextlib import closing
from typing import Any

import torch

from kdstore.errors import CapabilityError
from kdstore.store.reader import Store
from kdstore.tasks import TASKS
from kdtrain.models.sampling import evaluating
from kdtrain.models.seq2seq import Model
from kdtrain.stream.batch import Batch
from kdtrain.stream.loader import Loader


def write(model: Model, tokenizer: Any, loader: Loader, max_tokens: int, limit: int) -> tuple[list[str], list[str]]:
    """Greedy texts for the next rows of a loader, and the store's own texts of these rows.

    Both are what ``kdeval run`` compares: it too lets the model's generation config have its say in all but sampling
    and beams, computes in float32, and takes references from the store, because labels may be cut and need not decode
    to the text they were made of. Modes, generation config, torch's random state and the loader's place are as before
    afterwards.

    Parameters
    ----------
    model
        A seq2seq model, not wrapped.
    tokenizer
        Turns ids into text.
    loader
        Yields batches on the model's device. Of several processes each writes for its own rows.
    max_tokens
        Longest output; the limit of the loader's store for a comparison with an evaluation.
    limit
        Number of rows, at most those that are left of the loader's epoch.

    Raises
    ------
    CapabilityError
        The store keeps no reference texts, see `reference_column`.
    """
    column, place = reference_column(loader.store), loader.state_dict()
    written: list[str] = []
    references: list[str] = []
    with closing(iter(loader)) as batches:
        for batch in batches:
            rows = min(batch.rows, limit - len(written))
            written += _greedy(model, tokenizer, batch, rows, max_tokens)
            references += _texts(loader.store, batch, rows, column)
            if len(written) == limit:
                break
    loader.load_state_dict(place)
    return written, references


def reference_column(store: Store) -> str:
    """Name of the field that holds a store's reference texts.

    Raises
    ------
    CapabilityError
        There is none, as in a store made of rows without texts.
    UnknownNameError
        The store is of a task that is not installed.
    """
    column = f"text/{TASKS.get(store.head.task).target_column}"
    if column not in {field.name for field in store.schema.fields}:
        raise CapabilityError(
            f"Expected a validation store that keeps its reference texts, to compare with what the student writes. "
            f"Got none called {column} in {store.root}. Build it from rows with texts, or train without --validator."
        )
    return column


@torch.no_grad()
def _greedy(model: Model, tokenizer: Any, batch: Batch, rows: int, max_tokens: int) -> list[str]:
    """What the model writes for the first rows of a batch."""
    inputs = {"input_ids": batch.input_ids_BS[:rows], "attention_mask": batch.attention_mask_BS[:rows]}
    with evaluating(model), torch.autocast(batch.input_ids_BS.device.type, enabled=False):
        ids_BT = model.generate(**inputs, max_new_tokens=max_tokens, num_beams=1, do_sample=False)
    return list(tokenizer.batch_decode(ids_BT, skip_special_tokens=True))


def _texts(store: Store, batch: Batch, rows: int, column: str) -> list[str]:
    """The stored texts of the first rows of a batch; a block is read once."""
    places = [tuple(place) for place in batch.positions_BP[:rows].tolist()]
    blocks = {
        (part, block): store.part(part).read(block, block + 1, [column]) for part, block in {p[:2] for p in places}
    }
    return [blocks[part, block].row(row)[column] for part, block, row in places]
