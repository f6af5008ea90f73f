"""``kdtrain student``."""

from pathlib import Path
from typing import Any

import click

from kdtrain.inputs import student_inputs, student_stores
from kdtrain.kinds import STUDENT, configure
from kdtrain.options import RunCommand, run_options


@click.command("student", cls=RunCommand)
@student_inputs
@run_options(STUDENT)
def student(
    store: tuple[Path, ...],
    val: Path | None,
    train_data_path: Path | None,
    val_data_path: Path | None,
    output_dir: Path | None,
    resume: str,
    no_after: bool,
    **options: Any,
) -> None:
    """Train a student from a STORE of teacher signals, or from several, mixed batch by batch (--mix).

    The loss is a weighted sum of components, all of which move the student: see docs/losses.md for what each is,
    what it needs of the store, and how weights, alpha and the temperature change over training. The run directory
    then holds final_model/ and best_model/ (lowest validation loss), each with its tokenizer, the logs that
    docs/logs.md describes, config.json with its checksum, command.txt and checkpoints/. Afterwards the recipe's
    command runs: the default recipe evaluates the final model with kdeval when there is a validation store.

    Every parameter comes from one of these, of which later ones win: its default, the recipe, the preset, its option,
    --set. `kdtrain show-config` prints them all with where they come from; docs/configuration.md lists them.

    Ctrl-C keeps the last checkpoint; run the same command with --resume auto to continue exactly there.

    \b
    Example:
        kdtrain student train.kd --val val.kd --output-dir results/run --from-scratch tiny
        kdtrain student train.kd --val val.kd --loss-function traditional --temperature 2 --epochs 10
        kdtrain student train.kd --val val.kd --loss-components focal jsd contrastive --enable-dynamic-weighting
        kdtrain student train.kd --val val.kd --preset high_quality --set schedule.epochs=30
        kdtrain student train.kd --val val.kd --output-dir results/run --from-scratch tiny --resume auto
        kdtrain student large.kd --val val.kd --ram-limit 512MiB --epoch-samples 20000 --epochs 20
        kdtrain student a.kd b.kd --mix 3,1 --val val.kd
    """
    from kdstore.store.reader import Store
    from kdtrain import rundir
    from kdtrain.distributed import started
    from kdtrain.effects import check_validation
    from kdtrain.run import Stores, print_summary, run_after, train
    from kdtrain.stopping import making_room

    paths, val_path = student_stores(store, val, train_data_path, val_data_path)
    resolved = configure(STUDENT, options)
    config = resolved.config
    if val_path is None:
        check_validation(resolved)
    model = config.model.from_scratch or config.model.model_name
    with (
        making_room(),
        started(config.run.ddp_timeout, config.run.device) as processes,
        rundir.claimed(output_dir, model, processes, resume=resume == "auto", sources=resolved.sources) as run,
    ):
        stores = Stores(tuple(map(Store, paths)), Store(val_path) if val_path else None)
        summary = train(stores, config, run, resume=resume == "auto", processes=processes)
        if processes.main:
            print_summary(summary, run)
            run_after(() if no_after else config.run.after, run, stores)
