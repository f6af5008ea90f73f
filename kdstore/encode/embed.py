"""Sentence embeddings of the gold text, computed once at build time and kept as named columns."""

import re
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

from kdstore.encode.teacher import weights_sha256
from kdstore.errors import ModelError, UsageError, first_line

CODEBERT = "microsoft/codebert-base"


class Encoder(Protocol):
    """Turns texts into vectors; ``column`` names where they are kept."""

    column: str
    width: int
    fingerprint: str

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of ``texts``, float32 [N, D]."""


def load_encoders(specs: Sequence[str], device: torch.device) -> tuple[Encoder, ...]:
    """The encoders that ``--embed`` names, see `load_encoder`, which says what else is raised.

    Raises
    ------
    UsageError
        Two would keep their vectors in one column.
    """
    encoders = tuple(load_encoder(spec, device) for spec in specs)
    columns = [encoder.column for encoder in encoders]
    for column in columns:
        if columns.count(column) > 1:
            raise UsageError(
                f"Expected a column of its own for each --embed. Got {column!r} twice. Name one: --embed NAME=MODEL."
            )
    return encoders


def load_encoder(spec: str, device: torch.device) -> Encoder:
    """The encoder that ``--embed`` names: ``codebert``, a sentence-transformers name or directory, or COLUMN=either.

    Raises
    ------
    ModelError
        It cannot be loaded.
    UsageError
        The column's name cannot be used.
    """
    column, _, source = spec.rpartition("=")
    column = column or re.sub(r"[^\w.-]", "-", source.rstrip("/").split("/")[-1])
    if not re.fullmatch(r"\w[\w.-]{0,60}", column):
        raise UsageError(f"Expected COLUMN=MODEL with a plain column name. Got {spec!r}.")
    try:
        if column == "codebert":
            return CodeBert(CODEBERT if source == "codebert" else source, device)
        return SentenceEncoder(column, source, device)
    except Exception as error:  # as for models: many libraries, many types
        raise ModelError(
            f"Expected an encoder at {source}. Got: {first_line(error)} "
            "Give a local directory (--embed COLUMN=DIR), or download it where there is a network."
        ) from None


class SentenceEncoder:
    """Any sentence-transformers model, pooled and normalised as its own files say."""

    def __init__(self, column: str, source: str, device: torch.device) -> None:
        self.column = column
        self._model = SentenceTransformer(source, device=str(device))
        self.width = int(self._model.get_embedding_dimension() or 0)
        self.fingerprint = weights_sha256(self._model)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of ``texts``, float32 [N, D]."""
        vectors = self._model.encode(list(texts), batch_size=32, show_progress_bar=False, convert_to_numpy=True)
        return np.asarray(vectors, np.float32)


class CodeBert:
    """CodeBERT (Feng et al. 2020, arXiv:2002.08155): mean of the last layer over the tokens of a text."""

    column = "codebert"

    def __init__(self, source: str, device: torch.device) -> None:
        self._device = device
        self._tokenizer: Any = AutoTokenizer.from_pretrained(source)
        self._model: Any = AutoModel.from_pretrained(source).to(device).eval()
        self.width = int(self._model.config.hidden_size)
        self.fingerprint = weights_sha256(self._model)

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of ``texts``, float32 [N, D]."""
        return np.concatenate([self._embed_batch(texts[i : i + 32]) for i in range(0, len(texts), 32)])

    def _embed_batch(self, texts: Sequence[str]) -> NDArray[np.float32]:
        batch = self._tokenizer(list(texts), padding=True, truncation=True, max_length=512, return_tensors="pt")
        batch = batch.to(self._device)
        states_BTD = self._model(**batch).last_hidden_state
        mask_BT1 = batch["attention_mask"][:, :, None]
        pooled_BD = (states_BTD * mask_BT1).sum(1) / mask_BT1.sum(1)
        return np.asarray(pooled_BD.float().cpu().numpy(), np.float32)
