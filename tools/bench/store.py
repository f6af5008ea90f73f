"""What a store costs at size: memory of a large build, opening of many parts, speed against plain numpy files."""

import json
import multiprocessing
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from kdstore.console import print_json
from kdstore.schema import Block, RaggedText, RaggedTokens, Schema, SignalArray, TeacherSignal

_VOCAB = 8192
_LABELS = 20  # label tokens per row, about
_BLOCK_ROWS = 64
_SIGNALS = ((64, 4096), (16_384, 512))  # bytes per label token, as of lowrank and of dense; and rows of a part
_COMPARED = ("write", "read_part", "read_blocks")
_OPEN = "import sys, time\nstart = time.perf_counter()\nfrom kdstore.store.reader import Store\n" \
        "middle = time.perf_counter()\nstore = Store(sys.argv[1])\nend = time.perf_counter()\n" \
        "print(len(store.manifest.parts), end - middle, end - start)"  # fmt: skip


@click.command()
@click.option("--gigabytes", default=2.0, show_default=True, help="Size of the store that is built.")
@click.option("--parts", default=10_000, show_default=True, help="Parts of the store that is opened.")
@click.option("--repeats", default=3, show_default=True, help="The best of so many times is kept.")
@click.option("--dir", "home", type=click.Path(path_type=Path, file_okay=False), help="Where to work.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write the figures here.")
def main(gigabytes: float, parts: int, repeats: int, home: Path | None, out: Path | None) -> None:
    """Build a large store, open one of many parts, and compare speed with ``np.save`` and ``np.load``.

    Times depend on the machine and on what else runs there; ratios and memory less so.

    \b
    Example:
        python tools/bench/store.py --gigabytes 2 --parts 10000 --json store.json
    """
    with tempfile.TemporaryDirectory(prefix="kdstore-bench-", dir=home) as directory:
        base = Path(directory)
        records = {
            "large_build": large_build(base, gigabytes),
            "many_parts": many_parts(base, parts, repeats),
            "throughput": [throughput(base, width, rows, repeats) for width, rows in _SIGNALS],
            "machine": {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)},
        }
    print_json(records)
    if out:
        out.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


def large_build(base: Path, gigabytes: float) -> dict[str, Any]:
    """Peak memory of a real build of so many bytes, and of a process that only loads its teacher and runs it."""
    _in_a_process(_make_teacher, base)
    per_row = 4 * _VOCAB * _LABELS  # random logits hardly compress
    rows = max(64, int(gigabytes * 1e9 / per_row))
    _write_rows(base / "rows.jsonl", rows)
    teacher = _in_a_process(_run_teacher, base)
    began = time.perf_counter()
    peak = _in_a_process(_build, base)
    seconds = time.perf_counter() - began
    files = [path.stat().st_size for path in (base / "large.kd").rglob("*") if path.is_file()]
    return {
        "rows": rows,
        "bytes": sum(files),
        "parts": len(list((base / "large.kd/parts").glob("[0-9]*"))),
        "largest_part_bytes": max(
            sum(file.stat().st_size for file in part.rglob("*") if file.is_file())
            for part in (base / "large.kd/parts").glob("[0-9]*")
        ),
        "peak_rss_bytes": peak,
        "teacher_peak_rss_bytes": teacher,
        "above_teacher_bytes": peak - teacher,
        "seconds": round(seconds, 1),
    }


def many_parts(base: Path, parts: int, repeats: int) -> dict[str, Any]:
    """Seconds that ``Store(root)`` takes in a fresh process, for a store of so many parts of one row."""
    root = base / "many.kd"
    _write_many(root, parts)
    runs = []
    for _ in range(repeats):
        found = subprocess.run([sys.executable, "-c", _OPEN, str(root)], capture_output=True, text=True, check=True)
        runs.append([float(number) for number in found.stdout.split()])
    assert runs[0][0] == parts
    return {
        "parts": parts,
        "manifest_bytes": (root / "manifest.json").stat().st_size,
        "open_seconds": round(min(run[1] for run in runs), 3),
        "open_seconds_with_imports": round(min(run[2] for run in runs), 3),
    }


def throughput(base: Path, width: int, rows: int, repeats: int) -> dict[str, Any]:
    """Speed of a part with a signal of ``width`` bytes per label token, and as a share of what numpy files reach.

    Numpy writes one file per array, synced like ours, and reads it whole, without checksums; for random blocks it
    maps the files into memory and copies the same rows. All files are in the system's cache.
    """
    from kdstore.store.writer import begin, block_offsets, finalize, prepare, write_part

    block = _random_rows(width, rows)
    head = _head(block.schema, rows, rows, _BLOCK_ROWS)
    offsets = {axis: block_offsets(block, axis, _BLOCK_ROWS) for axis in block.schema.axes()}
    order = list(range(len(offsets["row"]) - 1))
    random.Random(0).shuffle(order)
    plain, times = base / f"plain-{width}", dict[str, float]()
    plain.mkdir()
    for repeat in range(repeats):
        root = base / f"part-{width}-{repeat}.kd"
        begin(root, head)
        prepare(root)
        runs = {
            "write": partial(write_part, root, head, 0, block),
            "numpy_write": partial(_save, plain, block),
            "finish": partial(finalize, root, head),
            "read_part": partial(_read_part, root),
            "numpy_read_part": partial(_load, plain),
            "read_blocks": partial(_read_blocks, root, order),
            "numpy_read_blocks": partial(_read_mapped, plain, block.schema, offsets, order),
        }
        for name, action in runs.items():
            start = time.perf_counter()
            action()
            seconds = time.perf_counter() - start
            times[name] = min(seconds, times.get(name, seconds))
    raw = sum(array.nbytes for array in block.arrays.values())
    return {
        "signal_bytes_per_token": width, "rows": rows, "block_rows": _BLOCK_ROWS, "raw_bytes": raw,
        **{f"{name}_mb_s": round(raw / times[name] / 1e6, 1) for name in times if name != "finish"},
        **{f"{name}_of_numpy": round(times[f"numpy_{name}"] / times[name], 4) for name in _COMPARED},
    }  # fmt: skip


def _make_teacher(base: Path) -> None:
    """A T5 with a wide vocabulary and few weights, whose logits hardly compress."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    from kdtrain.models.tokenizer import train

    tokenizer = train([_row(index)["assertion"] for index in range(200)], vocab_size=400)
    # What a tokenizer does not have is kept as zeros.
    tokenizer.add_tokens([f"<{number}>" for number in range(_VOCAB - len(tokenizer))])
    tokenizer.save_pretrained(base / "teacher")
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=_VOCAB, d_model=64, d_kv=16, d_ff=128, num_layers=1, num_heads=4, decoder_start_token_id=0,
        initializer_factor=3.0,
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(base / "teacher")


def _row(index: int) -> dict[str, Any]:
    noise = random.Random(index).randbytes(48).hex()
    return {
        "focal_method": f"public int get{noise[:24]}() {{ return {noise[24:48]}; }}",
        "test_method": f"@Test void test{noise[48:72]}() {{",
        "assertion": f"{noise[72:]}({index});",
        "repo": "acme/box",
        "path": f"src/test/java/Box{index % 500}Test.java",
        "line": index,
    }


def _write_rows(path: Path, count: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(_row(index)) + "\n" for index in range(count))


def _run_teacher(base: Path) -> None:
    """What any build needs for its teacher: the libraries, the weights, and the output of one batch."""
    from kdstore.encode.build import BuildOptions, from_teacher

    origin = from_teacher(BuildOptions((base / "rows.jsonl",), base / "large.kd", teacher=str(base / "teacher")))
    model, tokenizer = origin.pipeline.teacher, origin.pipeline.tokenizer
    assert model is not None
    ids = tokenizer.ids([str(_row(index)["assertion"]) for index in range(model.batch_size)])
    encoded = model.encode(ids)
    for rows in model.slices(ids):
        model.score(encoded.rows(rows.start, rows.stop), ids[rows])


def _build(base: Path) -> None:
    from kdstore.encode.build import BuildOptions, build
    from kdstore.encode.fit import SignalOptions

    signal = SignalOptions(codec="dense", settings={"dtype": "f32"})
    build(
        BuildOptions(
            (base / "rows.jsonl",), base / "large.kd", teacher=str(base / "teacher"), signal=signal, predict=False
        )
    )


def _in_a_process(work: Callable[[Path], None], base: Path) -> int:
    """Peak bytes in memory of a fresh process that does the work."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(work, base, send))
    process.start()
    send.close()
    try:
        return int(receive.recv())
    finally:
        process.join()


def _measured(work: Callable[[Path], None], base: Path, send: Any) -> None:
    work(base)
    send.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def _head(schema: Schema, rows: int, part_rows: int, block_rows: int) -> Any:
    from kdstore.store.manifest import Head, Limits, Segment, TokenizerRecord

    return Head(
        task="java_assertion", template="{x}", schema=schema, vocab_size=_VOCAB, codec=None, teacher=None,
        tokenizer=TokenizerRecord(sha256="0" * 64, vocab_size=_VOCAB, pad_id=0, eos_id=1, decoder_start_id=0),
        encoders={}, limits=Limits(max_input_tokens=512, max_output_tokens=128, overlong="truncate"), split="all",
        seed=0, part_rows=part_rows, block_rows=block_rows,
        segments=(Segment(source_sha256="0" * 64, rows=rows, scan={"read": rows}, versions={}),),
    )  # fmt: skip


def _write_many(root: Path, parts: int) -> None:
    """One real part of one row, and the manifest of a store that has it so many times: opening reads no part."""
    from kdstore.store.manifest import make_manifest, write_manifest
    from kdstore.store.writer import begin, finalize, prepare, write_part

    schema = Schema(fields=(RaggedText(name="id"), RaggedTokens(name="labels", dtype="uint16")))
    head = _head(schema, 1, 1, 1)
    begin(root, head)
    prepare(root)
    write_part(root, head, 0, schema.pack([{"id": "0", "labels": [1, 2]}]))
    one = finalize(root, head)
    refs = [one.parts[0].model_copy(update={"index": index}) for index in range(parts)]
    write_manifest(root, make_manifest(_head(schema, parts, 1, 1), refs, one.shared_files))


def _random_rows(width: int, rows: int) -> Block:
    """Rows with ids, tokens, and a signal that does not compress."""
    rng = np.random.default_rng(0)
    schema = Schema(
        fields=(
            RaggedText(name="id"),
            RaggedTokens(name="input_ids", dtype="uint16"),
            RaggedTokens(name="labels", dtype="uint16"),
            TeacherSignal(name="teacher", arrays=(SignalArray(name="levels", dtype="uint8", shape=(width,)),)),
        )
    )
    return schema.pack(
        [
            {
                "id": f"row-{index}",
                "input_ids": rng.integers(0, _VOCAB, 128),
                "labels": rng.integers(0, _VOCAB, _LABELS),
                "teacher": {"levels": rng.integers(0, 256, (_LABELS, width), np.uint8)},
            }
            for index in range(rows)
        ]
    )


def _read_mapped(directory: Path, schema: Schema, offsets: dict[str, list[int]], order: list[int]) -> None:
    maps = {path: np.load(directory / _name(path), mmap_mode="r") for path in schema.specs()}
    for number in order:
        for path, spec in schema.specs().items():
            np.array(maps[path][offsets[spec.axis][number] : offsets[spec.axis][number + 1]])


def _load(directory: Path) -> None:
    for path in sorted(directory.glob("*.npy")):
        np.load(path)


def _read_part(root: Path) -> None:
    from kdstore.store.reader import Store

    part = Store(root).part(0)
    part.read(0, part.blocks)


def _read_blocks(root: Path, order: list[int]) -> None:
    from kdstore.store.reader import Store

    part = Store(root).part(0)
    for number in order:
        part.read(number, number + 1)


def _name(path: str) -> str:
    return f"{path.replace('/', '-')}.npy"


def _save(directory: Path, block: Block) -> None:
    for path, array in block.arrays.items():
        with (directory / _name(path)).open("wb") as file:
            np.save(file, array)
            file.flush()
            os.fsync(file.fileno())


if __name__ == "__main__":
    main()
