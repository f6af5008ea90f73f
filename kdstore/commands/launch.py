"""``kdstore launch``."""

from pathlib import Path
from typing import Any

import click

from kdstore.console import note, stdout
from kdstore.errors import UsageError

_BUILD = "-- ROWS... [OPTIONS]..."


@click.group()
def launch() -> None:
    """Run `kdstore build` as many processes, each of which writes a share of the parts.

    What follows -- are the arguments of `kdstore build`. The store is the same, byte for byte, as that of a single
    build with the same number of threads. `kdstore status` tells what became of the processes.

    \b
    Example:
        kdstore launch local --workers 4 -- rows.jsonl --teacher T --out train.kd
        kdstore launch slurm --tasks 32 -- rows.jsonl --teacher T --out train.kd --val-out val.kd
    """


@launch.command()
@click.option("--workers", required=True, type=click.IntRange(1, 1 << 10), help="How many processes.")
@click.option(
    "--threads", type=click.IntRange(1),
    help="Threads of each; by default OMP_NUM_THREADS where it is set, or an equal share of the cores.",
)  # fmt: skip
@click.argument("build_args", nargs=-1, required=True, metavar=_BUILD)
@click.pass_context
def local(ctx: click.Context, workers: int, threads: int | None, build_args: tuple[str, ...]) -> None:
    """Build as processes on this machine.

    Where there are several GPUs and CUDA_VISIBLE_DEVICES is not set, each process gets one of them. What process I
    says goes to OUT.logs/I.log. When one fails the others go on, and its exit code becomes that of this command.
    Ctrl-C stops them all. Running the same command again continues.

    \b
    Example:
        kdstore launch local --workers 4 -- rows.jsonl --teacher T --out train.kd --val-out val.kd
    """
    from kdstore.commands.status import print_status
    from kdstore.launch.local import run
    from kdstore.launch.record import LocalLaunch
    from kdstore.launch.status import build_status

    planned = LocalLaunch(tasks=workers, threads=threads, **_build(build_args))
    code = run(planned)
    print_status(build_status(*planned.outs))
    ctx.exit(code)


@launch.command()
@click.option("--tasks", required=True, type=click.IntRange(1, 1 << 20), help="How many tasks the job array has.")
@click.option("--array-limit", type=click.IntRange(1), help="Run at most so many of them at a time.")
@click.option(
    "--sbatch", "options", multiple=True, metavar="OPTIONS",
    help="Options for sbatch, such as '--time=04:00:00 --gres=gpu:1'. May be repeated.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print what would be submitted; write and submit nothing.")
@click.argument("build_args", nargs=-1, required=True, metavar=_BUILD)
def slurm(
    tasks: int, array_limit: int | None, options: tuple[str, ...], dry_run: bool, build_args: tuple[str, ...]
) -> None:
    """Build as a SLURM job array.

    Writes the job script and env.sh into OUT.slurm/ and submits them from the current directory. The script is
    slurm/build_shards_array.sh of the source tree; env.sh says how a task finds `kdstore`, and is kept when it is
    there. Logs go to the same directory. When tasks were lost, `kdstore status` prints the command that submits
    them again.

    \b
    Example:
        kdstore launch slurm --tasks 32 -- rows.jsonl --teacher T --out train.kd
        kdstore launch slurm --tasks 99 --array-limit 8 --sbatch '--gres=gpu:1' -- rows.jsonl --teacher T --out a.kd
    """
    import shlex

    from kdstore.launch.record import SlurmLaunch
    from kdstore.launch.slurm import check_array_size, directory_for, env_text, job_name, script_text, submit

    build = _build(build_args)
    out = build["outs"][0]
    planned = SlurmLaunch(
        tasks=tasks,
        array_limit=array_limit,
        sbatch=tuple(word for words in options for word in shlex.split(words)),
        directory=directory_for(out),
        job_name=job_name(out),
        **build,
    )
    if dry_run:
        check_array_size(tasks)
        env = planned.env.read_text(encoding="utf-8") if planned.env.is_file() else env_text()
        for path, text in ((planned.env, env), (planned.script, script_text())):
            click.echo(f"==> {path}\n{text}")
        click.echo(planned.again(range(tasks)))
        return
    submitted = submit(planned)
    stdout.print(f"Submitted job {submitted.job_ids[0]}: {tasks} tasks. Logs: {submitted.directory}", markup=False)
    note(f"Watch it with `squeue --name={submitted.job_name}` and `kdstore status {out}`.")


def _build(args: tuple[str, ...]) -> dict[str, Any]:
    """What every launch records of the build; its arguments are checked as `kdstore build` does."""
    from kdstore.commands.build import build
    from kdstore.store.writer import check_target

    params = build.make_context("kdstore build", list(args)).params
    if params["share"]:
        raise UsageError("Expected a build without --share. Got one. The launcher gives each process its own.")
    outs = tuple(path.resolve() for path in (params["out"], params["val_out"]) if path)
    for out in outs:
        check_target(out)
    return {"argv": args, "outs": outs, "cwd": Path.cwd()}
