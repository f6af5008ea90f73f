"""Encoder-decoder models of Hugging Face transformers: create one from a preset, and save one."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from kdstore.errors import UnknownNameError
from kdstore.store.manifest import TokenizerRecord

Model = Any
"""A transformers ``PreTrainedModel`` with a language-modelling head; the library is untyped for us."""


def create(preset: str, vocab_size: int, tokenizer: TokenizerRecord) -> Model:
    """A model with random weights from a preset, its embedding as wide as the vocabulary, in fp32.

    Weights come from torch's global random generator: seed it first.

    Raises
    ------
    UnknownNameError
        No such preset.
    """
    check_preset(preset)
    settings = json.loads(files("kdtrain").joinpath("models", "presets", f"{preset}.json").read_text())
    ids = {
        "pad_token_id": tokenizer.pad_id,
        "eos_token_id": tokenizer.eos_id,
        "decoder_start_token_id": tokenizer.decoder_start_id,
    }
    config = AutoConfig.for_model(**settings, **ids, vocab_size=vocab_size)
    return AutoModelForSeq2SeqLM.from_config(config, dtype=torch.float32)


def check_preset(preset: str) -> None:
    """Raise `UnknownNameError` where there is no such preset."""
    found = presets()
    if preset not in found:
        raise UnknownNameError(f"Expected a model preset ({', '.join(found)}). Got {preset!r}.")


def presets() -> list[str]:
    """Names of the model presets, sorted."""
    directory = files("kdtrain").joinpath("models", "presets")
    return sorted(Path(file.name).stem for file in directory.iterdir())


def vocab_size(model: Model) -> int:
    """Number of ids that the model scores."""
    return int(model.get_output_embeddings().weight.shape[0])


def save(model: Model, tokenizer: Any, directory: Path) -> None:
    """Write a model as safetensors, and its tokenizer, so that ``from_pretrained`` reads both."""
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
