"""What a codec adds to the teacher's forward pass, on a T5 of CodeT5-220m's size with random weights."""

import json
import tempfile
import time
from pathlib import Path

import click
import torch
from transformers import T5Config, T5ForConditionalGeneration

from kdstore.codecs import CODECS, Codec, Output, Sample, fit_codec
from kdstore.console import note, print_json
from kdstore.encode.teacher import Teacher

# Salesforce/codet5p-220m's config.json
_CODET5_220M = {
    "vocab_size": 32_100, "d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_decoder_layers": 12,
    "num_heads": 12, "feed_forward_proj": "relu", "decoder_start_token_id": 0,
}  # fmt: skip


@click.command()
@click.option("--rows", default=16, show_default=True, help="Rows of a batch.")
@click.option("--inputs", default=256, show_default=True, help="Input tokens per row.")
@click.option("--labels", default=16, show_default=True, help="Label tokens per row.")
@click.option("--repeats", default=3, show_default=True)
@click.option("--json", "out", type=click.Path(path_type=Path))
def main(rows: int, inputs: int, labels: int, repeats: int, out: Path | None) -> None:
    """Time teacher and codecs one after the other, and print the codecs' share of the teacher's time.

    \b
    Example:
        python tools/bench/encode.py --rows 16 --inputs 256 --labels 16
    """
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(prefix="kdstore-bench-") as directory:
        T5ForConditionalGeneration(T5Config(**_CODET5_220M)).save_pretrained(directory)
        teacher = Teacher(directory, "auto", "fp32", rows)
    generator = torch.Generator().manual_seed(1)
    input_ids = torch.randint(3, teacher.vocab_size, (rows, inputs), generator=generator).tolist()
    label_ids = torch.randint(3, teacher.vocab_size, (rows, labels), generator=generator).tolist()
    teacher_s, output = _timed_teacher(teacher, input_ids, label_ids, repeats)
    note(f"teacher: {teacher_s / rows / labels * 1e3:.1f} ms per label token")
    assert output.hidden_LD is not None
    sample = Sample(hidden_FD=output.hidden_LD.clone(), head=teacher.head)
    records = []
    for name in CODECS.names():
        codec = fit_codec(name, {}, sample)
        seconds = min(_timed_codec(codec, output) for _ in range(repeats))
        records.append(
            {
                "codec": name, "settings": codec.config.model_dump(mode="json"),
                "ms_per_token": round(seconds / rows / labels * 1e3, 3),
                "share_of_teacher": round(seconds / teacher_s, 4),
                "teacher_ms_per_token": round(teacher_s / rows / labels * 1e3, 2),
                "rows": rows, "inputs": inputs, "labels": labels, "threads": torch.get_num_threads(),
                "device": str(teacher.device),
            }
        )  # fmt: skip
    print_json(records)
    if out:
        out.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


def _timed_teacher(
    teacher: Teacher, inputs: list[list[int]], labels: list[list[int]], repeats: int
) -> tuple[float, Output]:
    """Least seconds of a forward pass over the batch, and its output."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        output = teacher.score(teacher.encode(inputs), labels)
        _wait()
        best = min(best, time.perf_counter() - start)
    return best, output


def _timed_codec(codec: Codec, output: Output) -> float:
    start = time.perf_counter()
    for piece in output.split():
        codec.encode(piece)
    _wait()
    return time.perf_counter() - start


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
