"""What one of several processes does in the tests of distributed training: torchrun ... ddp_worker.py STORE OUT ...

It trains a tiny student with DDP, writes which rows it had at every step to ``OUT/rows-ATTEMPT-RANK.jsonl``, and
rank 0 keeps ``OUT/state.pt`` up to date, from which the next attempt continues.
"""

import argparse
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kdstore.codecs import Codec
from kdstore.store.reader import Store
from kdtrain.losses.ce import CrossEntropy
from kdtrain.losses.fused import DistillationHead, Targets
from kdtrain.losses.kl import ForwardKL
from kdtrain.stream.batch import IGNORED, Batch
from kdtrain.stream.config import LoaderConfig
from kdtrain.stream.loader import Loader
from kdtrain.stream.order import OrderConfig

BATCH_ROWS = 12
EPOCHS = 2
WEIGHTS = {"ce": 0.5, "kl": 0.5}


class Student(nn.Module):
    """Scores every label token by the mean embedding of its row's input."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, 8)
        self.head = DistillationHead(nn.Linear(8, vocab_size), {"ce": CrossEntropy(), "kl": ForwardKL()})

    def forward(self, batch: Batch | None, codec: Codec[Any] | None) -> Tensor:
        """The loss summed over label tokens; of no token where there is no batch."""
        if batch is None:
            nothing = torch.zeros(0, dtype=torch.int64)
            return self.head(self.embedding(nothing), Targets(nothing), WEIGHTS).total
        mask_BS1 = batch.attention_mask_BS[:, :, None]
        mean_BD = (self.embedding(batch.input_ids_BS) * mask_BS1).sum(1) / mask_BS1.sum(1)
        hidden_LD = mean_BD.repeat_interleave((batch.labels_BT != IGNORED).sum(1), dim=0)
        targets = Targets(batch.labels_L, codec=codec, signal=batch.signal, temperature=2.0)
        return self.head(hidden_LD, targets, WEIGHTS).total


def summed(tokens: int) -> int:
    """A count over all ranks."""
    total = torch.tensor(tokens)
    dist.all_reduce(total)
    return int(total)


def batches(loader: Loader) -> Iterator[Batch | None]:
    """A rank's batches of the rest of an epoch, then None where only others have rows: all ranks take every step."""
    left = len(loader) - -(-loader.rows_yielded // BATCH_ROWS)
    for batch in loader:
        left -= 1
        yield batch
    yield from [None] * left


def setting(store: Store, rank: int = 0, world: int = 1, last: str = "pad") -> tuple[Loader, nn.Module]:
    """A loader and an untrained student: the same for every run."""
    order = OrderConfig(seed=5, group_blocks=3)
    torch.manual_seed(0)
    return (
        Loader(store, LoaderConfig(BATCH_ROWS, order, rank=rank, world=world, last=last)),
        Student(store.head.vocab_size),
    )


def optimizer_of(student: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(student.parameters(), lr=0.05)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--last", default="pad")
    parser.add_argument("--attempt", default="first")
    parser.add_argument("--die-at-step", type=int)
    options = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    train(options, dist.get_rank(), dist.get_world_size())
    dist.destroy_process_group()


def train(options: argparse.Namespace, rank: int, world: int) -> None:
    loader, student = setting(Store(options.store), rank, world, options.last)
    state_path, step = options.out / "state.pt", 0
    optimizer = optimizer_of(student)
    if state_path.exists():
        state = torch.load(state_path, weights_only=True)
        loader.load_state_dict(state["loader"])
        student.load_state_dict(state["student"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    model = DistributedDataParallel(student)
    with (options.out / f"rows-{options.attempt}-{rank}.jsonl").open("w") as rows:
        for _ in range(loader.epoch, EPOCHS):
            for batch in batches(loader):
                step += 1
                rows.write(json.dumps([step, batch.positions_BP.tolist() if batch else []]) + "\n")
                rows.flush()
                if step == options.die_at_step and rank == world - 1:
                    os.kill(os.getpid(), signal.SIGKILL)
                tokens = summed(batch.label_tokens if batch else 0)
                # DDP takes the mean of the gradients; their sum over all tokens is wanted.
                (model(batch, loader.codec) * world / tokens).backward()
                optimizer.step()
                optimizer.zero_grad()
                if rank == 0:
                    save(state_path, loader, student, optimizer, step)
    torch.save(student.state_dict(), options.out / f"student-{options.attempt}-{rank}.pt")


def save(path: Path, loader: Loader, student: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    state = {
        "loader": loader.state_dict(), "student": student.state_dict(), "optimizer": optimizer.state_dict(),
        "step": step,
    }  # fmt: skip
    torch.save(state, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def steps_of(out: Path, attempt: str, world: int) -> Iterator[tuple[int, list[list[int]]]]:
    """What the ranks of an attempt had together, as (step, positions) of every step."""
    found: dict[int, list[list[int]]] = {}
    for rank in range(world):
        for line in (out / f"rows-{attempt}-{rank}.jsonl").read_text().splitlines():
            step, positions = json.loads(line)
            found.setdefault(step, []).extend(positions)
    yield from sorted(found.items())


if __name__ == "__main__":
    main()
