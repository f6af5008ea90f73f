"""A build as many processes: the same bytes, whatever is killed, and a status that says what to do."""

import json
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from threading import Barrier

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdstore.encode.build import BuildOptions, build
from kdstore.encode.worklist import Share, wait_until_prepared
from kdstore.errors import StoreError
from kdstore.launch.local import environment
from kdstore.launch.ranges import compress
from kdstore.launch.record import LocalLaunch, SlurmLaunch, read_launch, write_launch
from kdstore.launch.status import build_status
from kdstore.store import layout
from kdstore.store.failures import Failure, read_failure, write_failure
from kdstore.store.writer import finish

from .conftest import Run, make_rows, write_rows

ROOT = Path(__file__).parents[2]
SIZES = ["--part-rows", "16", "--block-rows", "8", "--no-teacher-prediction"]


def content(*roots: Path) -> list[dict[str, bytes]]:
    """Every file of each store."""
    return [{str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()} for root in roots]


def run_shell(command: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """Run what a status has printed, as a person would."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", command],
        cwd=cwd,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def program(*args: object) -> list[str]:
    return [sys.executable, "-c", "from kdstore.cli import main; main()", *map(str, args)]


def until(condition: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    while not condition():
        assert process.poll() is None, process.communicate()
        os.sched_yield()


@pytest.fixture(scope="module")
def two_stores(tmp_path_factory: pytest.TempPathFactory, teacher: Path, kdstore: Run) -> tuple[Path, Path]:
    """A training and a validation store of the rows of `rows`, built by one process."""
    home = tmp_path_factory.mktemp("one")
    rows = write_rows(home / "rows.jsonl", make_rows(120))
    train, val = home / "one.kd", home / "one-val.kd"
    result = kdstore("build", rows, "--teacher", teacher, "--out", train, "--val-out", val, *SIZES)
    assert result.exit_code == 0, result.stderr
    return train, val


def test_two_processes_build_the_same_bytes_as_one(
    tmp_path: Path, rows: Path, teacher: Path, two_stores: tuple[Path, Path], kdstore: Run
) -> None:
    train, val = tmp_path / "two.kd", tmp_path / "two-val.kd"
    build_args = [rows, "--teacher", teacher, "--out", train, "--val-out", val, *SIZES]
    result = kdstore("launch", "local", "--workers", 2, "--", *build_args)
    assert result.exit_code == 0, result.stderr
    assert f"{train}: finished, 7 parts." in result.stdout
    assert f"{val}: finished, 1 parts." in result.stdout
    assert content(train, val) == content(*two_stores)
    assert not (train / ".build").exists()
    assert sorted(path.name for path in (tmp_path / "two.kd.logs").iterdir()) == ["0.log", "1.log"]
    again = kdstore("launch", "local", "--workers", 2, "--", *build_args, "--seed", 7)
    assert again.exit_code == 4, "a finished store of other settings is not taken for this one"
    assert "seed = 42" in again.stderr
    assert content(train, val) == content(*two_stores)


def test_a_killed_worker_is_named_and_the_printed_command_completes_the_store(
    tmp_path: Path, rows: Path, teacher: Path, two_stores: tuple[Path, Path], kdstore: Run
) -> None:
    train, val = tmp_path / "two.kd", tmp_path / "two-val.kd"
    build_args = [rows, "--teacher", teacher, "--out", train, "--val-out", val, *SIZES]
    launcher = subprocess.Popen(
        program("launch", "local", "--workers", 2, "--", *build_args), cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    until(lambda: (train / ".build" / "head.json").exists(), launcher)
    children = psutil.Process(launcher.pid).children()
    victim = next(child for child in children if "1/2" in child.cmdline())
    victim.kill()
    _, stderr = launcher.communicate(timeout=300)
    assert launcher.returncode == 128 + signal.SIGKILL, stderr
    assert "process 1 was killed by SIGKILL" in stderr
    status = kdstore("status", val, "--json")
    assert status.exit_code == 5
    found = json.loads(status.stdout)
    assert [task["state"] for task in found["tasks"]] == ["done", "missing"]
    assert found["stores"][0]["missing"], "parts of process 1"
    assert f"\n{found['again']}\n" in kdstore("status", train).stdout
    completed = run_shell(found["again"], tmp_path)
    assert completed.returncode == 0, completed.stderr
    assert kdstore("status", train).exit_code == 0
    assert kdstore("verify", train).exit_code == 0
    assert content(train, val) == content(*two_stores)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGHUP])
def test_a_stopped_launcher_leaves_no_process(
    tmp_path: Path, rows: Path, teacher: Path, kdstore: Run, how: signal.Signals
) -> None:
    out = tmp_path / "out.kd"
    launcher = subprocess.Popen(
        program("launch", "local", "--workers", 2, "--", rows, "--teacher", teacher, "--out", out, *SIZES),
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until((out / ".build" / "prepared").exists, launcher)
    children = psutil.Process(launcher.pid).children(recursive=True)
    assert len(children) == 2
    second = kdstore("launch", "local", "--workers", 1, "--", rows, "--teacher", teacher, "--out", out)
    assert second.exit_code == 5
    assert {task["state"] for task in json.loads(kdstore("status", out, "--json").stdout)["tasks"]} <= {
        "running", "done",
    }  # fmt: skip
    launcher.send_signal(how)
    launcher.communicate(timeout=60)
    assert launcher.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}[how]
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert list(layout.staging_path(out).iterdir()) == []


def test_a_failing_process_is_reported_with_its_words_and_code(tmp_path: Path, rows: Path, kdstore: Run) -> None:
    out = tmp_path / "out.kd"
    args = ["launch", "local", "--workers", 2, "--", rows, "--teacher", tmp_path, "--out", out]
    result = kdstore(*args)
    assert result.exit_code == 8
    assert "process 0 failed with exit code 8: kdstore: error: Expected a tokenizer" in " ".join(
        result.stderr.split()
    )
    assert "process 0 has not settled the build yet" in result.stdout
    tasks = json.loads(kdstore("status", out, "--json").stdout)["tasks"]
    assert (tasks[0]["state"], tasks[0]["failure"]["kind"]) == ("failed", "model")


def test_launchers_check_their_arguments_first(tmp_path: Path, rows: Path, teacher: Path, kdstore: Run) -> None:
    base = [rows, "--teacher", teacher, "--out", tmp_path / "out.kd"]
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "a.tex").touch()
    cases = [
        ([*base, "--share", "0/2"], 2, "without --share"),
        ([*base, "--part-row", "9"], 2, "--part-row"),
        ([rows, "--teacher", teacher], 2, "--out"),
        ([rows, "--teacher", teacher, "--out", tmp_path / "thesis"], 5, "an empty or new directory"),
    ]
    for args, code, message in cases:
        for launcher in (["local", "--workers", 2], ["slurm", "--tasks", 2]):
            result = kdstore("launch", *launcher, "--", *args)
            assert (result.exit_code, message in result.stderr) == (code, True), result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", "thesis"]


# --- the work list -----------------------------------------------------------------------------------------------


def share_options(rows: Path, teacher: Path, out: Path, share: Share) -> BuildOptions:
    return BuildOptions(
        rows=(rows,), out=out, val_out=out.with_suffix(".val"), teacher=str(teacher), predict=False, part_rows=16,
        block_rows=8, share=share, wait_minutes=0,
    )  # fmt: skip


def test_shares_in_any_order_and_again_make_the_same_store(
    tmp_path: Path, rows: Path, teacher: Path, two_stores: tuple[Path, Path]
) -> None:
    """Other counts of shares, a share that runs twice, and process 0 again while others are not done."""
    out = tmp_path / "out.kd"
    for share in (Share(0, 4), Share(2, 3), Share(0, 4), Share(1, 4), Share(1, 4), Share(3, 4)):
        assert not (out / "manifest.json").exists()
        built = build(share_options(rows, teacher, out, share))
        assert bool(built) == (out / "manifest.json").exists()
    assert len(build(share_options(rows, teacher, out, Share(2, 4)))) == 2
    assert content(out, out.with_suffix(".val")) == content(*two_stores)
    for share in (Share(0, 4), Share(3, 4)):
        assert len(build(share_options(rows, teacher, out, share))) == 2, "late, it finds a finished store"
    assert content(out, out.with_suffix(".val")) == content(*two_stores)
    assert not (out / ".build").exists()
    assert not (out.with_suffix(".val") / ".build").exists()


def test_a_process_does_not_wait_for_ever(tmp_path: Path, rows: Path, teacher: Path) -> None:
    with pytest.raises(StoreError, match="within 0 minutes"):
        build(share_options(rows, teacher, tmp_path / "out.kd", Share(1, 2)))
    assert not (tmp_path / "out.kd").exists()


def test_a_failure_of_process_0_ends_the_waiting_in_its_own_array(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.kd"
    why = Failure(share=0, count=2, kind="model", error="No model.", host="n1", job="17_0", time="")
    write_failure(out, why)
    assert read_failure(out, 0) == why
    assert read_failure(out, 1) is None
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "18")
    with pytest.raises(StoreError, match="within 0 minutes"):
        wait_until_prepared([out], 0)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "17")
    with pytest.raises(StoreError, match="No model"):
        wait_until_prepared([out], 0)
    write_failure(out, why.model_copy(update={"kind": "stopped"}))
    with pytest.raises(StoreError, match="within 0 minutes"):
        wait_until_prepared([out], 0)


@pytest.fixture(scope="module")
def unfinished(two_stores: tuple[Path, Path], teacher: Path) -> tuple[Path, Path]:
    """The same stores as `two_stores`; the process was killed after the last part, before it listed the parts."""
    home = two_stores[0].parent
    out, val = home / "out.kd", home / "val.kd"
    args = ["build", home / "rows.jsonl", "--teacher", teacher, "--out", out, "--val-out", val, *SIZES]
    script = (
        "import os, sys\n"
        "from kdstore.encode import build\n"
        "build.finish = lambda outs: os.kill(os.getpid(), 9)\n"
        "from kdstore.cli import main\n"
        "main()\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, *map(str, args)], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    return out, val


def copied(stores: tuple[Path, Path], home: Path) -> tuple[Path, Path]:
    """Copies of the stores of a build in another place, as if it had been launched there."""
    train, val = (Path(shutil.copytree(store, home / store.name)) for store in stores)
    write_launch(LocalLaunch(tasks=1, argv=("unused",), outs=(train.resolve(), val.resolve()), cwd=home))
    return train, val


def test_status_finishes_what_nobody_finished(
    tmp_path: Path, unfinished: tuple[Path, Path], two_stores: tuple[Path, Path], kdstore: Run
) -> None:
    out, val = copied(unfinished, tmp_path)
    assert kdstore("inspect", out).exit_code == 5
    result = kdstore("status", out)
    assert result.exit_code == 0, result.stderr
    assert "the build is finished now" in result.stdout
    assert content(out, val) == content(*two_stores)
    assert not (out / ".build").exists()
    assert "finished now" not in kdstore("status", out).stdout


@pytest.mark.parametrize("attempt", range(5))
def test_any_number_may_finish_a_store_at_once(
    tmp_path: Path, unfinished: tuple[Path, Path], two_stores: tuple[Path, Path], attempt: int
) -> None:
    """Processes that end together, and somebody who asks for the status meanwhile."""
    out, val = copied(unfinished, tmp_path)
    together = Barrier(6)

    def finishes() -> bool:
        together.wait()
        return finish([out, val])

    def asks(store: Path) -> bool:
        together.wait()
        while not build_status(store).finished:
            pass
        return True

    with ThreadPoolExecutor(6) as threads:
        ended = [threads.submit(finishes) for _ in range(4)] + [threads.submit(asks, store) for store in (out, val)]
        assert all(future.result() for future in ended)
    assert content(out, val) == content(*two_stores)
    assert not (out / ".build").exists()
    assert not (val / ".build").exists()


def test_status_of_a_build_that_nobody_launched(tmp_path: Path, rows: Path, built: Path, kdstore: Run) -> None:
    assert "finished, 4 parts" in kdstore("status", built).stdout
    nothing = kdstore("status", tmp_path / "nothing")
    assert nothing.exit_code == 5
    assert "Got nothing there" in nothing.stderr
    (built / ".build").mkdir()
    (built / ".build" / "launch.json").write_text('{"launcher": "kubernetes"}')
    broken = kdstore("status", built)
    assert broken.exit_code == 6
    assert "launch.json" in broken.stderr


# --- SLURM, without a cluster ------------------------------------------------------------------------------------


def put_program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/bash\n{text}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs in place of SLURM's: at most 8 tasks in an array; sbatch keeps its arguments, one a line."""
    folder = tmp_path / "bin"
    folder.mkdir()
    put_program(folder, "scontrol", 'echo "MaxArraySize            = 8"')
    put_program(folder, "sbatch", f'printf "%s\\n" "$@" > {folder}/submitted; echo "4711;cluster"')
    put_program(folder, "squeue", f"cat {folder}/queue")
    (folder / "queue").write_text("")
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def test_a_launch_writes_what_stands_in_slurm_and_submits_it(
    tmp_path: Path, rows: Path, cluster: Path, kdstore: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    args = ["launch", "slurm", "--tasks", 8, "--array-limit", 3, "--sbatch", "--mem=2G --gres='gpu:1'"]
    build_args = ["rows.jsonl", "--teacher", "T", "--out", "out dir.kd", "--val-out", "val.kd"]
    planned = kdstore(*args, "--dry-run", "--", *build_args)
    assert planned.exit_code == 0, planned.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "rows.jsonl"], "a dry run writes nothing"
    result = kdstore(*args, "--", *build_args)
    assert result.exit_code == 0, result.stderr
    assert "Submitted job 4711: 8 tasks" in result.stdout
    home = tmp_path / "out dir.kd.slurm"
    submitted = (cluster / "submitted").read_text().splitlines()
    assert submitted[0] == "--parsable"
    assert submitted[-len(build_args) - 3 :] == [
        str(home / "build_shards_array.sh"), str(home / "env.sh"), "8", *build_args,
    ]  # fmt: skip
    assert {"--array=0-7%3", "--mem=2G", "--gres=gpu:1", f"--chdir={tmp_path}"} <= set(submitted)
    assert shlex.join(["sbatch", *submitted[1:]]) == planned.stdout.splitlines()[-1]
    assert (home / "build_shards_array.sh").read_bytes() == (ROOT / "slurm/build_shards_array.sh").read_bytes()
    assert (ROOT / "slurm/env.sh").read_text() in (home / "env.sh").read_text()
    for store in ("out dir.kd", "val.kd"):
        launch = read_launch(tmp_path / store)
        assert isinstance(launch, SlurmLaunch)
        assert (launch.tasks, launch.job_ids, launch.argv) == (8, ("4711",), tuple(build_args))
    (home / "env.sh").write_text("mine")
    assert kdstore(*args, "--", *build_args).exit_code == 0
    assert (home / "env.sh").read_text() == "mine"


def test_status_prints_the_submission_of_what_is_lost(
    tmp_path: Path, rows: Path, cluster: Path, kdstore: Run
) -> None:
    out = tmp_path / "out.kd"
    args = ["launch", "slurm", "--tasks", 8, "--array-limit", 3]
    assert kdstore(*args, "--", rows, "--teacher", "T", "--out", out).exit_code == 0
    (cluster / "queue").write_text("0 RUNNING\n2 COMPLETING\n5 PENDING\n6 REQUEUED\n")
    why = {"kind": "error", "error": "No space left.", "host": "n1", "job": "4711_3", "time": ""}
    write_failure(out, Failure(share=3, count=8, **why))
    write_failure(out, Failure(share=4, count=9, **why))
    status = kdstore("status", out)
    assert status.exit_code == 5
    assert "task 3: failed: No space left. (error, job 4711_3 on n1, )" in status.stdout
    assert "8 tasks: 2 running, 2 pending, 1 failed, 3 missing." in status.stdout
    (again,) = [line for line in status.stdout.splitlines() if line.startswith("sbatch ")]
    assert "--array=1,3-4,7%3" in shlex.split(again)
    (cluster / "queue").write_text("".join(f"{task} RUNNING\n" for task in range(8)))
    running = json.loads(kdstore("status", out, "--json").stdout)
    assert running["again"] is None
    assert {task["state"] for task in running["tasks"]} == {"running"}


def test_more_tasks_than_the_cluster_takes_are_refused_with_the_number(
    tmp_path: Path, rows: Path, cluster: Path, kdstore: Run
) -> None:
    result = kdstore("launch", "slurm", "--tasks", 9, "--", rows, "--teacher", "T", "--out", tmp_path / "out.kd")
    assert result.exit_code == 2
    assert "Expected at most 8 tasks" in result.stderr
    assert not (tmp_path / "out.kd").exists()


def test_what_slurm_refuses_is_said_in_its_words(
    tmp_path: Path, rows: Path, cluster: Path, kdstore: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = ["launch", "slurm", "--tasks", 2, "--", rows, "--teacher", "T", "--out", tmp_path / "out.kd"]
    put_program(cluster, "sbatch", "echo 'sbatch: error: invalid partition' >&2; exit 1")
    refused = kdstore(*args)
    assert (refused.exit_code, "invalid partition" in refused.stderr) == (7, True)
    (cluster / "sbatch").unlink()
    monkeypatch.setenv("PATH", str(cluster))
    missing = kdstore(*args)
    assert (missing.exit_code, "Expected the program sbatch" in missing.stderr) == (7, True)


def test_the_job_script_runs_its_share(tmp_path: Path) -> None:
    """The script itself, with a program that says how it was called."""
    put_program(tmp_path, "kdstore", 'echo "$OMP_NUM_THREADS"; printf "%s\\n" "$@"')
    (tmp_path / "env.sh").write_text(f'export PATH="{tmp_path}:$PATH" OMP_NUM_THREADS=3\n')
    script = str(files("kdstore.launch") / "build_shards_array.sh")
    ran = subprocess.run(
        ["bash", script, str(tmp_path / "env.sh"), "8", "a b.jsonl", "--out", "x.kd"],
        env={"PATH": "/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_COUNT": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ran.stdout.splitlines() == ["3", "build", "a b.jsonl", "--out", "x.kd", "--share", "5/8"]


# --- small pieces ------------------------------------------------------------------------------------------------


def expand(text: str) -> list[int]:
    bounds = [[int(number) for number in item.split("-")] for item in text.split(",") if item]
    return [number for bound in bounds for number in range(bound[0], bound[-1] + 1)]


@given(st.lists(st.integers(0, 60)))
def test_ranges_name_every_task_once(numbers: list[int]) -> None:
    text = compress(numbers)
    assert expand(text) == sorted(set(numbers))
    assert len(text.split(",")) <= 1 or all(
        int(left.split("-")[-1]) + 1 < int(right.split("-")[0])
        for left, right in zip(text.split(","), text.split(",")[1:], strict=False)
    ), "runs are as long as they can be"


def test_processes_share_cores_and_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_program(tmp_path, "nvidia-smi", "echo 'GPU 0: A'; echo 'GPU 1: A'")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = len(os.sched_getaffinity(0))
    assert [environment(i, 3, None)["CUDA_VISIBLE_DEVICES"] for i in range(3)] == ["0", "1", "0"]
    assert environment(0, 1, None)["OMP_NUM_THREADS"] == str(cores)
    assert environment(0, 10 * cores, None)["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert environment(1, 2, None)["OMP_NUM_THREADS"] == "5"
    assert environment(1, 2, 3)["OMP_NUM_THREADS"] == "3"
    assert environment(1, 2, None)["CUDA_VISIBLE_DEVICES"] == "7"
    put_program(tmp_path, "nvidia-smi", "echo 'GPU 0: A'")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert "CUDA_VISIBLE_DEVICES" not in environment(1, 2, None)
