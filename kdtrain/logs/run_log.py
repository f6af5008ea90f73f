"""The log of a run: what the trainer tells becomes rows, summaries, TensorBoard, text and warnings."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Self

from kdstore.console import note
from kdstore.store import atomic
from kdtrain.logs.board import Board
from kdtrain.logs.columns import PLACES, gradient_columns, metrics_columns, step_columns
from kdtrain.logs.history import History
from kdtrain.logs.machine import Machine, memory_mb
from kdtrain.logs.summaries import HealthWarning
from kdtrain.logs.table import Table, keep_until
from kdtrain.records import GradientRecord, StepRecord, ValidationRecord
from kdtrain.rundir import RunDir


class RunLog:
    """Writes the logs of one run; a context manager.

    At the end of an epoch the trainer tells first of the validation, if there was one, then of the epoch, and only
    then makes a checkpoint: rows of the checkpoint's step are kept when the run is resumed.

    Parameters
    ----------
    run
        The run directory.
    components
        Names of the loss components.
    metrics
        Names of the validator's scores.
    step
        Optimizer steps already done; rows of later steps, which a killed run left behind, are dropped.

    Raises
    ------
    TrainingError
        The rows that are there are damaged; the line is named.
    """

    def __init__(self, run: RunDir, components: Sequence[str], metrics: Sequence[str], step: int) -> None:
        self._run, self._components, self._names = run, tuple(components), tuple(metrics)
        self._history, self._machine = History(components, metrics), Machine()
        tables = (
            (run.step_metrics, step_columns(components)),
            (run.metrics, metrics_columns(components, metrics)),
            (run.component_gradients, gradient_columns(components)),
        )
        # Of steps there must be a row each.
        self._history.replay(
            *(keep_until(path, columns, step, every=path == run.step_metrics) for path, columns in tables)
        )
        self._steps, self._metrics, self._gradients = (Table(path, columns) for path, columns in tables)
        self._text = run.log.open("a", encoding="utf-8")
        self._board = Board(run.tensorboard, components, metrics, step)

    def __enter__(self) -> Self:
        """The log itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close all files."""
        for file in (self._steps, self._metrics, self._gradients, self._text, self._board):
            file.close()

    def step(self, record: StepRecord) -> None:
        """An optimizer step was taken."""
        values: dict[str, float | None] = {
            "epoch": record.epoch,
            "step": record.step,
            "mini_batch_idx": record.mini_batch,
            "total_loss_raw": sum(record.raw.values()),
            "total_loss_weighted": record.loss,
            **{f"grad_norm_{part}": norm for part, norm in record.norms.items()},
            "learning_rate": record.learning_rate,
            "temperature": record.temperature,
            "alpha": record.alpha,
            "effective_batch_size": record.rows,
            "elapsed_time_seconds": record.elapsed_s,
            "data_wait": record.data_wait_s,
            "tokens_per_second": record.label_tokens / record.seconds,
            "sampling_seconds": record.sampling_s,
            "label_tokens": record.label_tokens,
        }
        for name in self._components:
            values[f"{name}_loss_raw"] = record.raw.get(name)
            values[f"{name}_loss_weighted"] = record.weighted.get(name)
            values[f"{name}_weight"] = record.weights.get(name)
        row = self._steps.add(values | self._machine.reading())
        self._board.step(row)
        self._warn(self._history.add_step(row))

    def validation(self, record: ValidationRecord) -> None:
        """The student was measured on the validation rows; comes before `epoch` where both end together."""
        self._summarize(
            record.step,
            record.epoch,
            {
                "val_loss": record.loss,
                **{f"val_{name}_loss": record.raw.get(name) for name in self._components},
                **{name: record.metrics.get(name) for name in self._names},
                "val_label_tokens": record.label_tokens,
                "validation_seconds": record.seconds,
                "metrics_seconds": record.metrics_s,
                "elapsed_time_seconds": record.elapsed_s,
                "best": int(record.best),
            },
        )
        found = _listed({**record.raw, **record.metrics}, ".4f")
        self.say(f"step {record.step}: validation loss {record.loss:.4f} ({found}){', the best' * record.best}")

    def gradients(self, record: GradientRecord) -> None:
        """The gradients of the components were measured."""
        values: dict[str, float | None] = {"epoch": record.epoch, "step": record.step}
        for place, norms in zip(PLACES, (record.decoder, record.encoder), strict=True):
            total = sum(norm for norm in norms.values() if norm is not None)
            for name in self._components:
                norm = norms.get(name)
                values[f"{name}_{place}_norm"] = norm
                values[f"{name}_{place}_share"] = norm / total if norm is not None and total else None
        row = self._gradients.add(values)
        self._board.gradients(row)
        self._history.add_gradients(row)

    def epoch(self, epoch: int, step: int, account: str) -> None:
        """An epoch ended with ``step``; ``account`` is the loader's, of rows and coverage."""
        if not self._history.is_validated(step):
            elapsed = self._history.since.last("elapsed_time_seconds")
            self._summarize(step, epoch, {"elapsed_time_seconds": elapsed})
        self.say(f"epoch {epoch}: {account}; {memory_mb():,.0f} MiB in memory")
        summary = self._history.epoch_summary(epoch, step, account)
        atomic.write_text(self._run.epoch_summary(epoch), summary.to_json())

    def sync(self) -> None:
        """Have all rows so far on the disk."""
        for table in (self._steps, self._metrics, self._gradients):
            table.sync()

    def say(self, message: str) -> None:
        """Add one line with the time to the text log."""
        self._text.write(f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S} {message}\n")
        self._text.flush()

    def finish(self, summary: Mapping[str, Any]) -> None:
        """The run is over; ``summary`` is what the trainer knows of it, as plain values."""
        atomic.write_text(self._run.training_report, self._history.report(summary).to_json())
        atomic.write_text(self._run.loss_summary, self._history.loss_summary().to_json())

    def _summarize(self, step: int, epoch: int, values: Mapping[str, float | None]) -> None:
        """Add a row to ``training_metrics.csv``: the values, and means over the steps since the row before."""
        since = self._history.since
        pace = since.pace()
        trained: dict[str, float | None] = {
            "step": step,
            "epoch": epoch,
            "train_loss": since.mean("total_loss_weighted"),
            **{f"train_{name}_loss": since.mean(f"{name}_loss_raw") for name in self._components},
            "learning_rate": since.last("learning_rate"),
            "temperature": since.last("temperature"),
            "label_tokens": pace["label_tokens"],
            "tokens_per_second": pace["tokens_per_second"],
        }
        row = self._metrics.add({**trained, **values})
        self._board.metrics(row)
        self._warn(self._history.add_metrics(row))

    def _warn(self, warnings: Sequence[HealthWarning]) -> None:
        for warning in warnings:
            line = f"warning at step {warning.step} ({warning.kind}): {warning.message}"
            self.say(line)
            note(line)


def describe(record: StepRecord, epochs: int) -> str:
    """A step in a few words, for the progress bar: components before their weights."""
    return (
        f"epoch {record.epoch}/{epochs}, loss {record.loss:.4g} ({_listed(record.raw, '.3g')}), "
        f"lr {record.learning_rate:.3g}"
    )


def _listed(values: Mapping[str, float], form: str) -> str:
    return ", ".join(f"{name} {value:{form}}" for name, value in values.items())
