"""Time and memory of measuring predictions with every metric but the neural one, by number of predictions."""

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import psutil

from kdeval.choose import choose
from kdeval.metrics import METRICS, Context, Measured
from kdeval.results import PREDICTIONS, read_predictions
from kdeval.samples import Group
from kdeval.text import java_tokens
from kdstore.console import note, print_json
from kdstore.sources import Located, open_source

_GROUPS: tuple[Group, ...] = ("text", "tokens", "teacher_text", "teacher_signal")
_NEURAL = "semantic_similarity"
_CHUNK = 1024


@click.command()
@click.option("--rows", type=click.Path(path_type=Path, exists=True), required=True, help="Rows with an assertion.")
@click.option("--sizes", default="1000,10000", show_default=True, help="Numbers of predictions.")
@click.option("--draws", default=1000, show_default=True, help="Resamples behind the intervals.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write the records here.")
def main(rows: Path, sizes: str, draws: int, out: Path | None) -> None:
    """Measure predictions made from the assertions in ROWS.

    A prediction is another row's assertion with a number put in, so that all texts differ, and in half of them one
    character is missing; what belongs to label tokens is drawn. `kdeval score` runs in a process of its own, whose
    start counts. Memory is the most that it and its children have for themselves at a time. The seconds of each
    metric are those of `measure`, in this process.

    \b
    Example:
        python tools/bench/evaluate.py --rows quickstart/rows.jsonl --json evaluate.json
    """
    texts = [str(one.record["assertion"]) for one in open_source(rows) if isinstance(one, Located)]
    names = [name for name in METRICS.names() if METRICS.get(name).inputs in _GROUPS and name != _NEURAL]
    records = []
    for size in map(int, sizes.split(",")):
        with tempfile.TemporaryDirectory(prefix="kdeval-bench-") as directory:
            path = Path(directory) / "mine.jsonl"
            path.write_text("".join(f"{json.dumps(line)}\n" for line in _lines(texts, size)), encoding="utf-8")
            seconds, cpu, peak = _run(path, Path(directory) / "out", names, draws)
            by_metric = _by_metric(Path(directory) / "out" / PREDICTIONS, names)
        records.append(
            {
                "predictions": size,
                "metrics": len(names),
                "draws": draws,
                "seconds": round(seconds, 2),
                "cpu_seconds": round(cpu, 2),
                "peak_mb": round(peak / 1e6, 1),
                "seconds_by_metric": by_metric,
                "rows": rows.name,
                "texts": len(texts),
                "cores": os.cpu_count(),
                "load": round(os.getloadavg()[0], 1),
            }
        )
        note(f"{size:,} predictions: {seconds:.1f} s, {peak / 1e6:,.0f} MB")
    if out:
        out.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    print_json(records)


def _lines(texts: Sequence[str], size: int) -> Iterator[dict[str, Any]]:
    dice = random.Random(0)
    for number in range(size):
        reference, prediction, teacher = (_changed(dice.choice(texts), number, dice) for _ in range(3))
        tokens, teacher_tokens = (_tokens(len(java_tokens(reference)) + 1, dice, signal) for signal in (True, False))
        yield {
            "id": str(number), "reference": reference, "prediction": prediction, "teacher_prediction": teacher,
            "tokens": tokens, "teacher_tokens": teacher_tokens,
        }  # fmt: skip


def _changed(text: str, number: int, dice: random.Random) -> str:
    """The text with a number that makes it its own, and sometimes without one of its characters."""
    first = text.find("(") + 1
    text = f"{text[:first]}{number}, {text[first:]}"
    where = dice.randrange(len(text))
    return text[:where] + text[where + 1 :] if dice.random() < 0.5 else text


def _tokens(length: int, dice: random.Random, signal: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "nll": [round(dice.expovariate(1), 6) for _ in range(length)],
        "confidence": [round(dice.random(), 6) for _ in range(length)],
        "correct": [dice.random() < 0.6 for _ in range(length)],
        "critical": {"junit": [0], "structure": [length - 1]},
    }
    if signal:
        found["temperature"] = 2.0
        found["teacher_kl"] = [round(dice.expovariate(2), 6) for _ in range(length)]
        found["teacher_agrees"] = [dice.random() < 0.7 for _ in range(length)]
    return found


def _run(path: Path, into: Path, names: Sequence[str], draws: int) -> tuple[float, float, int]:
    """Seconds of `kdeval score`, of processors, and the most bytes that it and its children held at a time."""
    program = Path(sys.executable).with_name("kdeval")
    command = [str(program), "score", str(path), "--into", str(into), "--metrics", ",".join(names)]
    started, before, peak = time.monotonic(), _cpu(), 0
    with subprocess.Popen([*command, "--draws", str(draws)], stdout=subprocess.DEVNULL) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, _own(watched))
            time.sleep(0.02)
    if process.returncode:
        raise click.ClickException(f"kdeval score ended with {process.returncode}.")
    return time.monotonic() - started, _cpu() - before, peak


def _cpu() -> float:
    """Seconds that ended children have had of processors."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _own(process: psutil.Process) -> int:
    """Bytes that a process and its children have for themselves; 0 where one has just ended."""
    try:
        return sum(int(one.memory_full_info().uss) for one in (process, *process.children(recursive=True)))
    except psutil.NoSuchProcess:
        return 0


def _by_metric(predictions: Path, names: Sequence[str]) -> dict[str, float]:
    """Seconds of each metric's `measure`."""
    spent: dict[str, float] = {}
    samples = list(read_predictions(predictions))
    for metric in choose(names, Context(), _GROUPS).metrics:
        assert isinstance(metric, Measured)  # no composite one has inputs of these groups
        started = time.perf_counter()
        for start in range(0, len(samples), _CHUNK):
            metric.measure(samples[start : start + _CHUNK])
        spent[metric.name] = round(time.perf_counter() - started, 3)
    return spent


if __name__ == "__main__":
    main()
