"""Measure what damage every reader notices, and write the table of docs/reliability.md from the record."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import marked

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/reliability.md"
RECORD = ROOT / "docs/results/reliability.json"
CRASHES = ROOT / "docs/results/crash.json"
COMMAND = "python tools/docs/reliability.py"

_READERS = ("zarr-python", "zarrs")
_WAYS = ("whole", "aligned", "partial")


def damage(record: Mapping[str, Any]) -> str:
    """A row for each kind of damage, a column for each reader."""
    versions = record["versions"]
    others = [f"zarr-python {versions['zarr']}", f"zarrs {versions['zarrs']}"]
    head = ["damage", "n", "`verify`", "`verify --quick`", "reader", *others]
    rows = []
    for kind, columns in record["counts"].items():
        total = sum(next(iter(columns.values())).values())
        ours = [_noticed(columns.get(column), total) for column in ("verify", "verify --quick", "reader")]
        theirs = [_ways([columns.get(f"{reader} {way}") for way in _WAYS]) for reader in _READERS]
        rows.append([kind, str(total), *ours, *theirs])
    return marked.table(head, rows)


def crashes(records: Sequence[Mapping[str, Any]]) -> str:
    """A row for each scenario and signal that `tools/crash.py` has tried."""
    titles = ["stopped by", "what", "stops", "at a step", "one of several", "of a later run", "failures"]
    rows = []
    for r in records:
        counts = (r["stops"], r["at_a_step"], r["of_one_writer"], r["of_a_later_run"], len(r["failures"]))
        rows.append([f"SIG{r['signal']}", r["scenario"], *map(str, counts)])
    return marked.table(titles, rows)


def _noticed(counts: Mapping[str, int] | None, total: int) -> str:
    if counts is None:
        return "-"
    noticed = counts.get("noticed", 0)
    if counts.get("right", 0) == total:
        return "not read"
    return f"{noticed} of {total}"


def _ways(columns: list[Mapping[str, int] | None]) -> str:
    """How often each way of reading noticed, gave wrong values, or ended the process; once where all ways agree."""
    if columns[0] is None:
        return "-"
    texts = [_outcome(counts or {}) for counts in columns]
    return texts[0] if len(set(texts)) == 1 else "; ".join(f"{w}: {t}" for w, t in zip(_WAYS, texts, strict=True))


def _outcome(counts: Mapping[str, int]) -> str:
    parts = [str(counts.get("noticed", 0))]
    parts += [
        f"**{counts[bad]} {word}**" for bad, word in (("wrong", "wrong"), ("aborted", "abort")) if bad in counts
    ]
    return ", ".join(parts)


def page() -> str:
    """The page as it should be."""
    text = PAGE.read_text(encoding="utf-8")
    text = marked.replaced(text, "matrix", damage(json.loads(RECORD.read_text(encoding="utf-8"))))
    return marked.replaced(text, "crashes", crashes(json.loads(CRASHES.read_text(encoding="utf-8"))))


def main() -> None:
    """Run the test that measures, then write the page."""
    test = ["tests/hostile/test_matrix.py", "-k", "measured or noticed"]
    environment = {**os.environ, "KDSTORE_RELIABILITY_JSON": str(RECORD)}
    subprocess.run([sys.executable, "-m", "pytest", "-q", *test], cwd=ROOT, env=environment, check=True)
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE.relative_to(ROOT))


if __name__ == "__main__":
    main()
