"""Checks before the first step: do stores, model and settings fit together?"""

from collections.abc import Sequence
from pathlib import Path

from kdstore.encode.alignment import check_alignment
from kdstore.encode.tokenizer import Tokenizer
from kdstore.errors import CapabilityError, MismatchError
from kdstore.store.reader import Store
from kdtrain.config import Config
from kdtrain.gate import check_signal
from kdtrain.mix import Mix
from kdtrain.models import seq2seq
from kdtrain.sections import DataConfig

_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "spiece.model")


def check_stores(train: Sequence[Store], val: Store | None, config: Config, mix: Mix) -> list[str]:
    """Check that all stores can serve the run; what could not be checked, or was accepted, one line each.

    Raises
    ------
    CapabilityError
        A store holds sequences for a causal model; or it cannot serve the loss or the temperature, or not well
        enough: see `kdtrain.gate.check_signal`.
    MismatchError
        The stores have different tokenizers or vocabularies, rows longer than the run allows, or texts, tokens and
        signals that do not belong together; see `kdstore.encode.alignment`.
    """
    notes = []
    for store in filter(None, (*train, val)):
        check_rows(store, config.data)
        if mix.needs_signal and (codec := store.codec()) is not None:
            notes += check_signal(store, codec, mix, config.loss)
        unknown = check_alignment(store, [0], with_signal=mix.needs_signal)
        notes += [f"{store.root}: not checked: {reason}" for reason in unknown]
    for store in filter(None, (*train[1:], val)):
        check_pair(train[0], store)
    return notes + too_few(train, val, config.data)


def check_rows(store: Store, data: DataConfig) -> None:
    """Check that a student can learn from rows of a store's kind and length.

    Raises
    ------
    CapabilityError
        It holds sequences for a causal model.
    MismatchError
        Its rows may be longer than the run allows.
    """
    head = store.head
    if head.imported and head.imported.causal:
        raise CapabilityError(
            f"Expected rows of a prompt and its answer in {store.root}. Got an import of {head.imported.format} "
            "whose labels continue their input in one sequence, which an encoder-decoder student cannot learn. "
            "Import rows of format 'predecessor', or build the store from a seq2seq teacher."
        )
    _check_limit(store, "--max-input-len", head.limits.max_input_tokens, data.max_input_len)
    _check_limit(store, "--max-output-len", head.limits.max_output_tokens, data.max_output_len)


def check_pair(train: Store, other: Store) -> None:
    """Raise `MismatchError` where another store has not the tokenizer or the vocabulary of the first."""
    for what, ours, theirs in (
        ("vocabulary size", train.head.vocab_size, other.head.vocab_size),
        ("tokenizer", train.head.tokenizer.sha256[:12], other.head.tokenizer.sha256[:12]),
    ):
        if ours != theirs:
            raise MismatchError(
                f"Expected the {what} {ours} of the training store {train.root} in {other.root} too. Got {theirs}. "
                "Build both stores with one command."
            )


def too_few(train: Sequence[Store], val: Store | None, data: DataConfig) -> list[str]:
    """Say so where a store has fewer rows than are asked for, one line each."""
    notes = []
    for store in train:
        notes += _fewer(store, "--max-train-samples", data.max_train_samples)
        notes += _fewer(store, "--epoch-samples", data.epoch_samples)
    return notes + (_fewer(val, "--max-val-samples", data.max_val_samples) if val else [])


def check_model(model: seq2seq.Model, name: str, store: Store, *, exact: bool) -> None:
    """Check that a model scores the store's ids.

    Parameters
    ----------
    model
        The model to train.
    name
        What it is called in messages, and where its tokenizer is looked for.
    store
        The training store.
    exact
        Whether the vocabularies must be equal, because the teacher's signal is over the store's; otherwise the
        model's may be larger.

    Raises
    ------
    MismatchError
        Vocabularies, tokenizers or special ids differ; both values are named.
    ModelError
        The model's tokenizer cannot be loaded.
    """
    mine, theirs = seq2seq.vocab_size(model), store.head.vocab_size
    if mine < theirs or (exact and mine != theirs):
        raise MismatchError(
            f"Expected a student that scores {theirs:,} ids, as the store {store.root} has them. Got {mine:,} from "
            f"{name}. Choose a student with the teacher's tokenizer, or start one with --from-scratch."
        )
    _check_special_ids(model, name, store)
    if Path(name).is_dir() and not any((Path(name) / file).exists() for file in _TOKENIZER_FILES):
        # Weights alone: the run saves the store's tokenizer beside them. (Asked for a tokenizer, transformers
        # would make up an empty one.)
        return
    own, stored = Tokenizer(name).backend.get_vocab(), Tokenizer(store.tokenizer_path).backend.get_vocab()
    for token, index in stored.items():
        if own.get(token) != index:
            raise MismatchError(
                f"Expected the tokenizer of {name} to be the store's, where {token!r} has id {index}. "
                f"Got {own.get(token)}. Choose a student with the teacher's tokenizer, or start one with "
                "--from-scratch."
            )


def _check_special_ids(model: seq2seq.Model, name: str, store: Store) -> None:
    """Compare the ids that pad, end and start a sequence in a model's configuration with the store's."""
    ids = store.head.tokenizer
    expected = {"pad_token_id": ids.pad_id, "eos_token_id": ids.eos_id}
    if store.head.teacher is not None:  # else no decoder was started when the store was made
        expected["decoder_start_token_id"] = ids.decoder_start_id
    for key, stored in expected.items():
        own = getattr(model.config, key, None)
        if stored not in (own if isinstance(own, list) else [own]):
            raise MismatchError(
                f"Expected {key} {stored} in the configuration of {name}, as the store {store.root} has it. "
                f"Got {own}. Correct the model's config.json, or choose a student of the teacher's family."
            )


def _check_limit(store: Store, option: str, stored: int, allowed: int) -> None:
    if stored > allowed:
        raise MismatchError(
            f"Expected rows of at most {allowed} tokens ({option}). Got {store.root}, built with up to {stored}. "
            f"Pass {option} {stored}, or build the store with a lower limit."
        )


def _fewer(store: Store, option: str, wanted: int | None) -> list[str]:
    if wanted is None or wanted <= store.rows:
        return []
    return [f"{store.root}: {option} {wanted:,}, and it has {store.rows:,} rows: all of them are taken"]
