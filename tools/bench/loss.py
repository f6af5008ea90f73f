"""Time and memory of the distillation head beside cross-entropy, dense distillation and the predecessor's loss.

Every case runs in a process of its own; they take turns, so that what else the machine does meets all alike. Times
are of forward and backward pass together, the median of all rounds. Memory is the peak of what torch's allocator
holds beyond the inputs and the gradients that are returned, from the profiler's record of every allocation.
"""

import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, cast

import click
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from kdstore.codecs import CODECS, Codec, Head, Output, Sample, fit_codec
from kdstore.console import note, print_json, progress
from kdtrain.losses import LOSSES
from kdtrain.losses.fused import DistillationHead, Targets

TEMPERATURE: Final = 2.0
_TEACHER_DIM, _FIT_POSITIONS = 256, 2048
_MIXES: Final = {"ours_ce_kl": {"ce": 0.5, "kl": 0.5}, "ours_focal_jsd": {"focal": 0.5, "jsd": 0.5}}
_SETTINGS: Final = {"sampled": {"temperature": TEMPERATURE}}

Pass = Callable[[], tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True)
class Case:
    """What is timed: a baseline, or our mix of components over one codec's signals."""

    name: str
    codec: str | None = None


@click.command()
@click.option("--tokens", default=1024, show_default=True, help="Label tokens.")
@click.option("--dim", default=512, show_default=True, help="Width of the student.")
@click.option("--vocab", default=32_100, show_default=True)
@click.option("--codecs", default="lowrank", show_default=True, help="Of the signals, with commas between.")
@click.option("--rounds", default=7, show_default=True, type=click.IntRange(1))
@click.option("--threads", default=0, help="Of torch; 0: as many as it takes by itself.")
@click.option("--device", default="cpu", show_default=True)
@click.option(
    "--json", "out", type=click.Path(path_type=Path), help="Write records to this file; those of other sizes stay."
)
def main(
    tokens: int, dim: int, vocab: int, codecs: str, rounds: int, threads: int, device: str, out: Path | None
) -> None:
    """Measure the losses at one size.

    \b
    Example:
        python tools/bench/loss.py --tokens 1024 --dim 512 --json loss.json
        python tools/bench/loss.py --tokens 4096 --codecs lowrank,topk,topp,sampled,dense,hidden
    """
    cases = [Case("ce"), Case("dense_ce_kl"), Case("predecessor_jsd")]
    for codec in codecs.split(","):
        served = CODECS.get(codec).divergences or ("kl", "jsd")
        cases += [Case(name, codec) for name, mix in _MIXES.items() if {*mix} - {"ce", "focal"} <= {*served}]
    with tempfile.TemporaryDirectory(prefix="kdtrain-loss-") as directory:
        path = Path(directory)
        make_inputs(path, tokens, dim, vocab, [case.codec for case in cases if case.codec])
        records = measure(cases, path, rounds, threads, device)
    for record in records:
        record |= {"tokens": tokens, "dim": dim, "vocab": vocab, "device": device}
    load, cores = os.getloadavg()[0], os.cpu_count()
    note(f"load of the machine at the end: {load:.1f} on {cores} cores; {records[0]['torch_threads']} torch threads")
    print_json(records)
    if out:
        others = json.loads(out.read_text(encoding="utf-8")) if out.exists() else []
        kept = [one for one in others if (one["tokens"], one["dim"]) != (tokens, dim)]
        out.write_text(json.dumps(kept + records, indent=1) + "\n", encoding="utf-8")


def make_inputs(path: Path, tokens: int, dim: int, vocab: int, codecs: list[str]) -> None:
    """Hidden states, weight and labels of a student, and a teacher's signals through each codec."""
    generator = torch.Generator().manual_seed(0)
    hidden_FD = torch.randn(_FIT_POSITIONS + tokens, _TEACHER_DIM, generator=generator) * 3 / _TEACHER_DIM**0.5
    # Spectrum and rare ids as of a trained head: some directions matter, and most ids seldom.
    scale_D = torch.linspace(0, -4, _TEACHER_DIM).exp() * 3
    weight_VD = torch.randn(vocab, _TEACHER_DIM, generator=generator) * scale_D
    head = Head(weight_VD, -torch.arange(1, vocab + 1).log())
    output = Output(head.logits(hidden_FD[_FIT_POSITIONS:]), hidden_FD[_FIT_POSITIONS:])
    save_file(
        {
            "hidden": torch.randn(tokens, dim, generator=generator),
            "weight": torch.randn(vocab, dim, generator=generator) * dim**-0.5,
            "labels": torch.randint(0, vocab, (tokens,), generator=generator),
            "teacher": output.logits_LV,
        },
        path / "student.safetensors",
    )
    for name in set(codecs):
        settings = _SETTINGS.get(name, {})
        codec = fit_codec(name, settings, Sample(hidden_FD=hidden_FD[:_FIT_POSITIONS], head=head))
        save_file(codec.encode(output), path / f"{name}.signal")
        save_file(dict(codec.shared), path / f"{name}.shared")


def measure(cases: list[Case], path: Path, rounds: int, threads: int, device: str) -> list[dict[str, Any]]:
    """Let the processes of all cases take turns."""
    spawn = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for case in cases:
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=serve, args=(case, path, threads, device, theirs), daemon=True)
        process.start()
        pipes.append(ours)
        processes.append(process)
    records: list[dict[str, Any]] = [pipe.recv() for pipe in pipes]
    seconds: list[list[float]] = [[] for _ in cases]
    with progress("rounds", rounds) as bar:
        for _ in range(rounds):
            for times, pipe in zip(seconds, pipes, strict=True):
                pipe.send("run")
                times.append(pipe.recv())
            bar.advance()
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send("end")
        process.join()
    for record, times in zip(records, seconds, strict=True):
        record |= {"seconds": round(statistics.median(times), 4), "rounds": rounds}
    return records


def serve(case: Case, path: Path, threads: int, device: str, pipe: Connection) -> None:
    """Answer with what does not change from round to round, then with the seconds of each."""
    if threads:
        torch.set_num_threads(threads)
    prepared = prepare(case, path, torch.device(device))
    peak_mb = peak(prepared, torch.device(device))
    pipe.send({
        "name": case.name, "codec": case.codec, "peak_mb": round(peak_mb, 1),
        "torch_threads": torch.get_num_threads(), **error(case, path, torch.device(device), prepared),
    })  # fmt: skip
    while pipe.recv() == "run":
        start = time.perf_counter()
        prepared()
        if device != "cpu":
            torch.cuda.synchronize()
        pipe.send(time.perf_counter() - start)


def prepare(case: Case, path: Path, device: torch.device) -> Pass:
    """A function that runs forward and backward once: the loss, and its gradients by hidden states and weight."""
    given = {name: values.to(device) for name, values in load_file(path / "student.safetensors").items()}
    hidden_LD, weight_VD = given["hidden"].requires_grad_(), nn.Parameter(given["weight"])
    labels_L, teacher_LV = given["labels"], given["teacher"]
    total = (
        _ours(case, path, weight_VD, labels_L)
        if case.codec
        else _baseline(case.name, weight_VD, labels_L, teacher_LV)
    )

    def run() -> tuple[Tensor, Tensor, Tensor]:
        hidden_LD.grad = weight_VD.grad = None
        loss = total(hidden_LD)
        by_hidden_LD, by_weight_VD = torch.autograd.grad(loss, (hidden_LD, weight_VD))
        return loss.detach(), by_hidden_LD, by_weight_VD

    return run


def _baseline(name: str, weight_VD: Tensor, labels_L: Tensor, teacher_LV: Tensor) -> Callable[[Tensor], Tensor]:
    T = TEMPERATURE
    if name == "ce":
        return lambda hidden_LD: functional.cross_entropy(hidden_LD @ weight_VD.T, labels_L)
    if name == "dense_ce_kl":
        return lambda hidden_LD: dense(hidden_LD @ weight_VD.T, labels_L, teacher_LV, "ours_ce_kl")

    def predecessor(hidden_LD: Tensor) -> Tensor:
        s_LV, t_LV = (functional.softmax(z_LV / T, -1) for z_LV in (hidden_LD @ weight_VD.T, teacher_LV))
        log_m_LV = ((s_LV + t_LV) / 2).clamp(min=1e-8).log()
        both = (functional.kl_div(log_m_LV, p_LV, reduction="batchmean") for p_LV in (s_LV, t_LV))
        return T**2 / 2 * sum(both, labels_L.new_zeros((), dtype=torch.float32))

    return predecessor


def _ours(case: Case, path: Path, weight_VD: nn.Parameter, labels_L: Tensor) -> Callable[[Tensor], Tensor]:
    codec, signal = _signal(case, path, labels_L.device)
    linear = nn.Linear(weight_VD.shape[1], weight_VD.shape[0], bias=False, device="meta")
    linear.weight = weight_VD
    mix = _MIXES[case.name]
    head = DistillationHead(linear, {name: LOSSES.get(name)() for name in mix})
    targets = Targets(labels_L, codec=codec, signal=signal, temperature=TEMPERATURE)
    coefficients = {name: weight / len(labels_L) for name, weight in mix.items()}
    return lambda hidden_LD: cast(Tensor, head(hidden_LD, targets, coefficients).total)


def _signal(case: Case, path: Path, device: torch.device) -> tuple[Codec[Any], dict[str, Tensor]]:
    assert case.codec
    shared = load_file(path / f"{case.codec}.shared")
    kind = CODECS.get(case.codec)
    vocab_size = len(load_file(path / "student.safetensors")["weight"])
    codec = kind(kind.Config(**_SETTINGS.get(case.codec, {})), vocab_size, shared)
    return codec, {name: values.to(device) for name, values in load_file(path / f"{case.codec}.signal").items()}


def dense(z_LV: Tensor, labels_L: Tensor, teacher_LV: Tensor, mix: str) -> Tensor:
    """The same losses over whole arrays."""
    T = TEMPERATURE
    log_p_LV, log_q_LV = (functional.log_softmax(one / T, -1) for one in (teacher_LV, z_LV))
    if mix == "ours_ce_kl":
        kl = T**2 * functional.kl_div(log_q_LV, log_p_LV, log_target=True, reduction="batchmean")
        return 0.5 * functional.cross_entropy(z_LV, labels_L) + 0.5 * kl
    log_m_LV = torch.logaddexp(log_p_LV, log_q_LV) - torch.tensor(2.0).log()
    both = (functional.kl_div(log_m_LV, one, log_target=True, reduction="batchmean") for one in (log_p_LV, log_q_LV))
    log_y_L = functional.log_softmax(z_LV, -1).gather(-1, labels_L[:, None])[:, 0]
    focal = -0.25 * (1 - log_y_L.exp()) ** 2 * log_y_L
    return 0.5 * focal.mean() + 0.5 * T**2 / 2 * sum(both, z_LV.new_zeros(()))


def error(case: Case, path: Path, device: torch.device, prepared: Pass) -> dict[str, float]:
    """How far our loss and gradients are from those over whole arrays, relative; nothing for sparse signals."""
    if case.codec is None:
        return {}
    codec, signal = _signal(case, path, device)
    decoded = codec.decode(signal, TEMPERATURE)
    if not hasattr(decoded, "logits_LV"):
        return {}
    given = {name: values.to(device) for name, values in load_file(path / "student.safetensors").items()}
    hidden_LD, weight_VD = given["hidden"].requires_grad_(), nn.Parameter(given["weight"])
    expected = dense(hidden_LD @ weight_VD.T, given["labels"], decoded.logits_LV, case.name)
    gradients = torch.autograd.grad(expected, (hidden_LD, weight_VD))
    loss, *found = prepared()
    off = [float((a - b).norm() / b.norm()) for a, b in zip(found, gradients, strict=True)]
    return {"loss_error": float((loss - expected).abs() / expected), "gradient_error": max(off)}


def peak(prepared: Pass, device: torch.device) -> float:
    """MB that a pass holds at most, beyond the gradients that it returns."""
    prepared()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        kept = prepared()
        most = torch.cuda.max_memory_allocated() - before
    else:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            kept = prepared()
        # Every allocation and release of the allocator, in order.
        events = [one for one in profiler.profiler.kineto_results.events() if one.name() == "[memory]"]
        held = most = 0
        for event in sorted(events, key=lambda one: int(one.start_ns())):
            held += event.nbytes()
            most = max(most, held)
    return (most - sum(values.nbytes for values in kept[1:])) / 1e6


if __name__ == "__main__":
    main()
