"""A DeepSpeed configuration that trains as a configuration of ours does."""

from typing import Any

from kdstore.errors import UsageError
from kdtrain.config import Config
from kdtrain.schedules import warmup_length


def zero2(config: Config, processes: int, steps: int) -> tuple[dict[str, Any], list[str]]:
    """ZeRO stage 2 with the same batches, optimizer and number format; and what it cannot say, one line each.

    Parameters
    ----------
    config
        The configuration.
    processes
        How many there will be.
    steps
        Optimizer steps of the whole training.

    Raises
    ------
    UsageError
        The batch cannot be divided by the processes.
    """
    rows, accumulation = config.data.batch_size, config.schedule.gradient_accumulation_steps
    if rows % processes:
        raise UsageError(
            f"Expected a batch that {processes} processes divide evenly. Got --batch-size {rows}. Change either."
        )
    optimizer = config.optimizer
    found: dict[str, Any] = {
        "train_batch_size": rows * accumulation,
        "train_micro_batch_size_per_gpu": rows // processes,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": optimizer.clip_norm,
        "zero_optimization": {"stage": 2, "overlap_comm": True, "contiguous_gradients": True},
        "optimizer": {
            "type": "AdamW",
            "params": {
                "lr": optimizer.lr,
                "betas": [optimizer.adam_beta1, optimizer.adam_beta2],
                "eps": optimizer.adam_epsilon,
                "weight_decay": optimizer.weight_decay,
            },
        },
    }
    if config.run.dtype != "fp32":
        found[config.run.dtype] = {"enabled": True}
    scheduler, notes = _scheduler(config, steps)
    if scheduler:
        found["scheduler"] = scheduler
    if optimizer.weight_decay:
        notes.append(
            "norms and biases decay too, unless your loop hands DeepSpeed parameter groups that say otherwise"
        )
    return found, notes


def _scheduler(config: Config, steps: int) -> tuple[dict[str, Any] | None, list[str]]:
    """The course of the learning rate, where DeepSpeed has it."""
    schedule = config.schedule
    warmup = warmup_length(schedule.warmup_steps, schedule.warmup_ratio, steps)
    course = {"warmup_num_steps": warmup, "warmup_type": "linear", "total_num_steps": steps}
    if schedule.lr_decay == "cosine":
        ratios = {"warmup_min_ratio": 0.0, "cos_min_ratio": schedule.final_lr_factor}
        return {"type": "WarmupCosineLR", "params": {**course, **ratios}}, []
    if schedule.final_lr_factor:
        return None, [
            "no scheduler: DeepSpeed's linear decay ends at 0, and final_lr_factor is "
            f"{schedule.final_lr_factor}; step one of your own, or use lr_decay cosine"
        ]
    rates = {"warmup_min_lr": 0.0, "warmup_max_lr": config.optimizer.lr}
    return {"type": "WarmupDecayLR", "params": {**course, **rates}}, []
