"""The log of a process that writes none."""

from collections.abc import Mapping
from typing import Any

from kdtrain.logs.run_log import RunLog
from kdtrain.records import GradientRecord, StepRecord, ValidationRecord


class SilentLog(RunLog):
    """Takes what the trainer tells, and does nothing with it: of several processes one writes the run directory."""

    def __init__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        """Nothing is open."""

    def step(self, record: StepRecord) -> None:
        """See `RunLog`."""

    def validation(self, record: ValidationRecord) -> None:
        """See `RunLog`."""

    def gradients(self, record: GradientRecord) -> None:
        """See `RunLog`."""

    def epoch(self, epoch: int, step: int, account: str) -> None:
        """See `RunLog`."""

    def sync(self) -> None:
        """See `RunLog`."""

    def say(self, message: str) -> None:
        """See `RunLog`."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """See `RunLog`."""
