"""What a run takes of its machine."""

import torch

from kdtrain.stream.memory import rss_bytes

_MIB = 2**20


class Machine:
    """Reads memory of the process and, where it computes on a GPU, the GPU's memory and load."""

    def __init__(self) -> None:
        self._has_load = True

    def reading(self) -> dict[str, float | None]:
        """The columns ``memory_usage_mb``, ``gpu_memory_mb`` and ``gpu_util``."""
        memory: dict[str, float | None] = {"memory_usage_mb": memory_mb()}
        if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            return memory
        held = [torch.cuda.memory_reserved(device) for device in range(torch.cuda.device_count())]
        return memory | {"gpu_memory_mb": max(held) / _MIB, "gpu_util": self._load(held.index(max(held)))}

    def _load(self, device: int) -> float | None:
        if self._has_load:
            try:
                return float(torch.cuda.utilization(device))
            except Exception:  # no pynvml, or a driver that does not tell: whatever it raises, training goes on
                self._has_load = False
        return None


def memory_mb() -> float:
    """Resident memory of this process, MiB."""
    return rss_bytes() / _MIB
