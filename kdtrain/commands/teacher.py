"""``kdtrain teacher``."""

import math
from pathlib import Path
from typing import Any

import click

from kdtrain.config import LossConfig
from kdtrain.options import RunCommand, configure, run_options


class _Fraction(click.FloatRange):
    """A number between 0 and 1; click's own range lets NaN through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if math.isnan(number := super().convert(value, param, ctx)):
            self.fail(f"{value} is not in the range 0<x<1.", param, ctx)
        return number


_LOSS_OPTIONS = {"enable_token_weighting", "critical_token_weight"}


@click.command("teacher", cls=RunCommand)
@click.argument("rows", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--val-rows", type=click.Path(path_type=Path), multiple=True, help="Rows to validate on; repeatable.")
@click.option(
    "--val-fraction",
    type=_Fraction(0, 1, min_open=True, max_open=True),
    default=0.1,
    show_default=True,
    help="Without --val-rows: share of rows held out.",
)
@click.option("--task", default="java_assertion", show_default=True, help="What is predicted.")
@run_options("java_teacher", skip=("mix", *(LossConfig.model_fields.keys() - _LOSS_OPTIONS)))
def teacher(
    rows: tuple[Path, ...],
    val_rows: tuple[Path, ...],
    val_fraction: float,
    task: str,
    output_dir: Path | None,
    recipe: str,
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

    \b
    Example:
        kdtrain teacher rows.jsonl --output-dir teacher --from-scratch tiny --epochs 20 --lr 1e-3
        kdtrain teacher train.jsonl.gz --val-rows val.jsonl.gz --model-name Salesforce/codet5p-220m
        kdstore build rows.jsonl --teacher teacher/final_model --out train.kd
    """
    from kdtrain import rundir
    from kdtrain.prepare import TeacherData, prepare
    from kdtrain.run import print_summary, run_after, settle, train

    config = configure(recipe, options, forced={"loss_components": ("ce",), "alpha": 1.0})
    run = rundir.claim(output_dir, config.model.from_scratch or config.model.model_name, resume=resume == "auto")
    settle(config)  # before anything is written: what is refused must leave the directory free
    stores = prepare(TeacherData(rows, val_rows, val_fraction, task), config, run)
    summary = train(stores, config, run, resume=resume == "auto")
    print_summary(summary, run)
    if not no_after:
        run_after(config.run.after, run, stores)
