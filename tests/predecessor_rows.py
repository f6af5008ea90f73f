"""Write rows of the predecessor project as its documents describe them, independent of the importer."""

import base64
import json
from pathlib import Path
from typing import Any

import lz4.frame
import numpy as np


def raw(logits: np.ndarray, dtype: str = "<f4") -> dict[str, Any]:
    """First shape: base64 of LZ4 of the numbers."""
    return {
        "teacher_logits_compressed": base64.b64encode(lz4.frame.compress(logits.astype(dtype).tobytes())).decode()
    }


def quantised(logits: np.ndarray, bits: int, packed: bool = True) -> dict[str, Any]:
    """Second shape: one scale and zero point per sample for 4 and 8 bits."""
    scale, zero = None, None
    if bits in (16, 32):
        payload = logits.astype({16: "<f2", 32: "<f4"}[bits]).tobytes()
    else:
        low, high = float(logits.min()), float(logits.max())
        scale = (high - low) / (2**bits - 1) or 1.0
        zero = -low / scale
        q = np.clip(np.round(logits / scale + zero), 0, 2**bits - 1).astype(int).ravel().tolist()
        if bits == 4 and packed:
            q += [0] * (len(q) % 2)
            q = [low_half | high_half << 4 for low_half, high_half in zip(q[::2], q[1::2], strict=True)]
        payload = bytes(q)
    return {
        "compressed_logits": {
            "format": "lz4", "bits": bits, "shape": list(logits.shape), "scale": scale, "zero_point": zero,
            "packed": packed and bits == 4,
            "data_encoded": {
                "encoding": "hex", "data": lz4.frame.compress(payload).hex(), "original_size": len(payload),
            },
        }
    }  # fmt: skip


def texts(index: int, second_shape: bool = False) -> dict[str, Any]:
    """What a row says of its sample, in the keys of either shape."""
    focal, test = f"public int get{index}() {{ return values[{index}]; }}", f"@Test void test{index}() {{ Box b; "
    if second_shape:
        return {"focal_file": focal, "test_method_masked": test, "assertions": [f"assertEquals({index}, b.get());"]}
    return {"focal_method": focal, "test_method": test, "assertion": f"assertEquals({index}, b.get());"}


def write(path: Path, rows: list[dict[str, Any]], header: dict[str, Any] | None = None) -> Path:
    lines = ([{"header": header}] if header else []) + rows
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path
