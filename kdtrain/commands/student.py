"""``kdtrain student``."""

from pathlib import Path
from typing import Any

import click

from kdtrain.options import RunCommand, configure, run_options


@click.command("student", cls=RunCommand)
@click.argument("store", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--val", type=click.Path(path_type=Path), help="Validation store; gives the best model.")
@run_options("java_student", skip=("vocab_size",))
def student(
    store: tuple[Path, ...],
    val: Path | None,
    output_dir: Path | None,
    recipe: str,
    resume: str,
    no_after: bool,
    **options: Any,
) -> None:
    """Train a student from a STORE of teacher signals, or from several, mixed batch by batch (--mix).

    The loss is a weighted sum of components, all of which move the student: see docs/losses.md for what each is,
    what it needs of the store, and how weights, alpha and the temperature change over training. The run directory
    then holds final_model/ and best_model/ (lowest validation loss), each with its tokenizer, training_metrics.csv,
    distillation_log.txt, tensorboard/, config.json with its checksum, command.txt and checkpoints/. Afterwards the
    recipe's command runs: the default recipe evaluates the final model with kdeval when there is a validation store.

    Ctrl-C keeps the last checkpoint; run the same command with --resume auto to continue exactly there.

    \b
    Example:
        kdtrain student train.kd --val val.kd --output-dir results/run --from-scratch tiny
        kdtrain student train.kd --val val.kd --loss-function traditional --temperature 2 --epochs 10
        kdtrain student train.kd --val val.kd --loss-components focal jsd contrastive --enable-dynamic-weighting
        kdtrain student train.kd --val val.kd --output-dir results/run --from-scratch tiny --resume auto
        kdtrain student large.kd --val val.kd --ram-limit 512MiB --epoch-samples 20000 --epochs 20
        kdtrain student a.kd b.kd --mix 3,1 --val val.kd
    """
    from kdstore.store.reader import Store
    from kdtrain import rundir
    from kdtrain.run import Stores, print_summary, run_after, train

    config = configure(recipe, options, forced={})
    run = rundir.claim(output_dir, config.model.from_scratch or config.model.model_name, resume=resume == "auto")
    stores = Stores(tuple(map(Store, store)), Store(val) if val else None)
    summary = train(stores, config, run, resume=resume == "auto")
    print_summary(summary, run)
    if not no_after:
        run_after(config.run.after, run, stores)
