"""How much memory a training step takes, measured with a few rows, and so the largest batch that fits."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final
from weakref import ref

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kdtrain.objective import Objective
from kdtrain.preflight.findings import Found, failed, passed, size, warned
from kdtrain.preflight.flight import Flight
from kdtrain.stream.batch import Batch
from kdtrain.stream.loader import side_stream
from kdtrain.stream.memory import available_bytes
from kdtrain.stream.reader import GroupReader
from kdtrain.stream.window import Window, join
from kdtrain.trainer import Trainer
from kdtrain.weights import temperature_at

MEASURED: Final = (2, 4)  # rows; contrastive needs two
MARGIN: Final = 0.9
"""Share of the free memory that is planned with: allocators lose some to gaps."""
_GRADIENT_BYTES, _STATE_BYTES = 4, 8  # of a weight: its gradient, and what AdamW keeps


@dataclass(frozen=True)
class Need:
    """Bytes that a backward pass takes beside weights, gradients and the optimizer: ``base`` and ``row`` for each."""

    base: float
    row: float

    def of(self, rows: int) -> float:
        """Of so many rows."""
        return self.base + self.row * rows


def memory(flight: Flight) -> Iterator[Found]:
    """Does a step on the longest rows fit into memory, and which batch would?"""
    trainer, config = flight.trainer, flight.config
    trained = [parameter for parameter in trainer.student.parameters() if parameter.requires_grad]
    each = _GRADIENT_BYTES + (0 if trainer.stepper.optimizer.state else _STATE_BYTES)  # a checkpoint has brought it
    fixed = sum(parameter.numel() for parameter in trained) * each
    streams = sum(loader.plan.expected_peak for loader in flight.readers)
    free = free_bytes(trainer.device)
    left, place = MARGIN * free - fixed - streams, "GPU memory" if trainer.device.type == "cuda" else "memory"
    told = f"{size(fixed)} for gradients and AdamW, {size(streams)} for streaming"
    if left <= 0:
        yield failed(
            f"Expected training to fit into the {size(free)} of {place} that are free. Got {told} alone. Use a "
            "smaller model, or a device with more."
        )
        return
    need = measure(flight)
    rows, effective = config.data.batch_size, config.data.batch_size * config.schedule.gradient_accumulation_steps
    told += f", {size(need.of(rows))} for a batch of {rows} of the longest rows; {size(free)} of {place} are free"
    if need.of(rows) > left:
        yield failed(
            f"Expected a step to fit into memory. Got {told}. Use a smaller --batch-size with more "
            "--gradient-accumulation-steps, or --gradient-checkpointing."
        )
    else:
        yield passed(told)
    least = 2 if "contrastive" in flight.mix.names else 1
    batch = largest_batch(need, left, effective, config.data.streams, least)
    if batch is None:
        yield warned("no batch fits that leaves the effective batch as it is")
        return
    flight.recommended = {"batch_size": batch, "gradient_accumulation_steps": effective // batch}
    most = int((left - need.base) / need.row)
    negatives = "; contrastive then has other negatives" if least == 2 and batch != rows else ""
    yield passed(
        f"recommended: --batch-size {batch} --gradient-accumulation-steps {effective // batch}, the largest power of "
        f"two in {effective} that fits{negatives}; there is room for {most:,} rows (measured with "
        f"{' and '.join(map(str, MEASURED))})"
    )


def largest_batch(need: Need, left: float, effective: int, streams: int, least: int) -> int | None:
    """The largest power of two that fits into ``left`` bytes and divides the effective batch; None: there is none."""
    powers = [1 << exponent for exponent in range(effective.bit_length())]
    fitting = [
        rows
        for rows in powers
        if rows >= least and effective % rows == 0 and rows % streams == 0 and need.of(rows) <= left
    ]
    return max(fitting, default=None)


def measure(flight: Flight) -> Need:
    """What a backward pass takes, from passes over two numbers of rows.

    Raises
    ------
    CorruptStoreError
        A block cannot be read.
    """
    trainer = flight.trainer
    few, many = (longest(flight, rows) for rows in MEASURED)
    _backward(trainer, few)  # from now on gradients have memory, as within a step
    small, large = (peak_bytes(trainer, batch) for batch in (few, many))
    trainer.stepper.optimizer.zero_grad(set_to_none=True)
    row = max(1.0, (large - small) / (MEASURED[1] - MEASURED[0]))
    return Need(max(0.0, small - MEASURED[0] * row), row)


def longest(flight: Flight, rows: int) -> Batch:
    """A batch of the rows with the longest input and the longest target that are known, again and again."""
    source = max(range(len(flight.samples)), key=lambda at: int(flight.samples[at].input_N.max()))
    sample, loader = flight.samples[source], flight.readers[source]
    chosen = [int(length_N.argmax()) for length_N in (sample.input_N, sample.label_N)]
    reader, windows = GroupReader(loader.store, loader.fields), []
    with ThreadPoolExecutor(1) as pool:
        for index in chosen:
            part, block, row = sample.positions_NP[index].tolist()
            window = Window.of(reader.read([(part, block)], pool), loader.device, side_stream(loader.device))
            windows.append(window.take(np.asarray([row])))
    place = np.arange(rows) % len(chosen)
    pad_id = loader.store.head.tokenizer.pad_id
    batch = join(windows).collate(place, sample.positions_NP[chosen][place], pad_id, 0)
    return replace(batch, source=source)


def peak_bytes(trainer: Trainer, batch: Batch) -> int:
    """Most bytes of tensors that a backward pass has at once, above those that were there before."""
    if trainer.device.type == "cuda":
        torch.cuda.synchronize(trainer.device)
        torch.cuda.reset_peak_memory_stats(trainer.device)
        before = torch.cuda.memory_allocated(trainer.device)
        _backward(trainer, batch)
        torch.cuda.synchronize(trainer.device)
        return int(torch.cuda.max_memory_allocated(trainer.device) - before)
    counter = _Counter()
    with counter:
        _backward(trainer, batch)
    return counter.peak


def free_bytes(device: torch.device) -> int:
    """Bytes of its memory that this process can still have."""
    if device.type != "cuda":
        return available_bytes()
    free, _ = torch.cuda.mem_get_info(device)
    return int(free) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def _backward(trainer: Trainer, batch: Batch) -> None:
    """A forward and a backward pass with all components."""
    objective: Objective = trainer.objective
    counts = objective.own_counts(batch)
    coefficients = dict.fromkeys(trainer.student.components, 1 / counts.token)
    temperature = temperature_at(trainer.config.loss, 0, trainer.total_steps)
    settings = objective.settings(batch, trainer.train_loader, coefficients, temperature, 0, counts.samples[0])
    trainer.student.train()
    objective.loss(trainer.stepper.module, batch, settings).total.backward()  # type: ignore[no-untyped-call]


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors that operations make while it is entered, wherever they lie."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: dict[int, ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in _tensors((args, kwargs)):
            self._note(tensor, counts=False)
        out = func(*args, **(kwargs or {}))
        for tensor in _tensors(out):
            self._note(tensor, counts=True)
        return out

    def _note(self, tensor: Tensor, *, counts: bool) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._known:
            count = storage.nbytes() if counts else 0
            self._known[key] = ref(storage, partial(self._forget, key, count))
            self.now += count
            self.peak = max(self.peak, self.now)

    def _forget(self, key: int, count: int, storage: Any) -> None:
        del self._known[key]
        self.now -= count


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
