"""AdamW and its learning rate."""

import torch

from kdtrain.config import Config
from kdtrain.schedules import rate, warmup_length


def adamw(module: torch.nn.Module, config: Config) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101); vectors (norms, biases) do not decay."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.optimizer.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    betas = (config.optimizer.adam_beta1, config.optimizer.adam_beta2)
    return torch.optim.AdamW(groups, lr=config.optimizer.lr, betas=betas, eps=config.optimizer.adam_epsilon)


def learning_rate(config: Config, step: int, total_steps: int) -> float:
    """The learning rate of an optimizer step, counted from 0."""
    schedule = config.schedule
    warmup = warmup_length(schedule.warmup_steps, schedule.warmup_ratio, total_steps)
    return config.optimizer.lr * rate(step, warmup, total_steps, schedule.lr_decay, schedule.final_lr_factor)
