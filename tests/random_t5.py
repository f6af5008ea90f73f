"""A T5 that nobody trained, small enough to run in milliseconds."""

from pathlib import Path
from typing import Any


def save_random_t5(directory: Path, vocab_size: int, seed: int = 0, **settings: Any) -> Path:
    """Save a T5 of one layer and 16 features, where ``settings`` of its configuration say nothing else."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(seed)
    # Large weights: with the usual ones an untrained T5 writes the same whatever it reads.
    small = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "initializer_factor": 3.0}
    config = T5Config(vocab_size=vocab_size, decoder_start_token_id=0, **small | settings)
    T5ForConditionalGeneration(config).save_pretrained(directory)
    return directory
