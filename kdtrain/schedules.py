"""The course of what changes over training, as pure functions of the step: learning rate, temperature, weights."""

import math
from typing import Literal

Shape = Literal["linear", "cosine", "exponential"]


def warmup_length(warmup_steps: int, warmup_ratio: float, total_steps: int) -> int:
    """Optimizer steps of warm-up: as asked, or when 0 are asked for, a share of all steps."""
    return warmup_steps or round(warmup_ratio * total_steps)


def rate(step: int, warmup: int, total: int, shape: Shape = "linear", end: float = 0.0) -> float:
    r"""Fraction of the highest learning rate at ``step``, counted from 0.

    Rises by 1/warmup per step to 1 at the last step of warm-up. Then, with s the share of the remaining steps that is
    done, it falls to ``end``: :math:`e + (1 - e) d(s)`, where d is :math:`1 - s`, or for a cosine
    :math:`(1 + \cos \pi s) / 2`. It would be there a step after the last one, so that no step is without effect.
    """
    if step < warmup:
        return (step + 1) / warmup
    return interpolate(1.0, end, (step - warmup) / max(1, total - warmup), shape)


def share_done(step: int, total: int) -> float:
    """How much of training lies behind ``step``, counted from 0: 0 at the first, 1 at the last."""
    return min(1.0, step / max(1, total - 1))


def interpolate(start: float, end: float, share: float, shape: Shape) -> float:
    r"""From ``start`` at a share of 0 to ``end`` at 1.

    With s the share: linear :math:`a + (b - a) s`; cosine :math:`a + (b - a) (1 - \cos \pi s) / 2`; exponential
    :math:`a (b / a)^s`, for which both ends must be above 0.
    """
    if shape == "exponential":
        return float(start * (end / start) ** share)
    if shape == "cosine":
        share = (1 - math.cos(math.pi * share)) / 2
    return start + (end - start) * share
