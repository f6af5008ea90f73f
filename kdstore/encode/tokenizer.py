"""Load a tokenizer, name it by its content, and keep a copy of it in the store."""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from kdstore.errors import ModelError, first_line
from kdstore.schema import Example
from kdstore.store.manifest import Limits, TokenizerRecord


class Tokenizer:
    """A Hugging Face fast tokenizer with the limits of a build.

    Parameters
    ----------
    source
        A local directory or a hub name.

    Raises
    ------
    ModelError
        It cannot be loaded, is not a fast tokenizer, or lacks a pad or end token.
    """

    def __init__(self, source: str | Path) -> None:
        try:
            backend = AutoTokenizer.from_pretrained(source)
        except Exception as error:  # the libraries raise some twenty unrelated types
            raise ModelError(
                f"Expected a tokenizer at {source}. Got: {first_line(error)} Give a local directory, or download "
                "it where there is a network."
            ) from None
        files = backend.vocab_files_names.values()
        if Path(source).is_dir() and not any((Path(source) / name).is_file() for name in files):
            # Without one the library makes up a vocabulary in which nearly all is unknown.
            raise ModelError(f"Expected a tokenizer in {source}. Got none of its files {', '.join(sorted(files))}.")
        if not backend.is_fast or backend.pad_token_id is None or backend.eos_token_id is None:
            raise ModelError(f"Expected a fast tokenizer with pad and end tokens at {source}. Got {type(backend)}.")
        # Truncation set by an earlier owner is saved with the tokenizer and would change its hash.
        backend.backend_tokenizer.no_truncation()
        backend.backend_tokenizer.no_padding()
        self.backend: Any = backend

    def record(self, decoder_start_id: int | None) -> TokenizerRecord:
        """What a manifest says of this tokenizer; T5 starts the decoder with the pad token."""
        return TokenizerRecord(
            sha256=self.sha256(),
            vocab_size=len(self.backend),
            pad_id=self.backend.pad_token_id,
            eos_id=self.backend.eos_token_id,
            decoder_start_id=self.backend.pad_token_id if decoder_start_id is None else decoder_start_id,
        )

    def sha256(self) -> str:
        """SHA-256 of the tokenizer's own JSON: vocabulary, merges, normaliser, special tokens."""
        content = json.loads(self.backend.backend_tokenizer.to_str())
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def save(self, directory: Path) -> None:
        """Write the tokenizer's files into ``directory``; raises `OSError` where that cannot be done."""
        try:
            self.backend.save_pretrained(directory)
        except Exception as error:  # the library has no class of its own for what the system says
            code = re.search(r"\(os error (\d+)\)", str(error))
            if not code:
                raise
            raise OSError(int(code[1]), os.strerror(int(code[1])), str(directory)) from None
        # How it was loaded is no part of it: the same tokenizer must give the same bytes, with and without network.
        path = directory / "tokenizer_config.json"
        settings = json.loads(path.read_text(encoding="utf-8"))
        settings.pop("local_files_only", None)
        path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def encode(self, examples: Sequence[Example]) -> tuple[list[list[int]], list[list[int]]]:
        """Ids of prompts and of targets, ending with the end token, of any length."""
        return self.ids([example.prompt for example in examples]), self.ids([e.target for e in examples])

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without special tokens."""
        return str(self.backend.decode(ids, skip_special_tokens=True))

    def ids(self, texts: list[str]) -> list[list[int]]:
        """Ids of texts, ending with the end token, of any length."""
        end = self.backend.eos_token_id
        sequences = self.backend(texts, add_special_tokens=True, verbose=False).input_ids
        return [ids if ids and ids[-1] == end else [*ids, end] for ids in sequences]


def truncate_prompt(ids: list[int], limits: Limits) -> list[int]:
    """Keep the end of a prompt: the lines of the test that are nearest to the assertion."""
    return ids[-limits.max_input_tokens :]


def truncate_target(ids: list[int], limits: Limits) -> list[int]:
    """Keep the start of a target, and its end token."""
    return ids if len(ids) <= limits.max_output_tokens else [*ids[: limits.max_output_tokens - 1], ids[-1]]
