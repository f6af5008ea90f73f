"""What the rows of a run add up to. Fed with the same rows in the same order it says the same, to the bit."""

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kdtrain.logs.columns import PLACES
from kdtrain.logs.health import Health
from kdtrain.logs.summaries import (
    ComponentCourse,
    ComponentSummary,
    EpochLine,
    EpochSummary,
    GradientSummary,
    HealthWarning,
    LossSummary,
    Stats,
    TrainingReport,
    ValidationSummary,
)
from kdtrain.logs.table import Numbers


@dataclass
class _Column:
    """Finite numbers of one column."""

    count: int = 0
    total: float = 0.0
    first: float = math.nan
    last: float = math.nan
    least: float = math.inf
    most: float = -math.inf

    def add(self, value: float | None) -> None:
        if value is None or not math.isfinite(value):
            return
        self.first = self.first if self.count else value
        self.count, self.total, self.last = self.count + 1, self.total + value, value
        self.least, self.most = min(self.least, value), max(self.most, value)

    def stats(self) -> Stats | None:
        if not self.count:
            return None
        mean = self.total / self.count
        return Stats(count=self.count, mean=mean, first=self.first, last=self.last, min=self.least, max=self.most)


@dataclass
class Span:
    """Some consecutive rows of a table."""

    rows: int = 0
    step: int = 0
    seconds: float = 0.0
    columns: dict[str, _Column] = field(default_factory=dict)

    def add(self, row: Numbers) -> None:
        """One more row."""
        self.rows, self.step = self.rows + 1, int(row["step"] or 0)
        for name, value in row.items():
            self.columns.setdefault(name, _Column()).add(value)
        if tokens_per_second := row.get("tokens_per_second"):
            self.seconds += (row["label_tokens"] or 0.0) / tokens_per_second

    def stats(self, name: str) -> Stats | None:
        """Of a column; None where no row has a number in it."""
        return self.columns[name].stats() if name in self.columns else None

    def mean(self, name: str) -> float | None:
        """Of a column."""
        return found.mean if (found := self.stats(name)) else None

    def last(self, name: str) -> float | None:
        """Of a column."""
        return found.last if (found := self.stats(name)) else None

    def total(self, name: str) -> float:
        """Of a column."""
        return self.columns[name].total if name in self.columns else 0.0

    def pace(self) -> dict[str, Any]:
        """Label tokens, and how fast they went."""
        tokens = int(self.total("label_tokens"))
        speed = tokens / self.seconds if self.seconds else None
        return {"label_tokens": tokens, "seconds": self.seconds, "tokens_per_second": speed}


class History:
    """The course of a run with these components, whose validator has these scores."""

    def __init__(self, components: Sequence[str], metrics: Sequence[str]) -> None:
        self._components, self._metrics = tuple(components), tuple(metrics)
        self._health = Health(components)
        self._all, self._gradients, self._epochs = Span(), Span(), dict[int, Span]()
        self._validations: list[ValidationSummary] = []
        self.since = Span()
        """The steps since the last row of ``training_metrics.csv``."""

    @property
    def warnings(self) -> tuple[HealthWarning, ...]:
        """What has looked wrong so far."""
        return self._health.warnings

    def replay(self, steps: Iterable[Numbers], metrics: Iterable[Numbers], gradients: Iterable[Numbers]) -> None:
        """Take in the rows of all three tables, in the order in which they were written."""
        waiting = deque(metrics)
        for row in steps:
            while waiting and (waiting[0]["step"] or 0) < (row["step"] or 0):
                self.add_metrics(waiting.popleft())
            self.add_step(row)
        for row in waiting:
            self.add_metrics(row)
        for row in gradients:
            self.add_gradients(row)

    def add_step(self, row: Numbers) -> list[HealthWarning]:
        """One more row of ``step_metrics.csv``; what looks wrong since."""
        for span in (self._all, self.since, self._epochs.setdefault(int(row["epoch"] or 0), Span())):
            span.add(row)
        return self._health.step(row)

    def add_metrics(self, row: Numbers) -> list[HealthWarning]:
        """One more row of ``training_metrics.csv``; what looks wrong since."""
        self.since = Span()
        if row["best"] is None:
            return []
        self._validations.append(self._validation(row))
        return self._health.validation(row)

    def add_gradients(self, row: Numbers) -> None:
        """One more row of ``component_gradients.csv``."""
        self._gradients.add(row)

    def is_validated(self, step: int) -> bool:
        """Whether the last validation was after this step."""
        return bool(self._validations) and self._validations[-1].step == step

    def epoch_summary(self, epoch: int, step: int, account: str) -> EpochSummary:
        """Of an epoch that ended with ``step``."""
        span = self._epochs.get(epoch, Span())
        return EpochSummary(
            epoch=epoch,
            step=step,
            steps=span.rows,
            account=account,
            loss=span.stats("total_loss_weighted"),
            components={
                name: ComponentCourse(
                    raw=span.stats(f"{name}_loss_raw"),
                    weighted=span.stats(f"{name}_loss_weighted"),
                    weight=span.stats(f"{name}_weight"),
                )
                for name in self._components
            },
            grad_norms={part: span.stats(f"grad_norm_{part}") for part in ("total", "encoder", "decoder")},
            data_wait_seconds=span.total("data_wait"),
            sampling_seconds=span.total("sampling_seconds"),
            validation=self._validations[-1] if self.is_validated(step) else None,
            warnings=self.warnings,
            learning_rate=span.stats("learning_rate"),
            temperature=span.stats("temperature"),
            alpha=span.stats("alpha"),
            memory_usage_mb=span.stats("memory_usage_mb"),
            gpu_memory_mb=span.stats("gpu_memory_mb"),
            gpu_util=span.stats("gpu_util"),
            **span.pace(),
        )

    def report(self, run: Mapping[str, Any]) -> TrainingReport:
        """Of the whole run; ``run`` is what the trainer knows."""
        best = [one for one in self._validations if one.best]
        return TrainingReport(
            run=_finite(run),
            steps=self._all.rows,
            loss=self._all.stats("total_loss_weighted"),
            best=best[-1] if best else None,
            epochs=tuple(self._line(epoch, span) for epoch, span in self._epochs.items()),
            validations=tuple(self._validations),
            warnings=self.warnings,
            **self._all.pace(),
        )

    def loss_summary(self) -> LossSummary:
        """Of each component over the whole run."""
        return LossSummary(
            steps=self._all.rows,
            loss=self._all.stats("total_loss_weighted"),
            gradient_measurements=self._gradients.rows,
            components={name: self._component(name) for name in self._components},
        )

    def _component(self, name: str) -> ComponentSummary:
        weight, total = self._all.stats(f"{name}_weight"), self._all.total("total_loss_weighted")
        return ComponentSummary(
            raw=self._all.stats(f"{name}_loss_raw"),
            weighted=self._all.stats(f"{name}_loss_weighted"),
            weight_start=weight.first if weight else None,
            weight_end=weight.last if weight else None,
            loss_share=self._all.total(f"{name}_loss_weighted") / total if total else None,
            gradients={place: self._gradient(name, place) for place in PLACES},
        )

    def _gradient(self, name: str, place: str) -> GradientSummary | None:
        norm, share = (self._gradients.mean(f"{name}_{place}_{kind}") for kind in ("norm", "share"))
        return None if norm is None or share is None else GradientSummary(norm=norm, share=share)

    def _line(self, epoch: int, span: Span) -> EpochLine:
        found = [one.loss for one in self._validations if one.step == span.step]
        return EpochLine(
            epoch=epoch,
            step=span.step,
            steps=span.rows,
            train_loss=span.mean("total_loss_weighted"),
            val_loss=found[-1] if found else None,
            grad_norm=span.mean("grad_norm_total"),
            learning_rate=span.last("learning_rate"),
            temperature=span.last("temperature"),
            **span.pace(),
        )

    def _validation(self, row: Numbers) -> ValidationSummary:
        return ValidationSummary(
            step=int(row["step"] or 0),
            epoch=int(row["epoch"] or 0),
            loss=_finite(row["val_loss"]),
            components={name: _finite(row[f"val_{name}_loss"]) for name in self._components},
            metrics={name: _finite(row[name]) for name in self._metrics},
            best=bool(row["best"]),
            label_tokens=int(row["val_label_tokens"] or 0),
            seconds=row["validation_seconds"],
            metrics_seconds=row["metrics_seconds"],
        )


def _finite(value: Any) -> Any:
    """The same with None for numbers that JSON does not know."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
