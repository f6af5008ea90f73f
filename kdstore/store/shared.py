"""Arrays that all parts of a store have in common: a codec's basis, a teacher's head, the mask of ids.

They lie under ``shared/`` as Zarr arrays. The head of the manifest pins dtype, shape and the SHA-256 of the values,
so that every part was encoded with, and every reader decodes with, the same numbers.
"""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
import zarr

from kdstore.errors import CorruptStoreError
from kdstore.schema import Array, Arrays, ArraySpec, Dtype
from kdstore.store import atomic, layout
from kdstore.store.manifest import SharedArray
from kdstore.store.zarr_arrays import open_array, write_array, writing

_CHUNK_BYTES = 1 << 20


def shared_records(arrays: Mapping[str, Array]) -> dict[str, SharedArray]:
    """What the head of a manifest says of the shared arrays."""
    return {
        name: SharedArray(dtype=cast(Dtype, str(values.dtype)), shape=values.shape, sha256=_sha256(values))
        for name, values in sorted(arrays.items())
    }


def stage_shared(root: Path, arrays: Mapping[str, Array]) -> None:
    """Write shared arrays whole to where they wait for `publish_shared`; no arrays, no directory."""
    target = layout.pending_shared_path(root)
    atomic.remove(target)
    if not arrays:
        return
    with atomic.staging(layout.staging_path(root), layout.SHARED) as staged:
        with writing():
            group = zarr.create_group(staged, zarr_format=3)
            for name, values in sorted(arrays.items()):
                row_bytes = values.dtype.itemsize * math.prod(values.shape[1:])
                write_array(group, name, values, min(len(values), max(1, _CHUNK_BYTES // row_bytes)))
        atomic.sync_tree(staged)
        atomic.commit_directory(staged, target)


def publish_shared(root: Path) -> None:
    """Move staged arrays to ``shared/``; only after `begin`, which makes sure that nothing of others lies there."""
    pending = layout.pending_shared_path(root)
    if pending.is_dir() and not atomic.commit_directory(pending, root / layout.SHARED):
        atomic.remove(pending)


def read_shared(root: Path, records: Mapping[str, SharedArray]) -> Arrays:
    """The shared arrays, published or still waiting, checked against their records before and after they are read.

    Raises
    ------
    CorruptStoreError
        An array is missing, or is not the recorded one.
    """
    arrays: Arrays = {}
    published = root / layout.SHARED
    home = published if published.is_dir() else layout.pending_shared_path(root)
    for name, record in records.items():
        path = home / name
        if not (path / "zarr.json").is_file():
            raise CorruptStoreError(f"Expected the shared array {path}. Got nothing there. Build the store again.")
        spec = ArraySpec(name, record.dtype, layout.SHARED, record.shape[1:])
        values = open_array(path.parent, spec, record.shape[0]).read(0, record.shape[0])
        if _sha256(values) != record.sha256:
            raise CorruptStoreError(
                f"Expected {path} to match the checksum {record.sha256[:12]} in the manifest. Got other values. "
                "Build the store again."
            )
        arrays[name] = values
    return arrays


def _sha256(values: Array) -> str:
    digest = hashlib.sha256(f"{values.dtype} {values.shape}".encode())
    digest.update(np.ascontiguousarray(values).view(np.uint8).data)
    return digest.hexdigest()
