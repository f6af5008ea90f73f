"""``kdtrain preflight``."""

from pathlib import Path
from typing import Any

import click

from kdtrain.inputs import student_inputs, student_stores
from kdtrain.kinds import STUDENT, configure
from kdtrain.options import RunCommand, run_options


@click.command("preflight", cls=RunCommand)
@student_inputs
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@run_options(STUDENT)
def preflight(
    store: tuple[Path, ...],
    val: Path | None,
    train_data_path: Path | None,
    val_data_path: Path | None,
    as_json: bool,
    output_dir: Path | None,
    resume: str,
    no_after: bool,
    **options: Any,
) -> None:
    """Check everything that a training of a student needs, before hours are spent on it. Nothing is written.

    Takes what `kdtrain student` takes: put the words of that command behind this one. Checks packages and device,
    stores, loss, rows and teacher, run directory and checkpoints, model, disk and memory, then takes two optimizer
    steps that are thrown away, and says how long the run will take and which batch fits. docs/preflight.md lists the
    checks. One that fails does not keep the others from being made.

    The last line says "ready: ..." or "not ready: N checks failed"; the exit code is 0 or 9.

    \b
    Example:
        kdtrain preflight train.kd --val val.kd --output-dir results/run --from-scratch tiny
        kdtrain preflight train.kd --val val.kd --output-dir results/run --from-scratch tiny --resume auto
        kdtrain preflight train.kd --val val.kd --preset high_quality --json
    """
    from contextlib import ExitStack

    from kdstore.console import note, print_json, stderr
    from kdstore.errors import TrainingError
    from kdtrain.effects import check_validation
    from kdtrain.preflight import show
    from kdtrain.preflight.findings import Result, go_through
    from kdtrain.preflight.flight import Flight, Request
    from kdtrain.preflight.order import CHECKS

    paths, val_path = student_stores(store, val, train_data_path, val_data_path)
    resolved = configure(STUDENT, options)
    if val_path is None:
        check_validation(resolved)
    after = () if no_after else resolved.config.run.after
    request = Request(resolved.config, paths, val_path, output_dir, resume == "auto", after)
    results: list[Result] = []
    with ExitStack() as stack:
        flight = Flight(request, stack)
        findings = go_through(CHECKS, flight)
        while len(results) < len(CHECKS):
            # Over before anything is printed: while it turns, it takes standard output to where it is.
            with stderr.status(f"checking {CHECKS[len(results)].name}"):
                results.append(next(findings))
            if not as_json:
                show.print_result(results[-1])
    if as_json:
        print_json(show.as_object(results, flight.recommended))
        note(show.verdict(results))
    else:
        click.echo(show.verdict(results))
    if any(result.failed for result in results):
        click.get_current_context().exit(TrainingError.exit_code)
