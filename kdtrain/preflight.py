"""Checks before the first step: do stores, model and settings fit together?"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdstore.codecs import Codec, DenseSignal, Signal
from kdstore.encode.tokenizer import Tokenizer
from kdstore.errors import CapabilityError, MismatchError
from kdstore.store.reader import Store
from kdtrain.config import Config
from kdtrain.mix import Mix
from kdtrain.models import seq2seq

_ALIGNED_NATS = 0.5
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "spiece.model")


def check_stores(train: Store, val: Store | None, config: Config, mix: Mix) -> None:
    """Check that both stores can serve the run.

    Raises
    ------
    CapabilityError
        A store cannot serve the temperature.
    MismatchError
        The stores have different tokenizers or vocabularies, rows longer than the run allows, or signals that do
        not belong to their labels.
    """
    for store in filter(None, (train, val)):
        head, codec = store.head, store.codec()
        if mix.needs_signal and codec is not None:
            codec.check_temperature(mix.temperature)
            check_alignment(store, codec)
        _check_limit(store, "--max-input-len", head.limits.max_input_tokens, config.data.max_input_len)
        _check_limit(store, "--max-output-len", head.limits.max_output_tokens, config.data.max_output_len)
    if val is not None:
        _check_pair(train, val)


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
        Vocabularies or tokenizers differ; both values are named.
    ModelError
        The model's tokenizer cannot be loaded.
    """
    mine, theirs = seq2seq.vocab_size(model), store.head.vocab_size
    if mine < theirs or (exact and mine != theirs):
        raise MismatchError(
            f"Expected a student that scores {theirs:,} ids, as the store {store.root} has them. Got {mine:,} from "
            f"{name}. Choose a student with the teacher's tokenizer, or start one with --from-scratch."
        )
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


def check_alignment(store: Store, codec: Codec[Any]) -> None:
    """Check in the first block that signals lie at the labels that they were computed for.

    The signal, decoded at T = 1, must give each label the log-probability that the build stored beside it. A
    store shifted by one token, or padded wrongly, would train without complaint, towards nonsense.

    Raises
    ------
    MismatchError
        It does not, by the median over the block's label tokens.
    """
    try:
        codec.check_temperature(1.0)
    except CapabilityError:
        return  # nothing to compare at T = 1
    block = store.part(0).read(0, 1, ["labels", "label_logprob", "teacher"])
    arrays = {path: torch.from_numpy(values) for path, values in block.arrays.items()}
    teacher = {
        path.removeprefix("teacher/"): values for path, values in arrays.items() if path.startswith("teacher/")
    }
    error_L = _label_error(
        codec.decode(teacher, 1.0), arrays["labels/values"].long(), arrays["label_logprob"].float()
    )
    error = float(error_L.median())
    if error > _ALIGNED_NATS:
        raise MismatchError(
            f"Expected the signals of {store.root} to give its labels their stored log-probabilities. Got others, "
            f"{error:.2f} nats away in the median of {len(error_L):,} tokens. Build the store again."
        )


def _label_error(signal: Signal, labels_L: Tensor, log_probs_L: Tensor) -> Tensor:
    """How far the signal is from giving labels these log-probabilities, in nats, float [L]."""
    if isinstance(signal, DenseSignal):
        return (signal.log_probs(1.0).gather(-1, labels_L[:, None])[:, 0] - log_probs_L).abs()
    found_LK = signal.ids_LK == labels_L[:, None]
    stored_L = signal.log_probs_LK.masked_fill(~found_LK, 0).sum(-1)
    # What is no candidate has at most the least candidate's probability.
    excess_L = (log_probs_L - signal.log_probs_LK.amin(-1)).clamp(min=0)
    return torch.where(found_LK.any(-1), (stored_L - log_probs_L).abs(), excess_L)


def _check_limit(store: Store, option: str, stored: int, allowed: int) -> None:
    if stored > allowed:
        raise MismatchError(
            f"Expected rows of at most {allowed} tokens ({option}). Got {store.root}, built with up to {stored}. "
            f"Pass {option} {stored}, or build the store with a lower limit."
        )


def _check_pair(train: Store, val: Store) -> None:
    for what, ours, theirs in (
        ("vocabulary size", train.head.vocab_size, val.head.vocab_size),
        ("tokenizer", train.head.tokenizer.sha256[:12], val.head.tokenizer.sha256[:12]),
    ):
        if ours != theirs:
            raise MismatchError(
                f"Expected the {what} {ours} of the training store {train.root} in {val.root} too. Got {theirs}. "
                "Build both stores with one command."
            )
