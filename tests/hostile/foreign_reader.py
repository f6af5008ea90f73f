"""Read Zarr arrays as others do: a process of its own, since some readers end it; imports nothing of ours.

Reads lines of JSON, each a directory, ranges, and a pipeline; writes for each the SHA-256 of every range, or null
where the reader noticed something.
"""

import hashlib
import json
import sys
import warnings

import numpy as np
import zarr

PIPELINES = {"zarr-python": "zarr.core.codec_pipeline.BatchedCodecPipeline", "zarrs": "zarrs.ZarrsCodecPipeline"}


def digest(directory: str, start: int, stop: int) -> str | None:
    try:
        values = np.asarray(zarr.open_array(directory, mode="r", zarr_format=3)[start:stop])
    except Exception:
        return None
    return hashlib.sha256(f"{values.dtype} {values.shape}".encode() + values.tobytes()).hexdigest()


def main() -> None:
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        case = json.loads(line)
        with zarr.config.set({"codec_pipeline.path": PIPELINES[case["pipeline"]]}):
            answer = [digest(case["directory"], *bounds) for bounds in case["ranges"]]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
