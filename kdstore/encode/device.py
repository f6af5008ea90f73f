"""Where a model runs and in which number format."""

import torch

from kdstore.errors import CapabilityError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(name: str) -> torch.device:
    """The device called ``name``; ``auto`` takes cuda, then mps, then cpu.

    Raises
    ------
    CapabilityError
        The device is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, index = name.partition(":")
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}.get(kind, 0)
    if count == 0 or (index and (not index.isdigit() or int(index) >= count)):
        raise CapabilityError(
            f"Expected a device of this machine (auto, cpu, cuda, cuda:N, mps). Got {name!r}, which is not here. "
            "Use --device auto."
        )
    return torch.device(name)


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """The number format called ``name``: fp32, bf16 or fp16.

    Raises
    ------
    CapabilityError
        fp16 on a CPU, where sums overflow and most kernels are missing.
    """
    if name == "fp16" and device.type == "cpu":
        raise CapabilityError("Expected fp32 or bf16 on a CPU. Got fp16. Use --dtype bf16.")
    return DTYPES[name]
