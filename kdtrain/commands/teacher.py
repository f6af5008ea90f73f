"""``kdtrain teacher``."""

from pathlib import Path
from typing import Any

import click

from kdstore.errors import UsageError
from kdtrain.inputs import one_of, teacher_inputs
from kdtrain.kinds import TEACHER, configure
from kdtrain.options import RunCommand, run_options


@click.command("teacher", cls=RunCommand)
@teacher_inputs
@run_options(TEACHER)
def teacher(
    rows: tuple[Path, ...],
    val_rows: tuple[Path, ...],
    val_fraction: float,
    task: str,
    generate_distillation_data: bool | None,
    train_data_path: Path | None,
    val_data_path: Path | None,
    output_dir: Path | None,
    resume: str,
    no_after: bool,
    **options: Any,
) -> None:
    """Train a teacher on raw ROWS with cross-entropy.

    ROWS are JSON Lines files or directories of them. They are first encoded into token stores,
    data/train.kd and data/val.kd in the run directory, which are then streamed as for a student. With
    --from-scratch a tokenizer is learned from all of ROWS first, those held out by --val-fraction included, and
    the model starts from random weights; otherwise a pretrained model is fine-tuned with its own tokenizer. The
    run directory is laid out as for a student.

    Afterwards the recipe's command runs: the default recipe lets the teacher read ROWS and keeps its signal in
    distillation_data_training.kd and distillation_data_validation.kd in the run directory, with embeddings of the
    references, which the default loss of a student needs. --no-after leaves that out.

    \b
    Example:
        kdtrain teacher rows.jsonl --output-dir teacher --from-scratch tiny --epochs 20 --lr 1e-3 --no-after
        kdtrain teacher train.jsonl.gz --val-rows val.jsonl.gz --model-name Salesforce/codet5p-220m
        kdstore build rows.jsonl --teacher teacher/final_model --out train.kd
    """
    from kdtrain import rundir
    from kdtrain.distributed import started
    from kdtrain.prepare import TeacherData, build_arguments, prepare
    from kdtrain.run import print_summary, run_after, settle, train
    from kdtrain.stopping import making_room

    found = one_of("ROWS", rows, "--train-data-path", [train_data_path] if train_data_path else ())
    held_out = one_of("--val-rows", val_rows, "--val-data-path", [val_data_path] if val_data_path else ())
    if not found:
        raise UsageError("Expected ROWS to learn from. Got none. Name a file, such as rows.jsonl.")
    resolved = configure(TEACHER, options)
    config = resolved.config
    after = _after(config.run.after, generate_distillation_data, no_after)
    model = config.model.from_scratch or config.model.model_name
    with (
        making_room(),
        started(config.run.ddp_timeout, config.run.device) as processes,
        rundir.claimed(output_dir, model, processes, resume=resume == "auto", sources=resolved.sources) as run,
    ):
        settle(config)  # before anything is written: what is refused must leave the directory free
        data = TeacherData(found, held_out, val_fraction, task)
        stores = prepare(data, config, run, processes)
        summary = train(stores, config, run, resume=resume == "auto", processes=processes)
        if processes.main:
            print_summary(summary, run)
            run_after(build_arguments(after, data, config), run, stores)


def _after(after: tuple[str, ...], generate: bool | None, no_after: bool) -> tuple[str, ...]:
    """The command to run after training; none where it is not to run."""
    if generate and (no_after or not after):
        raise UsageError(
            "Expected a command after training with --generate-distillation-data, as the recipe java_teacher names "
            "one. Got none. Use that recipe, and leave --no-after out."
        )
    return () if no_after or generate is False else after
