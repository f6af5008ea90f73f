"""One step of a student whose weights are sharded, run by torchrun; see test_sharded_weights.py.

Writes the loss and all gradients, gathered, of rank 0.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import T5Config, T5ForConditionalGeneration

from kdstore.store.reader import Store
from kdtrain.stream.config import LoaderConfig
from kdtrain.stream.loader import Loader
from kdtrain.stream.order import OrderConfig
from kdtrain.student import Step, Student

COEFFICIENTS = {"ce": 0.4, "jsd": 0.6, "pans": 1.0, "semantic": 0.5}


def main(store: Path, out: Path, *, tied: bool, sharded: bool) -> None:
    """Both ranks read the same batch, so that the mean of their gradients is that of one process."""
    opened = Store(store)
    student = make_student(opened.head.vocab_size, tied=tied)
    if sharded:
        dist.init_process_group("gloo")
        if not tied:  # the head by itself, as large vocabularies want it
            fully_shard(student.model.get_output_embeddings())
        fully_shard(student)
    loader = Loader(opened, LoaderConfig(12, OrderConfig(3), signal=True, embeddings=("mini",)))
    loss = student(next(iter(loader)), Step(COEFFICIENTS, 2.0, loader.codec)).total
    loss.backward()
    found = {name: whole(parameter.grad) for name, parameter in student.named_parameters()}
    if not sharded or dist.get_rank() == 0:
        torch.save({"loss": loss.detach(), **found}, out)
    if sharded:
        dist.destroy_process_group()


def make_student(vocab_size: int, *, tied: bool) -> Student:
    """The same weights in every process."""
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=vocab_size, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0,
        decoder_start_token_id=0,
    )  # fmt: skip
    model = T5ForConditionalGeneration(config)
    if not tied:
        model.lm_head.weight = torch.nn.Parameter(model.shared.weight.detach().roll(1, 0))
    return Student(model, list(COEFFICIENTS), {"semantic": ("mini", 4)})


def whole(gradient: torch.Tensor | None) -> torch.Tensor | None:
    """A gradient with the shards of all ranks."""
    return gradient.full_tensor() if isinstance(gradient, DTensor) else gradient


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), tied=sys.argv[3] == "tied", sharded=True)
