"""Compare ways to keep a teacher's signal: bytes, gradient angle, divergence, speed; on the same positions."""

import json
import time
from collections.abc import Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import click
import torch
from foreign import Packed4Bit, TopKLeftover, row_json_bytes
from rich.table import Table
from torch import Tensor

from kdstore.codecs import CODECS, Codec, Output, Sample, fit_codec
from kdstore.console import note, progress, stdout
from kdstore.encode.capture import capture
from kdstore.encode.teacher import Teacher, weights_sha256
from kdstore.encode.tokenizer import Tokenizer, truncate_prompt, truncate_target
from kdstore.errors import EmptyInputError, RowError
from kdstore.fidelity.measure import POSITIONS, Subject, measure
from kdstore.fidelity.probe import Probe
from kdstore.fidelity.reference import LabelFrequencies, Reference, TrainedStudent
from kdstore.fidelity.size import signal_bytes_per_token
from kdstore.sources import Rejected, open_source
from kdstore.store.manifest import Fidelity, Limits
from kdstore.tasks import TASKS

_LAYOUT = {"block_rows": 128, "part_rows": 1024}
_LABEL_LOGPROB_BYTES = 4
_AMORTISED = 1_000_000  # label tokens over which shared arrays are spread
_ROW_CODECS = (Packed4Bit.name, "lowrank-from-predecessor")


@click.command()
@click.option("--teacher", required=True, help="Directory of a seq2seq model.")
@click.option("--rows", required=True, type=click.Path(path_type=Path), help="Rows that the student has not seen.")
@click.option("--student", help="Directory of a trained student; by default one that knows label frequencies.")
@click.option("--codecs", help="Names, separated by commas; by default all.")
@click.option("--limit", type=click.IntRange(50), help="Use only so many rows.")
@click.option("--fit-positions", default=16_384, show_default=True, type=click.IntRange(1))
@click.option("--positions", default=11 * POSITIONS, show_default=True, type=click.IntRange(1), help="To measure on.")
@click.option("--scale", default=1.0, show_default=True, help="Multiply the teacher's logits: a sharper teacher.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write the records here.")
def main(teacher: str, rows: Path, student: str | None, codecs: str | None, limit: int | None, fit_positions: int,
         positions: int, scale: float, out: Path | None) -> None:  # fmt: skip
    """Measure codecs on ROWS: the first label tokens fit, the next ones measure.

    \b
    Example:
        python tools/bench/fidelity.py --teacher teacher/final_model --rows rows.jsonl --student run/final_model
        python tools/bench/fidelity.py --teacher T --rows R --limit 400 --codecs lowrank,topk --json out.json
    """
    model = Teacher(teacher, "auto", "fp32", 32)
    fit, probe = _sample(model, Tokenizer(teacher), rows, limit, fit_positions, positions, scale)
    reference = _reference(student, model, fit, probe)
    wanted = codecs.split(",") if codecs else [*CODECS.names(), TopKLeftover.name, *_ROW_CODECS]
    note(f"fitted on {fit.positions:,} positions, measured on {probe.positions:,}, at {reference.name}")
    tried = [item for name in wanted for item in _subjects(name, fit.sample, probe)]
    subjects = [subject for _, subject, _ in tried]
    # All at once: they share the student's passes and the full teacher's gradients.
    with progress("measuring", probe.positions) as bar:
        found = measure(subjects, probe, reference, divergences=["kl"], advance=bar.advance)
    records = [
        _record(label, item, speeds) for (label, _, speeds), items in zip(tried, found, strict=True) for item in items
    ]
    _print(records)
    if out:
        out.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


def _sample(
    model: Teacher,
    tokenizer: Tokenizer,
    rows: Path,
    limit: int | None,
    fit_positions: int,
    positions: int,
    scale: float,
) -> tuple[Probe, Probe]:
    limits = Limits(max_input_tokens=256, max_output_tokens=64, overlong="truncate")
    inputs: list[list[int]] = []
    labels: list[list[int]] = []
    total = 0
    for example in islice(_examples(rows), limit):
        prompt, target = (ids[0] for ids in tokenizer.encode([example]))
        inputs.append(truncate_prompt(prompt, limits))
        labels.append(truncate_target(target, limits))
        total += len(labels[-1])
        if total >= fit_positions + positions:
            break
    with progress("running the teacher", len(labels)) as bar:
        captured = capture(model, inputs, labels, None, bar.advance)
    if scale != 1:
        assert captured.sample.hidden_FD is not None
        sample = Sample(hidden_FD=captured.sample.hidden_FD * scale, head=captured.sample.head)
        captured = Probe(inputs, labels, sample)
    # Measuring comes first: a few rows still give a whole batch.
    return captured.head(min(fit_positions, max(1, total - max(POSITIONS + 200, total - fit_positions))))


def _examples(rows: Path) -> Any:
    task, found = TASKS.get("java_assertion"), False
    for item in open_source(rows):
        if not isinstance(item, Rejected):
            try:
                yield task.example(item.record)
                found = True
            except RowError:
                continue
    if not found:
        raise EmptyInputError(f"Expected usable rows in {rows}. Got none.")


def _reference(student: str | None, teacher: Teacher, fit: Probe, probe: Probe) -> Reference:
    if student is None:
        ids = torch.tensor([token for row in chain(fit.labels, probe.labels) for token in row])
        return LabelFrequencies(torch.bincount(ids, minlength=teacher.vocab_size))
    model = Teacher(student, str(teacher.device), "fp32", 8)
    return TrainedStudent(model, weights_sha256(model.model), rows=32)


def _subjects(name: str, fit: Sample, probe: Probe) -> list[tuple[str, Subject, dict[str, float]]]:
    """Label, subject and speeds of every setting of a codec, or of what is measured for comparison."""
    if name in _ROW_CODECS:
        return [_by_rows(name, fit, probe)]
    if name == TopKLeftover.name:
        codecs = [TopKLeftover(TopKLeftover.Config(), fit.vocab_size, {})]
    else:
        codecs = [fit_codec(name, settings, fit) for settings in CODECS.get(name).ladder]
    return [(codec.name, *_prepare(codec, probe)) for codec in codecs]


def _prepare(codec: Codec[Any], probe: Probe) -> tuple[Subject, dict[str, float]]:
    temperature = codec.temperatures[0] if codec.temperatures else 1.0
    codec.decode(codec.encode(next(probe.sample.chunks())), temperature)  # warms up
    # As many positions as a few parts hold: a full logits row is too large to keep more.
    some, _ = probe.head(POSITIONS if sum(array.bytes for array in codec.arrays()) > 1 << 13 else probe.positions)
    encode_s = decode_s = 0.0
    encoded = []
    for output in some.sample.chunks():
        start = time.perf_counter()
        encoded.append(codec.encode(output))
        middle = time.perf_counter()
        codec.decode(encoded[-1], temperature)
        encode_s, decode_s = encode_s + middle - start, decode_s + time.perf_counter() - middle
    arrays = {key: torch.cat([piece[key] for piece in encoded]) for key in encoded[0]}
    size = signal_bytes_per_token(codec, arrays, [len(row) for row in some.labels], **_LAYOUT)
    return Subject(codec, size), {"encode": some.positions / encode_s, "decode": some.positions / decode_s}


def _by_rows(name: str, fit: Sample, probe: Probe) -> tuple[str, Subject, dict[str, float]]:
    """The predecessor's 4 bits, or what they become when they are converted: every row has a scale of its own."""
    packer = Packed4Bit(Packed4Bit.Config(), probe.sample.vocab_size, {})
    start = time.perf_counter()
    single = (probe.rows(index, index + 1) for index in range(len(probe.labels)))
    rows = [packer.encode(next(row.sample.chunks(1 << 16))) for row in single]
    speeds = {"encode": probe.positions / (time.perf_counter() - start), "decode": float("nan")}
    size = sum(row_json_bytes(row, packer.vocab_size) for row in rows) / probe.positions
    arrays = {key: torch.cat([row[key] for row in rows]) for key in rows[0]}
    packed = Subject(packer, size, lambda piece: {key: values[piece] for key, values in arrays.items()})
    if name == packer.name:
        return name, packed, speeds
    # What the import does: fit on decoded 4-bit rows, encode decoded 4-bit rows.
    noisy = [packer.decode(packer.encode(output), 1.0).logits_LV for output in fit.slice(0, 4096).chunks(16)]
    codec = fit_codec("lowrank", {}, Sample(logits_FV=torch.cat(noisy)))

    def convert(piece: slice) -> Mapping[str, Tensor]:
        assert packed.stored
        return codec.encode(Output(packer.decode(packed.stored(piece), 1.0).logits_LV))

    pieces = [convert(slice(s, min(s + 256, POSITIONS))) for s in range(0, POSITIONS, 256)]
    joined = {key: torch.cat([piece[key] for piece in pieces]) for key in pieces[0]}
    size = signal_bytes_per_token(codec, joined, [16] * (POSITIONS // 16), **_LAYOUT)
    return name, Subject(codec, size, convert), speeds


def _record(label: str, item: Fidelity, speeds: Mapping[str, float]) -> dict[str, Any]:
    return {
        "codec": label, "settings": item.settings, "temperature": item.temperature,
        "bytes_per_token": round(item.bytes_per_token, 2),
        "label_logprob_bytes_per_token": _LABEL_LOGPROB_BYTES,
        "shared_bytes_per_token": round(item.shared_bytes / _AMORTISED, 2),
        "angle_deg": round(item.angle_deg, 3), "angle_worst_deg": round(item.angle_worst_deg, 3),
        "positions": item.positions, "batch_positions": item.batch_positions,
        "reference": item.reference, "reference_kl": round(item.reference_kl, 4),
        "norm_ratio": round(item.norm_ratio, 4),
        "kl_mean": item.kl_mean, "kl_p99": item.kl_p99,
        "encode_tok_s": round(speeds["encode"], 1), "decode_tok_s": _number(speeds["decode"]),
    }  # fmt: skip


def _number(value: float) -> float | None:
    return None if value != value else round(value, 1)


def _print(records: Sequence[Mapping[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    columns = ("codec", "bytes_per_token", "shared_bytes_per_token", "temperature", "angle_deg", "angle_worst_deg",
               "norm_ratio", "kl_mean", "kl_p99", "encode_tok_s", "decode_tok_s")  # fmt: skip
    for column in (*columns, "settings"):
        table.add_column(column, no_wrap=True)
    for record in records:
        row = [f"{record[c]:.4g}" if isinstance(record[c], float) else str(record[c]) for c in columns]
        table.add_row(*row, " ".join(f"{key}={value}" for key, value in record["settings"].items()))
    stdout.print(table)


if __name__ == "__main__":
    main()
