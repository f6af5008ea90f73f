"""Several processes that train one student: who they are, what they add up, and how weights are shared among them.

Processes are started by torchrun or anything that sets its variables (``accelerate launch``, SLURM's srun around
torchrun). Every one reads its share of each batch; sums over label tokens and rows are divided by counts of all
processes, so that a run with two gives the losses of a run with one.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from kdstore import console
from kdstore.errors import TrainingError, UsageError, first_line


@dataclass(frozen=True)
class Processes:
    """The processes of one run, and which of them this is; ``local_rank`` counts on its machine."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    @property
    def main(self) -> bool:
        """Whether this process writes the run directory."""
        return self.rank == 0

    def gather(self, mine: Tensor) -> Tensor:
        """A tensor of every process, [world, ...], on the CPU; all have the same shape. Raises as `hearing`."""
        if self.world == 1:
            return mine[None]
        found = [torch.empty_like(mine) for _ in range(self.world)]
        with self.hearing():
            dist.all_gather(found, mine)
        return torch.stack(found)

    def gather_objects(self, mine: Any) -> list[Any]:
        """A plain object of every process."""
        found = [mine] * self.world
        if self.world > 1:
            with self.hearing():
                dist.all_gather_object(found, mine)
        return found

    def broadcast(self, value: Any) -> Any:
        """The main process's object, in every process."""
        return self.gather_objects(value)[0]

    def wait(self) -> None:
        """Go on when all processes have come here."""
        if self.world > 1:
            with self.hearing():
                dist.barrier()

    @contextmanager
    def hearing(self) -> Iterator[None]:
        """Say in one line that another process was lost while the block talked to it.

        Raises
        ------
        TrainingError
            Another process has ended, or is not heard from in time.
        """
        try:
            yield
        except RuntimeError as error:
            told = first_line(error)
            if self.world == 1 or not (isinstance(error, dist.DistError) or "gloo" in told or "NCCL" in told):
                raise
            raise TrainingError(
                f"Expected to hear from all {self.world} processes. Got: {told.rstrip('.')}. Look at what the others "
                "say; if they are only slow, raise --ddp-timeout."
            ) from None


@contextmanager
def started(timeout_s: int, device: str) -> Iterator[Processes]:
    """The processes that the environment names, able to talk to each other while the block runs.

    Only the main one shows notes and progress.

    Raises
    ------
    UsageError
        The environment contradicts itself.
    TrainingError
        The others do not come within ``timeout_s`` seconds.
    """
    processes = _from_environment()
    if processes.world == 1:
        yield processes
        return
    console.stderr.quiet = not processes.main
    cuda = torch.cuda.is_available() and device != "cpu"
    if cuda:
        torch.cuda.set_device(processes.local_rank)
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=timedelta(seconds=timeout_s))
    except dist.DistError as error:
        raise TrainingError(
            f"Expected {processes.world} processes within {timeout_s} seconds (--ddp-timeout). Got: "
            f"{first_line(error).rstrip('.')}. Look at what the others say."
        ) from None
    try:
        yield processes
    finally:
        dist.destroy_process_group()
        console.stderr.quiet = False


def _from_environment() -> Processes:
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    given = {name: os.environ[name] for name in names if name in os.environ}
    if "WORLD_SIZE" not in given:
        return Processes()
    if len(given) < len(names) or not all(value.isdigit() for value in given.values()):
        listed = ", ".join(f"{name}={value}" for name, value in given.items())
        raise UsageError(f"Expected {', '.join(names)} as torchrun sets them. Got {listed}. Use torchrun.")
    rank, world, local_rank = (int(given[name]) for name in names)
    if not 0 <= rank < world:
        raise UsageError(f"Expected RANK below WORLD_SIZE. Got {rank} and {world}. Use torchrun.")
    return Processes(rank, world, local_rank)


def distributed(module: nn.Module, blocks: list[nn.Module], parallel: str, world: int) -> nn.Module:
    """A module whose backward pass averages gradients over processes; of ``blocks`` FSDP keeps shares one by one."""
    if world == 1:
        return module
    if parallel == "ddp":
        return DistributedDataParallel(module, gradient_as_bucket_view=True)
    for block in blocks:
        fully_shard(block)
    return cast(nn.Module, fully_shard(module))


@contextmanager
def synchronized(module: nn.Module, now: bool) -> Iterator[None]:
    """Average gradients over processes in this backward pass, or leave it to a later one."""
    if isinstance(module, DistributedDataParallel) and not now:
        with module.no_sync():
            yield
        return
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(now)
    yield


def whole(value: Tensor) -> Tensor:
    """All of a tensor of which every process may have a share; every process must ask."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """Whole weights by name, those that are tied once; every process must ask."""
    once = {name for name, _ in (*module.named_parameters(), *module.named_buffers())}
    return {name: whole(value.detach()) for name, value in module.state_dict().items() if name in once}


@torch.no_grad()
def put_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give a module the weights that `weights_of` gave.

    Raises
    ------
    ValueError
        They are of another module.
    """
    own = dict(module.named_parameters()) | dict(module.named_buffers())
    known = [name for name in module.state_dict() if name in own]
    if odd := {*known} ^ weights.keys():
        raise ValueError(f"weights of another model: {min(odd)!r} is in one of them alone")
    for name in known:
        if own[name].shape != weights[name].shape:
            raise ValueError(f"{name!r} of shape {[*weights[name].shape]} instead of {[*own[name].shape]}")
        own[name].copy_(_share(weights[name], own[name]))


def optimizer_state(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Any]]:
    """Whole state of an optimizer by name of the weight; every process must ask."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
    return {
        names[parameter]: {key: whole(value) if isinstance(value, Tensor) else value for key, value in state.items()}
        for parameter, state in optimizer.state.items()
    }


def put_optimizer_state(
    module: nn.Module, optimizer: torch.optim.Optimizer, states: Mapping[str, Mapping[str, Any]]
) -> None:
    """Give an optimizer what `optimizer_state` gave.

    Raises
    ------
    ValueError, LookupError
        It is of another model.
    """
    own = dict(module.named_parameters())
    for name, state in states.items():
        for key, value in state.items():
            if isinstance(value, Tensor) and value.ndim and value.shape != own[name].shape:
                raise ValueError(f"{key} of {name!r} has another shape")
    order = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    index = {parameter: position for position, parameter in enumerate(order)}
    plain = optimizer.state_dict()
    plain["state"] = {
        index[own[name]]: {
            key: _share(value, own[name]) if isinstance(value, Tensor) and value.ndim else value
            for key, value in state.items()
        }
        for name, state in states.items()
    }
    optimizer.load_state_dict(plain)


def _share(value: Tensor, own: Tensor) -> Tensor:
    """What this process keeps of a whole tensor, as it does of ``own``."""
    if isinstance(own, DTensor):
        # Every process has read the same file: none need send it.
        return distribute_tensor(value.to(own.device), own.device_mesh, own.placements, src_data_rank=None)
    return value
