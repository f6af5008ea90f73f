"""Encoder-decoder models of Hugging Face transformers: load one, or create one from a preset."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.utils import logging as hub_logging
from transformers import AutoConfig, AutoModelForSeq2SeqLM
from transformers.utils import logging as transformers_logging

from kdstore.errors import ModelError, UnknownNameError
from kdstore.store.manifest import TokenizerRecord

Model = Any
"""A transformers ``PreTrainedModel`` with a language-modelling head; the library is untyped for us."""


def load(name: str) -> Model:
    """The model in a directory or on the model hub, in fp32.

    Weights come from safetensors where there are any; other weight files are read as plain tensors, never
    unpickled. No code that comes with a model is run.

    Raises
    ------
    ModelError
        It is not there, is damaged, cannot be downloaded, or is not an encoder-decoder model.
    """
    _quiet()
    try:
        return AutoModelForSeq2SeqLM.from_pretrained(name, dtype=torch.float32, trust_remote_code=False)
    except Exception as error:  # transformers, safetensors and the hub client raise some twenty unrelated types
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(
            f"Expected a seq2seq model at {name!r}. Got: {reason} Give a local model directory with --model-name, "
            "download the model where there is a network, or start with --from-scratch PRESET."
        ) from None


def create(preset: str, vocab_size: int, tokenizer: TokenizerRecord) -> Model:
    """A model with random weights from a preset, its embedding as wide as the vocabulary, in fp32.

    Weights come from torch's global random generator: seed it first.

    Raises
    ------
    UnknownNameError
        No such preset.
    """
    found = presets()
    if preset not in found:
        raise UnknownNameError(f"Expected a model preset ({', '.join(found)}). Got {preset!r}.")
    settings = json.loads(files("kdtrain").joinpath("models", "presets", f"{preset}.json").read_text())
    ids = {
        "pad_token_id": tokenizer.pad_id,
        "eos_token_id": tokenizer.eos_id,
        "decoder_start_token_id": tokenizer.decoder_start_id,
    }
    config = AutoConfig.for_model(**settings, **ids, vocab_size=vocab_size)
    return AutoModelForSeq2SeqLM.from_config(config, dtype=torch.float32)


def presets() -> list[str]:
    """Names of the model presets, sorted."""
    directory = files("kdtrain").joinpath("models", "presets")
    return sorted(Path(file.name).stem for file in directory.iterdir())


def vocab_size(model: Model) -> int:
    """Number of ids that the model scores."""
    return int(model.get_output_embeddings().weight.shape[0])


def save(model: Model, tokenizer: Any, directory: Path) -> None:
    """Write a model as safetensors, and its tokenizer, so that ``from_pretrained`` reads both."""
    _quiet()
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def _quiet() -> None:
    """Keep stderr to ourselves: one progress bar, one line per error."""
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
