"""Measure a student on the validation rows: its losses, and the texts that it writes, scored by a validator."""

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from kdstore.errors import TrainingError, first_line
from kdtrain.models.writing import reference_column, write
from kdtrain.objective import Counts, Objective
from kdtrain.sections import NONE
from kdtrain.stream.loader import Loader
from kdtrain.validators import VALIDATORS, Validator
from kdtrain.weights import lowest_temperature


@dataclass(frozen=True)
class Validated:
    """Means of all components, the validator's metrics, label tokens, and seconds; see `ValidationRecord`.

    Where the validator could not score, ``metrics`` are empty and ``failure`` says why.
    """

    raw: dict[str, float]
    metrics: dict[str, float]
    label_tokens: int
    seconds: float
    metrics_s: float
    failure: str = ""


class Validation:
    """Validates the student of an objective on the rows of a loader.

    Parameters
    ----------
    objective
        The student and its loss.
    loader
        The validation rows, not shuffled; each process has its share of every batch.
    tokenizer
        Turns ids into text.

    Raises
    ------
    UnknownNameError
        No validator has the configured name.
    CapabilityError
        The store keeps no texts that a validator could compare with.
    """

    def __init__(self, objective: Objective, loader: Loader, tokenizer: Any) -> None:
        self.objective, self.loader, self.tokenizer = objective, loader, tokenizer
        settings = objective.config.validation
        self.samples = settings.validation_samples
        self.validator: Validator | None = None
        if settings.validator != NONE:
            self.validator = VALIDATORS.get(settings.validator)(settings.use_enhanced_metrics)
            reference_column(loader.store)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the validator's metrics."""
        return self.validator.names if self.validator else ()

    @torch.no_grad()
    def __call__(self, module: nn.Module) -> Validated:
        """Validate; ``module`` is the student, or what shares it among processes, all of which must ask.

        Losses are at the temperature that training ends with.

        Raises
        ------
        TrainingError
            A loss is not finite.
        """
        start = time.monotonic()
        module.eval()
        raw, tokens = self._losses(module)
        before = time.monotonic()
        metrics, failure = self._scores(self.validator) if self.validator else ({}, "")
        end = time.monotonic()
        return Validated(raw, metrics, tokens, end - start, end - before, failure)

    def _losses(self, module: nn.Module) -> tuple[dict[str, float], int]:
        """The mean of each component, and the label tokens."""
        objective, names = self.objective, self.objective.student.components
        sums, total = torch.zeros(len(names), dtype=torch.float64), Counter[str]()
        temperature = lowest_temperature(objective.config.loss)
        for batch in self.loader:
            counts = objective.counts([batch])
            total.update(token=counts.token, row=counts.row, sample=counts.sample)
            settings = objective.settings(
                batch, self.loader, dict.fromkeys(names, 1.0), temperature, 0, counts.samples[0]
            )
            out = objective.loss(module, batch, settings)
            for name, value in out.components.items():
                if not torch.isfinite(value):
                    raise TrainingError(
                        f"Expected finite numbers on the validation rows. Got {float(value)} as the loss component "
                        f"{name!r}, in the samples {', '.join(self.loader.sample_ids(batch)[:8])}. Look at these "
                        "samples, lower --lr, or use --dtype fp32."
                    )
            sums += objective.sums([out])
        counts = Counts(total["token"], total["row"], total["sample"], ())
        return objective.means(sums, counts, names), counts.token

    def _scores(self, validator: Validator) -> tuple[dict[str, float], str]:
        """What the validator says of texts for the first rows, in the main process; and why it could say nothing.

        It is another's code, and no reason to lose a long run.
        """
        loader, processes = self.loader, self.objective.processes
        mine, most = _own_share(self.samples, loader), loader.store.head.limits.max_output_tokens
        written = write(self.objective.student.model, self.tokenizer, loader, most, mine) if mine else ([], [])
        found = processes.gather_objects(written)
        if not processes.main:
            return {}, ""
        try:
            scores = validator.score(*([text for one in found for text in one[side]] for side in (0, 1)))
            return {name: float(scores[name]) for name in validator.names}, ""
        except Exception as error:
            return {}, f"{type(error).__name__}: {first_line(error)}"


def _own_share(rows: int, loader: Loader) -> int:
    """How many of the first ``rows`` rows of a loader that does not shuffle are this process's."""
    rank, world, size = loader.config.rank, loader.config.world, loader.config.batch_rows
    batches, rest = divmod(min(rows, loader.rows), size)
    # Of the batch that is cut this process has the rows from `first` on.
    last = min(size, loader.rows - batches * size)
    first, stop = rank * last // world, (rank + 1) * last // world
    return batches * (size // world) + max(0, min(rest, stop) - first)
