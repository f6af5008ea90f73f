"""Write a store's full logits as rows of the predecessor project."""

import base64
import gzip
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, cast

import lz4.frame
import numpy as np
import torch

from kdstore.codecs import Codec, DenseSignal
from kdstore.console import progress
from kdstore.encode.tokenizer import Tokenizer
from kdstore.errors import CapabilityError, MismatchError
from kdstore.importers.predecessor import DTYPES, RAW, RAW_DTYPE, RAW_SHAPE
from kdstore.schema import Arrays
from kdstore.store import atomic
from kdstore.store.reader import Store

_TASK = "java_assertion"
_TEST = "\n@Test"


def export_rows(store: Store, out: Path) -> int:
    """Write every row of a store to ``out``, JSON Lines, gzip where its name ends in ``.gz``; gives their number.

    Logits take the predecessor's first shape with their own shape and number format beside them: 16 bits where the
    store keeps 16 bits, else 32. Ids that the teacher never emits get the least number of that format. The file
    appears when it is complete.

    Raises
    ------
    CapabilityError
        The store keeps no signal, or one that full logits cannot be had from.
    MismatchError
        Its rows belong to another task.
    CorruptStoreError
        What is read is not what was written.
    """
    codec = store.codec()
    if codec is None:
        raise CapabilityError(f"Expected a store with a signal. Got tokens only in {store.root}. Export another one.")
    if store.head.task != _TASK:
        raise MismatchError(
            f"Expected a store of the task {_TASK!r}, whose rows the predecessor knows. Got {store.head.task!r}."
        )
    tokenizer = Tokenizer(store.tokenizer_path).backend
    with atomic.replacing(out) as temporary, progress("exporting", store.rows) as bar, ExitStack() as stack:
        file: BinaryIO = stack.enter_context(temporary.open("wb"))
        if out.name.endswith(".gz"):  # without name and time, so that equal stores give equal files
            file = cast(BinaryIO, stack.enter_context(gzip.GzipFile("", "wb", fileobj=file, mtime=0)))
        for block in store.scan():
            for index in range(block.rows):
                row = block.row(index)
                record = _texts(row, tokenizer) | _logits(codec, row["teacher"])
                file.write(json.dumps(record).encode() + b"\n")
            bar.advance(block.rows)
    return store.rows


def _texts(row: dict[str, Any], tokenizer: Any) -> dict[str, str]:
    """What a row says of its sample.

    A store keeps the prompt as one text. It is cut before the test's annotation; the predecessor and our import join
    the two again.
    """
    prompt = str(tokenizer.decode(row["input_ids"], skip_special_tokens=True))
    at = prompt.rfind(_TEST) if _TEST in prompt else prompt.find("\n")
    texts = {name.removeprefix("text/"): value for name, value in row.items() if name.startswith("text/")}
    return {"id": row["id"], "focal_method": prompt[: max(0, at)], "test_method": prompt[at + 1 :], **texts}


def _logits(codec: Codec[Any], arrays: Arrays) -> dict[str, Any]:
    signal = codec.decode({name: torch.from_numpy(values.copy()) for name, values in arrays.items()}, 1.0)
    if not isinstance(signal, DenseSignal):
        raise CapabilityError(
            f"Expected a signal of full logits, as dense, hidden or lowrank keep it. Got {codec.summary()}. "
            "Build the store with another codec."
        )
    half = all(array.dtype == "float16" for array in codec.arrays()) and codec.name == "dense"
    name = "f16" if half else "f32"
    least = np.finfo(np.dtype(DTYPES[name])).min
    logits_LV = signal.logits_LV.clamp(min=float(least)).numpy().astype(DTYPES[name])
    return {
        RAW_SHAPE: list(logits_LV.shape),
        RAW_DTYPE: name,
        RAW: base64.b64encode(lz4.frame.compress(logits_LV.tobytes())).decode(),
    }
