"""A run in TensorBoard: the same numbers as in the tables, in groups."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from kdtrain.logs.columns import PLACES
from kdtrain.logs.table import Numbers

_OF_STEPS = {
    "total_loss_weighted": "Loss/total",
    "total_loss_raw": "Loss/total_raw",
    "grad_norm_total": "Gradients/norm_total",
    "grad_norm_encoder": "Gradients/norm_encoder",
    "grad_norm_decoder": "Gradients/norm_decoder",
    **{name: f"Hyperparams/{name}" for name in ("learning_rate", "temperature", "alpha")},
    **{
        name: f"Training/{name}"
        for name in (
            "effective_batch_size", "memory_usage_mb", "data_wait", "tokens_per_second", "gpu_memory_mb", "gpu_util",
            "sampling_seconds",
        )
    },
}  # fmt: skip
_OF_METRICS = {
    "train_loss": "Loss/train_mean",
    "val_loss": "Validation/loss",
    "validation_seconds": "Training/validation_seconds",
    "metrics_seconds": "Training/metrics_seconds",
}


class Board:
    """Writes TensorBoard's event files; what they have of later steps than ``step`` is not shown any more.

    Tags are ``Loss/``, ``Loss_Raw/<c>``, ``Loss_Weighted/<c>``, ``Weights/<c>``, ``Gradients/``, ``Hyperparams/``,
    ``Validation/`` and ``Training/``.
    """

    def __init__(self, directory: Path, components: Sequence[str], metrics: Sequence[str], step: int) -> None:
        # A queue of many steps: training does not wait for the thread that writes.
        self._writer = SummaryWriter(directory, purge_step=step + 1, max_queue=1000)
        self._step_tags = dict(_OF_STEPS)
        for name in components:
            self._step_tags |= {
                f"{name}_loss_raw": f"Loss_Raw/{name}",
                f"{name}_loss_weighted": f"Loss_Weighted/{name}",
                f"{name}_weight": f"Weights/{name}",
            }
        self._metrics_tags = _OF_METRICS | {f"val_{name}_loss": f"Validation/{name}_loss" for name in components}
        self._metrics_tags |= {name: f"Validation/{name}" for name in metrics}
        self._gradient_tags = {
            f"{name}_{place}_{kind}": f"Gradients/{name}_{place}_{kind}"
            for name in components
            for place in PLACES
            for kind in ("norm", "share")
        }

    def step(self, row: Numbers) -> None:
        """A row of ``step_metrics.csv``."""
        self._add(row, self._step_tags)

    def metrics(self, row: Numbers) -> None:
        """A row of ``training_metrics.csv``."""
        self._add(row, self._metrics_tags)

    def gradients(self, row: Numbers) -> None:
        """A row of ``component_gradients.csv``."""
        self._add(row, self._gradient_tags)

    def close(self) -> None:
        """Close the files."""
        self._writer.close()

    def _add(self, row: Numbers, tags: Mapping[str, str]) -> None:
        for name, tag in tags.items():
            if (value := row[name]) is not None:
                self._writer.add_scalar(tag, value, int(row["step"] or 0))
