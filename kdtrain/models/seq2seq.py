"""Encoder-decoder models of Hugging Face transformers: create one from a preset, and save one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from kdstore.errors import CapabilityError, UnknownNameError
from kdstore.store.manifest import TokenizerRecord

Model = Any
"""A transformers ``PreTrainedModel`` with a language-modelling head; the library is untyped for us."""


def create(preset: str, vocab_size: int, tokenizer: TokenizerRecord, **changes: Any) -> Model:
    """A model with random weights from a preset, its embedding as wide as the vocabulary, in fp32.

    ``changes`` replace settings of the preset. Weights come from torch's global random generator: seed it first.

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
    config = AutoConfig.for_model(**{**settings, **ids, **changes, "vocab_size": vocab_size})
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


@dataclass(frozen=True)
class States:
    """What a model's output layer is given, float [B, T, D], and what its encoder said, float [B, S, D]."""

    decoder_BTD: Tensor
    encoder_BSD: Tensor


def states(model: Model, labels_BT: Tensor, **inputs: Any) -> States:
    """Run a model, teacher-forced on labels, without its output layer.

    Parameters
    ----------
    model
        One whose output layer `linear_head` accepts.
    labels_BT
        int64, `IGNORED` at padding.
    inputs
        What the model takes beside: ``input_ids`` or ``encoder_outputs``, and ``attention_mask``.
    """
    seen: list[Tensor] = []

    def take(layer: torch.nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        seen.append(args[0])
        return (args[0][:, :0],)  # nothing is left for it to compute

    start_ids_BT = model.prepare_decoder_input_ids_from_labels(labels=labels_BT)
    with linear_head(model).register_forward_pre_hook(take):
        outputs = model(**inputs, decoder_input_ids=start_ids_BT, use_cache=False)
    return States(seen[0], outputs.encoder_last_hidden_state)


def linear_head(model: Model) -> torch.nn.Linear:
    """The output layer.

    Raises
    ------
    CapabilityError
        It is not one linear map, or something follows it.
    """
    layer = model.get_output_embeddings()
    following = getattr(model, "final_logits_bias", None)  # BART's, zeros unless its vocabulary has grown
    capped = getattr(model.config.get_text_config(decoder=True), "final_logit_softcapping", None)  # Gemma's
    if not isinstance(layer, torch.nn.Linear) or capped or (following is not None and bool(following.any())):
        raise CapabilityError(
            f"Expected a student that ends in one linear layer. Got {type(model).__name__}. "
            "Choose one of T5's family."
        )
    return layer


def vocab_size(model: Model) -> int:
    """Number of ids that the model scores."""
    return int(model.get_output_embeddings().weight.shape[0])


def recompute_activations(model: Model) -> None:
    """Keep only the inputs of blocks, and compute what lies within again in the backward pass."""
    # Its name before transformers 5.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def halves(model: Model) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Encoder and decoder; their embedding may be one."""
    return model.get_encoder(), model.get_decoder()


def blocks(model: Model) -> list[torch.nn.Module]:
    """The layers that a model itself says belong together, such as the blocks of a transformer."""
    names = set(model._no_split_modules or ())
    return [module for module in model.modules() if type(module).__name__ in names]


def save(model: Model, tokenizer: Any, directory: Path, weights: Mapping[str, Tensor]) -> None:
    """Write a model as safetensors, and its tokenizer, so that ``from_pretrained`` reads both.

    ``weights`` are the model's, whole, by name.
    """
    model.save_pretrained(directory, state_dict=dict(weights))
    tokenizer.save_pretrained(directory)
