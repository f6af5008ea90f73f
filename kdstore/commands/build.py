"""``kdstore build``."""

from pathlib import Path
from typing import Any

import click

from kdstore.commands._store_options import (
    codec_options,
    layout_options,
    out_options,
    print_built,
    take_signal,
    take_teacher,
    teacher_options,
)


@click.command()
@click.argument("rows", nargs=-1, required=True, type=click.Path(path_type=Path))
@out_options
@click.option("--teacher", help="Directory or hub name of a Hugging Face seq2seq model.")
@codec_options
@click.option("--fidelity-student", help="Measure fidelity at this trained student's gradients; a model directory.")
@teacher_options
@layout_options
def build(rows: tuple[Path, ...], as_json: bool, fidelity_student: str | None, **options: Any) -> None:
    """Run a teacher over ROWS and keep its signal in a store.

    ROWS are JSON Lines files, plain or .gz, as `kdstore mine` writes them. The teacher reads the prompt and scores
    the reference; what the codec keeps of its output goes into the store, with the row's tokens, texts, the
    teacher's own prediction, and embeddings of the reference where asked. Rows are written in a shuffled order.

    Bad rows are left out, counted, and listed with their place and reason in STORE/quarantine.jsonl. An
    interrupted build continues when the same command is run again. Without --teacher the store holds tokens only.

    \b
    Example:
        kdstore build rows.jsonl --teacher teacher/final_model --out train.kd --val-out val.kd
        kdstore build rows.jsonl.gz --teacher T --out train.kd --codec topk --codec-set k=64
        kdstore build rows.jsonl --teacher T --out train.kd --embed minilm=sentence-transformers/all-MiniLM-L6-v2
    """
    from kdstore.encode.build import BuildOptions
    from kdstore.encode.build import build as run_build
    from kdstore.encode.fit import SignalOptions

    built = run_build(
        BuildOptions(
            rows=rows,
            signal=SignalOptions(student=fidelity_student, **take_signal(options)),
            **take_teacher(options),
            **options,
        )
    )
    print_built(built, as_json)
