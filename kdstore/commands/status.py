"""``kdstore status``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdstore.console import print_json, stdout
from kdstore.errors import StoreError

if TYPE_CHECKING:
    from kdstore.launch.status import BuildStatus, StoreStatus, TaskStatus


@click.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the status as JSON.")
def status(store: Path, as_json: bool) -> None:
    """Show how far the build of STORE is, and how to run what is missing.

    Of a build that was launched (`kdstore launch`) every task is looked at: done, running, pending, failed with its
    reason, or missing, as when it was killed. The command that is printed runs again what was lost. When all
    parts are in place and nobody is left to do it, this command makes the stores readable.

    Exit code 0 when the build is finished, 5 when it is not.

    \b
    Example:
        kdstore status train.kd
        kdstore status train.kd --json
    """
    from kdstore.launch.status import build_status

    found = build_status(store)
    if as_json:
        print_json(_as_json(found))
    else:
        print_status(found)
    if not found.finished:
        raise StoreError(f"Expected a finished store at {store}. Got one that is not. {_advice(found)}")


def print_status(found: "BuildStatus") -> None:
    """Say for people what `kdstore.launch.status` has found."""
    if found.finalized:
        stdout.print("All parts were in place: the build is finished now.")
    for store in found.stores:
        stdout.print(f"{store.path}: {_progress(store)}", markup=False, soft_wrap=True)
    if found.finished:
        return
    for task in found.tasks:
        if task.state != "done":
            stdout.print(f"task {task.task}: {_story(task)}", markup=False, soft_wrap=True)
    counts = _counts(found)
    if counts:
        stdout.print(f"{len(found.tasks)} tasks: {counts}.")
    if found.again:
        stdout.print("Run what is missing with:")
        click.echo(found.again)


def _progress(store: "StoreStatus") -> str:
    if store.parts is None or store.missing is None:
        return "process 0 has not settled the build yet."
    if store.finished:
        return f"finished, {store.parts:,} parts."
    return f"{store.parts - len(store.missing):,} of {store.parts:,} parts are in place."


def _story(task: "TaskStatus") -> str:
    left = "" if task.missing_parts is None else f", {task.missing_parts:,} parts missing"
    if task.failure is None:
        return f"{task.state}{left}"
    failure = task.failure
    where = f"job {failure.job} on {failure.host}" if failure.job else f"on {failure.host}"
    return f"failed{left}: {failure.error} ({failure.kind}, {where}, {failure.time})"


def _counts(found: "BuildStatus") -> str:
    states = [task.state for task in found.tasks]
    known = ("done", "running", "pending", "failed", "missing")
    return ", ".join(f"{states.count(state)} {state}" for state in known if state in states)


def _advice(found: "BuildStatus") -> str:
    if found.again:
        return "Run the command above."
    if found.tasks:
        return "Wait for its tasks."
    return "Run the same command again: it continues."


def _as_json(found: "BuildStatus") -> dict[str, Any]:
    return {
        "finished": found.finished,
        "finalized_now": found.finalized,
        "stores": [
            {
                "store": str(store.path),
                "finished": store.finished,
                "parts": store.parts,
                "missing": None if store.missing is None else list(store.missing),
            }
            for store in found.stores
        ],
        "tasks": [
            {
                "task": task.task,
                "state": task.state,
                "missing_parts": task.missing_parts,
                "failure": task.failure.model_dump() if task.failure else None,
            }
            for task in found.tasks
        ],
        "again": found.again,
    }
