"""Choose among tried settings."""

from collections.abc import Sequence

from kdstore.errors import CapabilityError, EmptyInputError
from kdstore.fidelity.trial import Trial


def recommend(trials: Sequence[Trial], target_angle: float | None, target_bytes: float | None) -> Trial:
    """The smallest trial within ``target_angle`` degrees, or the truest one within ``target_bytes`` per label token.

    A trial's angle is the largest of those at the measured temperatures, for KL.

    Raises
    ------
    CapabilityError
        None is; the nearest one is named.
    """
    trials = _comparable(trials)
    if target_angle is not None:
        good = [trial for trial in trials if trial.angle() <= target_angle]
        if good:
            return min(good, key=lambda trial: trial.bytes_per_token)
        best = min(trials, key=Trial.angle)
        raise CapabilityError(
            f"Expected a setting within {target_angle:g} degrees. Got {best.angle():.2f} at best, with "
            f"{best.codec.summary()}, {best.bytes_per_token:.1f} bytes per token. Allow more degrees, or use "
            "--codec hidden."
        )
    assert target_bytes is not None
    good = [trial for trial in trials if trial.bytes_per_token <= target_bytes]
    if good:
        return min(good, key=Trial.angle)
    least = min(trials, key=lambda trial: trial.bytes_per_token)
    raise CapabilityError(
        f"Expected a setting of at most {target_bytes:g} bytes per token. Got {least.bytes_per_token:.1f} at least, "
        f"with {least.codec.summary()}. Allow more bytes."
    )


def truest_on_disk(trials: Sequence[Trial], disk_bytes: float, tokens: int) -> Trial:
    """The truest trial whose signal of ``tokens`` label tokens takes at most ``disk_bytes``, shared arrays included.

    Raises
    ------
    CapabilityError
        None does; the smallest one is named.
    """
    trials = _comparable(trials)
    good = [trial for trial in trials if trial.total_bytes(tokens) <= disk_bytes]
    if good:
        return min(good, key=Trial.angle)
    least = min(trials, key=lambda trial: trial.total_bytes(tokens))
    raise CapabilityError(
        f"Expected a setting of at most {disk_bytes / 1e6:,.1f} MB for {tokens:,} label tokens. Got "
        f"{least.total_bytes(tokens) / 1e6:,.1f} MB at least, with {least.codec.summary()}. Allow more, or use fewer "
        "rows: --limit."
    )


def _comparable(trials: Sequence[Trial]) -> list[Trial]:
    """Those that serve the most temperatures: one that serves T = 1 alone is not truer for being tried less."""
    most = max(len(trial.temperatures) for trial in trials)
    if most == 0:
        raise EmptyInputError("Expected label tokens left to measure a target on. Got none. Give more rows.")
    return [trial for trial in trials if len(trial.temperatures) == most]
