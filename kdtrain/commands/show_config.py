"""``kdtrain show-config``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import click

from kdstore.errors import UsageError
from kdtrain.config import Config
from kdtrain.inputs import any_inputs
from kdtrain.kinds import STUDENT, TEACHER, configure
from kdtrain.options import RunCommand, run_options


@click.command("show-config", cls=RunCommand)
@any_inputs
@click.option(
    "--for",
    "what",
    type=click.Choice(["student", "teacher"]),
    default="student",
    show_default=True,
    help="Whose recipe and rules are used.",
)
@click.option("--json", "form", flag_value="json", help="Print values, sources and checksum as JSON.")
@click.option("--toml", "form", flag_value="toml", help="Print a recipe that gives the same configuration.")
@click.option("--deepspeed", "form", flag_value="deepspeed", help="Print a DeepSpeed ZeRO-2 configuration.")
@click.option(
    "--processes",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="With --deepspeed: how many share a batch.",
)
@run_options(None)
def show_config(
    data: tuple[Path, ...],
    train_data_path: Path | None,
    what: Literal["student", "teacher"],
    form: str | None,
    processes: int,
    **options: Any,
) -> None:
    """Print the configuration that a run would have, and where each value comes from.

    Takes what `kdtrain student` takes, or with --for teacher `kdtrain teacher`, so that the words of a command can be
    put behind it. Nothing is trained. A value comes from one of these, of which later ones win: its default, the
    recipe, the preset, its option, --set. The SHA-256 is that of the run's config.json.

    Our own training runs on several processes with DDP or FSDP (--parallel) and needs no file for it. What
    --deepspeed prints is for training loops of your own that stream our stores with DeepSpeed, or with Accelerate's
    DeepSpeed plugin: see docs/interoperability.md. It needs the number of steps: --max-steps, or a STORE, whose rows
    it counts.

    \b
    Example:
        kdtrain show-config --preset high_quality --lr 1e-4
        kdtrain show-config train.kd --val val.kd --recipe mine.toml --json
        kdtrain show-config --for teacher --from-scratch tiny --toml
        kdtrain show-config train.kd --dtype bf16 --batch-size 32 --deepspeed --processes 4
    """
    from kdstore.console import note, print_json, stdout
    from kdtrain import show
    from kdtrain.mix import Mix

    resolved = configure(
        {"student": STUDENT, "teacher": TEACHER}[what],
        {name: value for name, value in options.items() if name not in _TAKEN},
    )
    Mix(resolved.config.loss)  # what a run would refuse is refused here
    if form == "json":
        print_json(show.as_object(resolved))
    elif form == "toml":
        click.echo(show.as_toml(resolved), nl=False)
    elif form == "deepspeed":
        from kdtrain.deepspeed import zero2

        paths = [*data, *([train_data_path] if train_data_path else [])]
        found, notes = zero2(resolved.config, processes, _steps(paths, resolved.config))
        print_json(found)
        for line in notes:
            note(line)
    else:
        for line in show.listing(resolved):
            stdout.print(line, markup=False, soft_wrap=True)
        stdout.print(f"\nsha256 {resolved.config.sha256()}", soft_wrap=True)


# What says where data and results are, and does not change the configuration.
_TAKEN = {
    "val", "val_data_path", "val_rows", "val_fraction", "task", "generate_distillation_data", "output_dir", "resume",
    "no_after",
}  # fmt: skip


def _steps(paths: Sequence[Path], config: Config) -> int:
    """Optimizer steps of a training on stores, or as many as are configured."""
    from kdstore.store.reader import Store

    schedule, data = config.schedule, config.data
    if not paths:
        if schedule.max_steps is None:
            raise UsageError(
                "Expected a STORE or --max-steps, which give the number of steps. Got neither. Name one."
            )
        return schedule.max_steps
    batches = 0
    for path in paths:
        rows = min(filter(None, (Store(path).rows, data.max_train_samples, data.epoch_samples)))
        batches += rows // data.batch_size if data.last_batch == "drop" else -(-rows // data.batch_size)
    steps = schedule.epochs * -(-batches // schedule.gradient_accumulation_steps)
    return min(steps, schedule.max_steps or steps)
