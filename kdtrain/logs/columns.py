"""The columns of a run's three tables, in order. ``<c>`` stands for each loss component of the run.

Numbers have eight significant digits. A cell is empty where there is nothing to tell: no GPU, a component without
weight. Memory is in MiB, time in seconds. Norms are Euclidean.

``step_metrics.csv``, one row per optimizer step:

==========================  =================================================================================
timestamp                   when the row was written, ISO 8601 with the offset from UTC
epoch, step                 pass over the data and optimizer step, both from 1
mini_batch_idx              the step's last batch in its epoch, from 0
<c>_loss_raw                mean of the component per label token or row, before weight and beta
<c>_loss_weighted           its part of the loss: raw x <c>_weight x beta (beta: semantic alone, else 1)
total_loss_raw              sum of <c>_loss_raw
total_loss_weighted         sum of <c>_loss_weighted: what was minimised
grad_norm_total             norm of the whole gradient, before clipping
grad_norm_encoder           the same of the weights that only the encoder has
grad_norm_decoder           the same of the weights that only the decoder has
learning_rate               of the step
temperature                 at which teacher and student were compared
alpha                       share of the labels beside the teacher
effective_batch_size        rows of the step, over all batches and processes
memory_usage_mb             resident memory of the process
elapsed_time_seconds        training time so far, over all starts of the run
<c>_weight                  weight of the component, after normalisation, without beta
data_wait                   seconds of the step spent waiting for rows
tokens_per_second           label tokens of the step by its seconds
gpu_memory_mb               GPU memory that the process holds, with what is free for its next step
gpu_util                    share of the last moments in which the GPU was busy, in percent; needs nvidia-ml-py
sampling_seconds            seconds of the step in which the student wrote texts (ast)
label_tokens                label tokens of the step
==========================  =================================================================================

``training_metrics.csv``, one row per validation, and per end of an epoch without one:

==========================  =================================================================================
timestamp                   as above
step, epoch                 optimizer steps done, and the pass that they ended in; 0 before the first step
train_loss                  mean of total_loss_weighted over the steps since the row before
train_<c>_loss              mean of <c>_loss_raw over these steps
val_loss                    loss on the validation rows, with the same weights at every validation
val_<c>_loss                mean of the component on the validation rows, before weights
<metric>                    each score of the validator, by its name
learning_rate, temperature  of the last step
label_tokens                label tokens trained on since the row before
tokens_per_second           label_tokens by the seconds of these steps
val_label_tokens            label tokens of the validation rows
validation_seconds          time of the validation
metrics_seconds             of these, time for the student's texts and their scores
elapsed_time_seconds        training time so far, over all starts, without validations
best                        1 where no validation before had a lower loss, else 0
==========================  =================================================================================

``component_gradients.csv``, one row per measurement (``--gradient-steps``), on one batch:

==========================  =================================================================================
timestamp, epoch, step      as in the first table
<c>_decoder_norm            norm of the gradient of the component's part of the loss by the decoder's output
<c>_encoder_norm            the same by the encoder's output; empty where the component does not look there
<c>_decoder_share           its norm by the sum of all components' norms there
<c>_encoder_share           the same at the encoder
==========================  =================================================================================
"""

from collections.abc import Sequence
from typing import Final

from kdstore.errors import UsageError

STEP_FILE: Final = "step_metrics.csv"
METRICS_FILE: Final = "training_metrics.csv"
GRADIENTS_FILE: Final = "component_gradients.csv"
PLACES: Final = ("decoder", "encoder")
_TOTAL = "total"


def step_columns(components: Sequence[str]) -> list[str]:
    """Columns of ``step_metrics.csv``."""
    return [
        "timestamp", "epoch", "step", "mini_batch_idx",
        *(f"{name}_loss_{kind}" for name in (*components, _TOTAL) for kind in ("raw", "weighted")),
        "grad_norm_total", "grad_norm_encoder", "grad_norm_decoder", "learning_rate", "temperature", "alpha",
        "effective_batch_size", "memory_usage_mb", "elapsed_time_seconds",
        *(f"{name}_weight" for name in components),
        "data_wait", "tokens_per_second", "gpu_memory_mb", "gpu_util", "sampling_seconds", "label_tokens",
    ]  # fmt: skip


def metrics_columns(components: Sequence[str], metrics: Sequence[str]) -> list[str]:
    """Columns of ``training_metrics.csv``; ``metrics`` are the validator's scores.

    Raises
    ------
    UsageError
        A score has the name of another column.
    """
    columns = [
        "timestamp", "step", "epoch",
        "train_loss", *(f"train_{name}_loss" for name in components),
        "val_loss", *(f"val_{name}_loss" for name in components),
        *metrics,
        "learning_rate", "temperature", "label_tokens", "tokens_per_second", "val_label_tokens",
        "validation_seconds", "metrics_seconds", "elapsed_time_seconds", "best",
    ]  # fmt: skip
    for name in metrics:
        if columns.count(name) > 1:
            raise UsageError(f"Expected a validator's scores to have names of their own. Got {name!r}. Rename it.")
    return columns


def gradient_columns(components: Sequence[str]) -> list[str]:
    """Columns of ``component_gradients.csv``."""
    kinds = [f"{place}_{kind}" for kind in ("norm", "share") for place in PLACES]
    return ["timestamp", "epoch", "step", *(f"{name}_{kind}" for kind in kinds for name in components)]


def components_of(columns: Sequence[str]) -> tuple[str, ...]:
    """The components that a table with these columns tells of; none where it is no table of a run."""
    for prefix, suffix in (("", "_loss_raw"), ("train_", "_loss"), ("", "_decoder_norm")):
        found = [
            name.removeprefix(prefix).removesuffix(suffix)
            for name in columns
            if name.startswith(prefix) and name.endswith(suffix) and len(name) > len(prefix + suffix)
        ]
        if found:
            return tuple(name for name in found if name != _TOTAL)
    return ()
