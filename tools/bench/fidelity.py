"""Compare ways to keep a teacher's signal: bytes, gradient angle, divergence, speed; on the same positions."""

import json
import time
from collections.abc import Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from foreign import Packed4Bit, TopKLeftover, row_json_bytes
from rich.table import Table
from torch import Tensor

from kdstore.codecs import CODECS, Output, Sample, fit_codec
from kdstore.commands.fidelity import AMORTISED
from kdstore.console import note, progress, stdout
from kdstore.encode.capture import capture
from kdstore.encode.fit import reference_student
from kdstore.encode.teacher import Teacher
from kdstore.encode.tokenizer import Tokenizer, truncate_prompt, truncate_target
from kdstore.errors import EmptyInputError, RowError
from kdstore.fidelity.measure import POSITIONS, Subject, measure
from kdstore.fidelity.probe import Probe
from kdstore.fidelity.size import Layout, signal_bytes_per_token
from kdstore.fidelity.trial import try_storage
from kdstore.sources import Rejected, open_source
from kdstore.store.manifest import Fidelity, Limits
from kdstore.tasks import TASKS

_LAYOUT = Layout(block_rows=128, part_rows=1024)
_LONGEST = 200  # label tokens by which whole rows may overshoot
_LABEL_LOGPROB_BYTES = 4
_ROW_CODECS = (Packed4Bit.name, "lowrank-from-predecessor")


@click.command()
@click.option("--teacher", required=True, help="Directory of a seq2seq model.")
@click.option("--rows", required=True, type=click.Path(path_type=Path), help="Rows that the student has not seen.")
@click.option("--student", help="Directory of a trained student; by default one that knows label frequencies.")
@click.option("--codecs", help="Names, separated by commas; by default all.")
@click.option("--limit", type=click.IntRange(50), help="Use only so many rows.")
@click.option("--fit-positions", default=16_384, show_default=True, type=click.IntRange(1))
@click.option("--positions", default=11 * POSITIONS, show_default=True, type=click.IntRange(1), help="To measure on.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write the records here.")
def main(teacher: str, rows: Path, student: str | None, codecs: str | None, limit: int | None, fit_positions: int,
         positions: int, out: Path | None) -> None:  # fmt: skip
    """Measure codecs on ROWS: the first label tokens fit, the next ones measure.

    \b
    Example:
        python tools/bench/fidelity.py --teacher teacher/final_model --rows rows.jsonl --student run/final_model
        python tools/bench/fidelity.py --teacher T --rows R --limit 400 --codecs lowrank,topk --json out.json
    """
    model = Teacher(teacher, "auto", "fp32", 32)
    fit, probe = _sample(model, Tokenizer(teacher), rows, limit, fit_positions, positions)
    ids = [token for row in chain(fit.labels, probe.labels) for token in row]
    reference = reference_student(student, model, np.bincount(ids, minlength=model.vocab_size))
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
    # Measuring comes first: a few rows still give a whole batch.
    return captured.head(max(1, min(fit_positions, total - POSITIONS - _LONGEST)))


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


def _subjects(name: str, fit: Sample, probe: Probe) -> list[tuple[str, Subject, dict[str, float]]]:
    """Label, subject and speeds of every setting of a codec, or of what is measured for comparison."""
    if name in _ROW_CODECS:
        return [_by_rows(name, fit, probe)]
    if name == TopKLeftover.name:
        codecs = [TopKLeftover(TopKLeftover.Config(), fit.vocab_size, {})]
    else:
        codecs = [fit_codec(name, settings, fit) for settings in CODECS.get(name).ladder]
    found = []
    for codec in codecs:
        kept = try_storage(codec, probe, _LAYOUT)
        speeds = {"encode": kept.encode_tok_s, "decode": kept.decode_tok_s}
        found.append((codec.name, Subject(codec, kept.bytes_per_token), speeds))
    return found


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
    size = signal_bytes_per_token(codec, joined, [16] * (POSITIONS // 16), _LAYOUT)
    return name, Subject(codec, size, convert), speeds


def _record(label: str, item: Fidelity, speeds: Mapping[str, float]) -> dict[str, Any]:
    return {
        "codec": label, "settings": item.settings, "temperature": item.temperature,
        "bytes_per_token": round(item.bytes_per_token, 2),
        "label_logprob_bytes_per_token": _LABEL_LOGPROB_BYTES,
        "shared_bytes_per_token": round(item.shared_bytes / AMORTISED, 2),
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
