"""One optimizer step over several batches: every component is divided by the label tokens, or rows, of all of them.

So how rows are cut into batches, or dealt to processes, changes nothing.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_, get_total_norm

from kdstore.errors import CapabilityError, TrainingError
from kdtrain.distributed import distributed, optimizer_state, put_optimizer_state, synchronized, whole
from kdtrain.losses.fused import LossOut
from kdtrain.models import seq2seq
from kdtrain.objective import Objective
from kdtrain.optimizer import adamw, learning_rate
from kdtrain.records import Measures
from kdtrain.sections import NONE
from kdtrain.stream.batch import Batch
from kdtrain.stream.loader import Loader
from kdtrain.stream.mixture import Mixture
from kdtrain.weights import Weights, temperature_at

_IDS_IN_MESSAGE = 8


class Stepper:
    """Changes a student, step by step.

    Parameters
    ----------
    objective
        The student's loss; the student lies on its device, in fp32.
    loader
        Where the batches come from.
    total_steps
        Optimizer steps of the whole training.

    Raises
    ------
    CapabilityError
        What is asked for does not work with ``--parallel fsdp``.
    """

    def __init__(self, objective: Objective, loader: Loader | Mixture, total_steps: int) -> None:
        self.objective, self.loader, self.total_steps = objective, loader, total_steps
        self.config, self.student, self.processes = objective.config, objective.student, objective.processes
        parallel, world = self.config.run.parallel, self.processes.world
        if world > 1 and parallel == "fsdp":
            _check_fsdp(objective)
        self.module = distributed(self.student, seq2seq.blocks(self.student.model), parallel, world)
        self.optimizer = adamw(self.student, self.config)
        self._encoder, self._decoder = self._own_parameters()
        self.scaler = torch.amp.GradScaler(objective.device.type, enabled=objective.dtype == torch.float16)
        self.weights = Weights(self.config.loss, total_steps)

    def step(self, index: int, batches: list[Batch]) -> Measures:
        """Take optimizer step ``index``, counted from 0, over one batch for each forward pass.

        Raises
        ------
        TrainingError
            A loss or gradient is not finite; nothing was changed.
        """
        # What is drawn in a step follows from seed, step and process alone, so that nothing of it need be kept.
        torch.manual_seed(_step_seed(self.config.run.seed, index, self.processes.rank))
        counts, outs = self.objective.counts(batches), []
        weights, temperature = self.weights.at(index), temperature_at(self.config.loss, index, self.total_steps)
        scales = {name: weight * self.weights.beta(name) for name, weight in weights.items() if weight}
        coefficients = {name: scale / counts.of(name) for name, scale in scales.items() if scale}
        for number, (batch, samples) in enumerate(zip(batches, counts.samples, strict=True), 1):
            settings = self.objective.settings(batch, self.loader, coefficients, temperature, index, samples)
            with synchronized(self.module, number == len(batches)):
                out = self.objective.loss(self.module, batch, settings)
                self._check_finite(out, batch, index)
                # Processes average their gradients; the sum is wanted.
                self.scaler.scale(out.total * self.processes.world).backward()  # type: ignore[no-untyped-call]
            outs.append(out)
        rate = learning_rate(self.config, index, self.total_steps)
        norms = self._update(rate, index, batches)
        computed = coefficients.keys() | self.student.losses.keys()
        means = self.objective.means(self.objective.sums(outs), counts, computed)
        self.weights.observe(means)
        return Measures(
            raw=means,
            weights={name: weights[name] for name in self.weights.names},
            weighted={name: scales.get(name, 0.0) * mean for name, mean in means.items()},
            norms=norms,
            learning_rate=rate,
            temperature=temperature,
            alpha=self.weights.alpha(index),
            rows=counts.row,
            label_tokens=counts.token,
        )

    def steepness(self, index: int, batch: Batch) -> dict[str, tuple[float | None, float | None]]:
        """`Student.steepness` on this process's rows of a batch, with the weights of step ``index``."""
        scales = {name: weight * self.weights.beta(name) for name, weight in self.weights.at(index).items()}
        alone = self.objective.own_counts(batch)
        coefficients = {name: scale / alone.of(name) for name, scale in scales.items() if scale}
        temperature = temperature_at(self.config.loss, index, self.total_steps)
        settings = self.objective.settings(batch, self.loader, coefficients, temperature, index, alone.samples[0])
        with self.objective.autocast():
            return self.student.steepness(batch, settings)

    def state_dict(self) -> dict[str, Any]:
        """All but the weights of the student, the same in every process; every process must ask."""
        return {
            "optimizer": optimizer_state(self.student, self.optimizer),
            "scaler": self.scaler.state_dict(),
            "weights": self.weights.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there.

        Raises
        ------
        LookupError, TypeError, ValueError
            It is of another student.
        """
        put_optimizer_state(self.student, self.optimizer, state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.weights.load_state_dict(state["weights"])

    def _update(self, rate: float, index: int, batches: Sequence[Batch]) -> dict[str, float]:
        """Clip, and move the weights; norms of the gradient before."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.scaler.unscale_(self.optimizer)
        norms = {"encoder": _norm(self._encoder), "decoder": _norm(self._decoder)}
        norms["total"] = float(whole(clip_grad_norm_(self.student.parameters(), self.config.optimizer.clip_norm)))
        # With fp16 an overflow is expected now and then: the scaler skips the step and scales less.
        if not math.isfinite(norms["total"]) and not self.scaler.is_enabled():
            raise TrainingError(self._not_finite("the gradient's norm", norms["total"], batches, index))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return norms

    def _own_parameters(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Parameters that only the encoder has, and only the decoder; a shared embedding belongs to neither."""
        encoder, decoder = (list(half.parameters()) for half in seq2seq.halves(self.student.model))
        shared = {*encoder} & {*decoder}
        return [p for p in encoder if p not in shared], [p for p in decoder if p not in shared]

    def _check_finite(self, out: LossOut, batch: Batch, index: int) -> None:
        for name, value in out.components.items():
            if not torch.isfinite(value):
                raise TrainingError(self._not_finite(f"the loss component {name!r}", float(value), [batch], index))

    def _not_finite(self, what: str, value: float, batches: Sequence[Batch], index: int) -> str:
        ids = [sample for batch in batches for sample in self.loader.sample_ids(batch)]
        more = f" and {len(ids) - _IDS_IN_MESSAGE} more" if len(ids) > _IDS_IN_MESSAGE else ""
        return (
            f"Expected finite numbers. Got {value} as {what} at step {index + 1}, in the samples "
            f"{', '.join(ids[:_IDS_IN_MESSAGE])}{more}. The step was not taken; look at these samples, lower --lr, "
            "or use --dtype fp32."
        )


def _check_fsdp(objective: Objective) -> None:
    refused = {
        "--loss-components with ast, whose texts end at different times": objective.student.policy is not None,
        "--validator, whose texts end at different times": objective.config.validation.validator != NONE,
        "--dtype fp16": objective.dtype == torch.float16,
    }
    for what, asked in refused.items():
        if asked:
            raise CapabilityError(f"Expected what --parallel fsdp can do. Got {what}. Leave it out, or use ddp.")


def _step_seed(seed: int, step: int, rank: int) -> int:
    """32 bits, since torch's generator on a CPU keeps no more of a seed."""
    digest = hashlib.blake2b(f"{seed}\0{step}\0{rank}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")


def _norm(parameters: Iterable[nn.Parameter]) -> float:
    """Euclidean norm of some gradients."""
    return float(whole(get_total_norm([p.grad for p in parameters if p.grad is not None])))
