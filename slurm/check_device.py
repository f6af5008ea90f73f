"""What a node offers: ``python slurm/check_device.py DEVICE``, where DEVICE is cuda or cpu.

Prints a line per fact and device, multiplies matrices on each and trains a small T5 for a step. Ends with 7, as every
program here does where a device is missing, when DEVICE is cuda and none can be used.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import click
import torch

from kdstore.errors import CapabilityError
from kdstore.store.manifest import TokenizerRecord
from kdtrain.models import seq2seq

T = TypeVar("T")
SIZE = {"cuda": 8192, "cpu": 1024}
VOCAB = 32_100
TOKENIZER = TokenizerRecord(sha256="0" * 64, vocab_size=VOCAB, pad_id=0, eos_id=1, decoder_start_id=0)


def main(kind: str) -> None:
    """Look at all devices of a kind; raises `CapabilityError` where one cannot be used."""
    click.echo(
        f"python {sys.version.split()[0]}, torch {torch.__version__}, CUDA {torch.version.cuda or 'not built in'}"
    )
    click.echo(f"{torch.get_num_threads()} threads")
    if kind == "cpu":
        click.echo("no GPU was asked for: the CPU does the rest")
        check(torch.device("cpu"))
    else:
        check_gpus()
    click.echo("all is well")


def check_gpus() -> None:
    """Describe every GPU that can be seen, and use it."""
    if not torch.cuda.is_available():
        raise CapabilityError(
            f"Expected a GPU. Got none that torch {torch.__version__} can use. Ask SLURM for one (--gres=gpu:1), "
            "compare the driver's CUDA version with torch's, or do without: KD_DEVICE=cpu."
        )
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        click.echo(
            f"cuda:{index}: {gpu.name}, compute capability {gpu.major}.{gpu.minor}, "
            f"{gpu.total_memory / 2**30:.1f} GiB, bf16 {'yes' if torch.cuda.is_bf16_supported() else 'no'}"
        )
        try:
            check(torch.device("cuda", index))
        except RuntimeError as error:  # CUDA has no class of its own for a kernel that does not run
            raise CapabilityError(
                f"Expected cuda:{index} to work. Got: {str(error).splitlines()[0]}. Install a torch that is built "
                "for this GPU and driver."
            ) from None


def check(device: torch.device) -> None:
    """Multiply matrices and train one step on a device."""
    size = SIZE[device.type]
    for dtype in (torch.float32, torch.bfloat16):
        matrix_NN = torch.randn(size, size, device=device, dtype=dtype)
        seconds, _ = timed(partial(torch.matmul, matrix_NN, matrix_NN), device)
        click.echo(f"{device}: {size} x {size} matrices in {dtype}: {2 * size**3 / seconds / 1e12:.2f} TFLOP/s")
    seconds, loss = timed(partial(train_step, device), device)
    click.echo(f"{device}: one training step of a small T5 in {seconds:.3f} s, loss {loss:.3f}")


def timed(work: Callable[[], T], device: torch.device) -> tuple[float, T]:
    """Seconds that some work takes the second time, and what it gives."""
    work()
    synchronize(device)
    start = time.monotonic()
    found = work()
    synchronize(device)
    return time.monotonic() - start, found


def synchronize(device: torch.device) -> None:
    """Wait for what a GPU still does."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def train_step(device: torch.device) -> float:
    """Forward, backward and an optimizer step on random tokens; the loss."""
    torch.manual_seed(0)
    model = seq2seq.create("tiny", VOCAB, TOKENIZER).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    ids_BL = torch.randint(2, VOCAB, (8, 32), device=device)
    loss = model(input_ids=ids_BL, labels=ids_BL).loss
    loss.backward()
    optimizer.step()
    if not loss.isfinite() or not all(weight.isfinite().all() for weight in model.parameters()):
        raise CapabilityError(
            f"Expected finite numbers from a training step on {device}. Got others. Use another node."
        )
    return float(loss.detach())


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except CapabilityError as error:
        click.echo(f"check_device: error: {error}", err=True)
        sys.exit(error.exit_code)
