"""The loss of batches: what training minimises and validation measures, over all processes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdstore.encode.device import resolve_dtype
from kdtrain.config import Config
from kdtrain.distributed import Processes
from kdtrain.losses import LOSSES
from kdtrain.losses.fused import LossOut
from kdtrain.models.sampling import sample_key
from kdtrain.stream.batch import Batch
from kdtrain.stream.loader import Loader
from kdtrain.stream.mixture import Mixture
from kdtrain.student import Step, Student
from kdtrain.tokens import CriticalTokens


@dataclass(frozen=True)
class Counts:
    """What means are taken over: label tokens, rows, and rows for which the student writes, of all processes.

    ``samples`` are those of this process, for each batch.
    """

    token: int
    row: int
    sample: int
    samples: tuple[int, ...]

    def of(self, component: str) -> int:
        """What the mean of a component is taken over; 1 where there is nothing."""
        found: int = getattr(self, LOSSES.get(component).per)
        return max(1, found)


class Objective:
    """The loss of a student on its batches.

    Parameters
    ----------
    student
        Not wrapped.
    critical
        Finds the tokens that count more in label losses; None: all count alike.
    config
        The resolved configuration.
    device
        Where the model runs.
    processes
        Which of several this one is.
    """

    def __init__(
        self,
        student: Student,
        critical: CriticalTokens | None,
        config: Config,
        device: torch.device,
        processes: Processes,
    ) -> None:
        self.student, self.critical, self.config = student, critical, config
        self.device, self.processes = device, processes
        self.dtype = resolve_dtype(config.run.dtype, device)

    def counts(self, batches: Sequence[Batch]) -> Counts:
        """What the means over these batches, one for each forward pass, are taken over; all processes must ask."""
        sizes_WN2 = self.processes.gather(torch.tensor([[one.label_tokens, one.rows] for one in batches]))
        rows_N, rank = sizes_WN2[:, :, 1].sum(0), self.processes.rank
        # The student writes for the first rows of a batch, whichever process has them.
        most = self.config.loss.ast_samples if self.student.policy else 0
        before_N = sizes_WN2[:rank, :, 1].sum(0)
        mine_N = (most - before_N).clamp(min=0).minimum(sizes_WN2[rank, :, 1])
        return Counts(
            token=int(sizes_WN2[:, :, 0].sum()),
            row=int(rows_N.sum()),
            sample=int(rows_N.clamp(max=most).sum()),
            samples=tuple(mine_N.tolist()),
        )

    def own_counts(self, batch: Batch) -> Counts:
        """The same for one batch of this process alone."""
        most = self.config.loss.ast_samples if self.student.policy else 0
        samples = min(most, batch.rows)
        return Counts(batch.label_tokens, batch.rows, samples, (samples,))

    def autocast(self) -> torch.autocast:
        """Products in the configured number format while it is entered."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def loss(self, module: nn.Module, batch: Batch, settings: Step) -> LossOut:
        """The loss of one batch; ``module`` is the student, or what shares it among processes."""
        with self.autocast():
            out: LossOut = module(batch, settings)
        return out

    def settings(
        self,
        batch: Batch,
        loader: Loader | Mixture,
        coefficients: Mapping[str, float],
        temperature: float,
        step: int,
        samples: int,
    ) -> Step:
        """What the loss of a batch depends on; ``samples`` of its first rows are written for."""
        ids = loader.sample_ids(batch, samples) if samples else []
        seed = self.config.run.seed
        return Step(
            coefficients,
            temperature,
            loader.codec_of(batch),
            [sample_key(seed, step, one) for one in ids],
            self._token_weights(batch) if self.student.training else None,
        )

    def sums(self, outs: Sequence[LossOut]) -> Tensor:
        """The sum of each of the student's components, float64 [components], of this process."""
        names = self.student.components
        sums = torch.zeros(len(names), dtype=torch.float64)
        for out in outs:
            sums += torch.tensor([float(out.components.get(name, 0.0)) for name in names], dtype=torch.float64)
        return sums

    def means(self, sums: Tensor, counts: Counts, computed: Collection[str]) -> dict[str, float]:
        """The means of the components that were ``computed``, over all processes; all processes must ask."""
        total = dict(zip(self.student.components, self.processes.gather(sums).sum(0).tolist(), strict=True))
        return {name: total[name] / counts.of(name) for name in total if name in computed}

    def _token_weights(self, batch: Batch) -> Tensor | None:
        if self.critical is None:
            return None
        return 1 + (self.config.loss.critical_token_weight - 1) * self.critical.mask(batch.labels_BT).float()
