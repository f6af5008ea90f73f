"""The libraries that our loader is compared with, each in the fastest of the ways that its documentation shows.

It runs under the Python of the environment that `peers.txt` describes, where the project is not installed.
"""

import json
import os
from collections.abc import Iterable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from _loader_common import KEPT, PER_ROW, WIDTH, Arrays, Batch, Loader, Open, collate, main, pad, samples

_SHARD_ROWS = 1000  # of webdataset and of the streaming datasets
_BUFFER_ROWS = 1000  # of their shuffle buffers
_SHARD_BYTES = 64 << 20  # the size that litdata and mosaicml-streaming recommend


def webdataset() -> Loader:
    """Tar files with a .npy member per field, a shuffle buffer behind them."""
    import webdataset as wds

    fields = (*PER_ROW, "embedding")

    def write(records: Arrays, directory: Path) -> None:
        with wds.ShardWriter(str(directory / "%05d.tar"), maxcount=_SHARD_ROWS, verbose=0) as writer:
            for sample in samples(records):
                members = {f"{name}.npy": sample[name] for name in fields}
                writer.write({"__key__": f"{sample['key']:08d}", **members})

    def row(sample: dict[str, Any]) -> dict[str, Any]:
        return {"key": int(sample["__key__"]), **{name: sample[f"{name}.npy"] for name in fields}}

    def batches(shards: list[str], batch_rows: int, epoch: int) -> Iterator[Batch]:
        dataset = wds.WebDataset(shards, shardshuffle=len(shards), seed=epoch).shuffle(_BUFFER_ROWS)
        return iter(dataset.decode().map(row).batched(batch_rows, collation_fn=collate, partial=True))

    def read(directory: Path, batch_rows: int) -> Open:
        shards = sorted(map(str, directory.glob("*.tar")))
        return Open(partial(batches, shards, batch_rows))

    return Loader(version("webdataset"), write, read, lambda directory, rows: range(0, rows, _SHARD_ROWS))


def datasets(streaming: bool) -> Loader:
    """Arrow files, read as Arrow tables; every row in a random place, or through a shuffle buffer."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    from datasets import Dataset, load_from_disk

    def write(records: Arrays, directory: Path) -> None:
        Dataset(_arrow_table(records)).save_to_disk(directory)

    def read(directory: Path, batch_rows: int) -> Open:
        dataset = load_from_disk(directory)
        if streaming:
            stream = dataset.to_iterable_dataset(num_shards=-(-len(dataset) // _SHARD_ROWS)).with_format("arrow")

        def batches(epoch: int) -> Iterator[Batch]:
            if streaming:
                shuffled = stream.shuffle(seed=epoch, buffer_size=_BUFFER_ROWS)
                return map(_arrow_batch, shuffled.iter(batch_rows))
            order = np.random.default_rng(epoch).permutation(len(dataset))
            rows = dataset.with_format("arrow")
            return (_arrow_batch(rows[order[at : at + batch_rows]]) for at in range(0, len(order), batch_rows))

        return Open(batches)

    together = _SHARD_ROWS if streaming else 1
    return Loader(version("datasets"), write, read, lambda directory, rows: range(0, rows, together))


def _arrow_table(records: Arrays) -> Any:
    import pyarrow as pa

    def lists(name: str, lengths: np.ndarray, width: int = 1) -> Any:
        offsets = np.concatenate([[0], np.cumsum(lengths * width)]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(records[name].ravel()))

    inputs, labels = records["input_ids_lengths"], records["labels_lengths"]
    return pa.table(
        {
            "key": np.arange(len(labels)),
            "input_ids": lists("input_ids", inputs),
            "labels": lists("labels", labels),
            "top_ids": lists("top_ids", labels, KEPT),
            "top_log_probs": lists("top_log_probs", labels, KEPT),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(records["embeddings"].ravel()), WIDTH),
        }
    )


def _arrow_batch(table: Any) -> Batch:
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    flat = {name: np.array(columns[name].flatten()) for name in PER_ROW}
    for name in ("top_ids", "top_log_probs"):
        flat[name] = flat[name].reshape(-1, KEPT)
    lengths = {name: np.diff(columns[name].offsets) for name in ("input_ids", "labels")}
    embeddings_BD = np.array(columns["embedding"].flatten()).reshape(-1, WIDTH)
    return pad(flat, lengths, embeddings_BD, np.array(columns["key"]))


def litdata() -> Loader:
    """Chunks of 64 MB, which hold arrays as they are in memory."""
    import litdata as ld
    from litdata.streaming.cache import Cache

    def write(records: Arrays, directory: Path) -> None:
        cache = Cache(str(directory), chunk_bytes=_SHARD_BYTES)
        for sample in samples(records):
            cache[sample["key"]] = sample
        cache.done()
        cache.merge()

    def read(directory: Path, batch_rows: int) -> Open:
        dataset = ld.StreamingDataset(str(directory), shuffle=True, drop_last=False)
        # Plain iteration, which goes on to the next epoch's order by itself, is as fast as its StreamingDataLoader.
        return Open(lambda epoch: _in_batches(dataset, batch_rows))

    return Loader(version("litdata"), write, read, partial(_starts, "chunks", "chunk_size"))


def mosaicml_streaming() -> Loader:
    """MDS shards with typed columns."""
    from streaming import MDSWriter, StreamingDataset

    columns = {
        "key": "int",
        **dict.fromkeys(("input_ids", "labels", "top_ids"), "ndarray:uint16"),
        "top_log_probs": "ndarray:float16",
        "embedding": f"ndarray:float16:{WIDTH}",
    }

    def write(records: Arrays, directory: Path) -> None:
        with MDSWriter(out=str(directory), columns=columns, size_limit=_SHARD_BYTES) as writer:
            for sample in samples(records):
                writer.write(sample)

    def read(directory: Path, batch_rows: int) -> Open:
        dataset = StreamingDataset(local=str(directory), shuffle=True, batch_size=batch_rows)
        return Open(lambda epoch: _in_batches(dataset, batch_rows))

    return Loader(version("mosaicml-streaming"), write, read, partial(_starts, "shards", "samples"))


def _in_batches(rows: Iterable[dict[str, Any]], batch_rows: int) -> Iterator[Batch]:
    batch = []
    for row in rows:
        batch.append(row)
        if len(batch) == batch_rows:
            yield collate(batch)
            batch = []
    if batch:
        yield collate(batch)


def _starts(files: str, size: str, directory: Path, rows: int) -> list[int]:
    """The first record of each file, by an index that names them all."""
    index = json.loads((directory / "index.json").read_text(encoding="utf-8"))
    return [0, *np.cumsum([file[size] for file in index[files]]).tolist()[:-1]]


if __name__ == "__main__":
    main(
        {
            "webdataset": webdataset,
            "datasets-map": partial(datasets, streaming=False),
            "datasets-streaming": partial(datasets, streaming=True),
            "litdata": litdata,
            "mosaicml-streaming": mosaicml_streaming,
        }
    )
