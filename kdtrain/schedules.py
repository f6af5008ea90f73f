"""The course of the learning rate, as pure functions of the step."""

AUTOMATIC_WARMUP = 0.15


def warmup_length(warmup_steps: int, total_steps: int) -> int:
    """Steps of warm-up: as asked, or 15 % of all steps when 0 are asked for."""
    return warmup_steps or round(AUTOMATIC_WARMUP * total_steps)


def linear(step: int, warmup: int, total: int) -> float:
    """Fraction of the highest learning rate at ``step``, counted from 0.

    Rises by 1/warmup per step to 1 at the last step of warm-up, then falls to 1/(total - warmup) at the last step,
    so that no step is without effect.
    """
    if step < warmup:
        return (step + 1) / warmup
    return (total - step) / max(1, total - warmup)
