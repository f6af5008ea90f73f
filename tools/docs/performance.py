"""Write the tables of docs/performance.md, docs/losses.md and the README from the records in docs/results."""

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import losses
from marked import replaced, row, table

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs/results"
COMMAND = "python tools/docs/performance.py"

Record = Mapping[str, Any]


_FULL = (
    "stored as", "bytes/token", "shared", "sum", "T = 1", "T = 2", "T = 4", "norm ratio",
    "KL at T = 1, mean (p99)", "encode, decode",
)  # fmt: skip

_SHORT = ("lowrank", "topk-leftover-tail", "predecessor-4bit-jsonl", "lowrank-from-predecessor")


def full(records: Sequence[Record]) -> str:
    """Every setting: bytes, angles (mean and worst batch), norm ratio, KL, speed."""
    lines = [row(_FULL), row(["---"] * len(_FULL))]
    for name, at in _settings(records):
        first = next(iter(at.values()))
        size, shared = first["bytes_per_token"], first["shared_bytes_per_token"]
        angles = [_angle(at.get(T), worst=True) for T in (1.0, 2.0, 4.0)]
        ratios = " / ".join(f"{at[T]['norm_ratio']:.3f}" if T in at else "-" for T in (1.0, 2.0, 4.0))
        kl = at.get(1.0, first)
        divergence = "-" if kl["kl_mean"] is None else f"{kl['kl_mean']:.4f} ({kl['kl_p99']:.3f})"
        speed = ", ".join("-" if v is None else f"{v:,.0f}" for v in (first["encode_tok_s"], first["decode_tok_s"]))
        sizes = [f"{size:,.1f}", f"{shared:.1f}", f"{size + shared:,.1f}"]
        lines.append(row([name, *sizes, *angles, ratios, divergence, speed]))
    return "\n".join(lines)


def short(records: Sequence[Record]) -> str:
    """Bytes and mean angles alone, of the default codec and of what it is held against."""
    lines = [row(["stored as", "bytes per token", "T = 1", "T = 2", "T = 4"]), row(["---"] * 5)]
    for name, at in _settings([record for record in records if record["codec"] in _SHORT]):
        size = next(iter(at.values()))["bytes_per_token"]
        lines.append(row([name, f"{size:,.0f}", *(_angle(at.get(T)) for T in (1.0, 2.0, 4.0))]))
    return "\n".join(lines)


def encode(records: Sequence[Record]) -> str:
    """What every codec adds to the teacher's forward pass."""
    first = records[0]
    lines = [row(["codec", "ms per label token", "share of the teacher's time"]), row(["---"] * 3)]
    lines += [row([r["codec"], f"{r['ms_per_token']:.2f}", f"{r['share_of_teacher']:.1%}"]) for r in records]
    conditions = (
        f"The teacher takes {first['teacher_ms_per_token']:.0f} ms per label token, in batches of {first['rows']} "
        f"rows of {first['inputs']} input and {first['labels']} label tokens."
    )
    return "\n".join([*lines, "", conditions])


def store(record: Record) -> str:
    """Memory of a large build, opening of many parts, and speed against plain numpy files."""
    large, many = record["large_build"], record["many_parts"]
    lines = [
        f"A store of {large['bytes'] / 1e9:.1f} GB (every logit of a vocabulary of 8,192 in float32, "
        f"{large['parts']} parts) builds with a peak of {large['peak_rss_bytes'] / 1e9:.2f} GB, of which the teacher "
        f"and the libraries take {large['teacher_peak_rss_bytes'] / 1e9:.2f} GB. A store of {many['parts']:,} parts "
        f"opens in {many['open_seconds']:.1f} s; with the start of Python it takes "
        f"{many['open_seconds_with_imports']:.1f} s.",
        "",
        "Speeds as shares of those of `np.save` and `np.load` of the same arrays, with values that do not compress:",
        "",
        row(["signal bytes per token", "write a part", "read a part", "read random blocks"]),
        row(["---"] * 4),
    ]
    for at in record["throughput"]:
        shares = (at["write_of_numpy"], at["read_part_of_numpy"], at["read_blocks_of_numpy"])
        lines.append(row([f"{at['signal_bytes_per_token']:,}", *(f"{share:.1%}" for share in shares)]))
    return "\n".join(lines)


def loader(records: Sequence[Record]) -> str:
    """Loaders at the same records, by rows of a batch."""
    measured = [record for record in records if "batch_size" in record]
    columns = ("rows/s", "of ours", "rows per CPU second", "MB above imports", "planned MB", "MB on disk")
    tables = []
    for batch_rows in sorted({record["batch_size"] for record in measured}):
        found = [record for record in measured if record["batch_size"] == batch_rows]
        ours = next(record["rows_per_s"] for record in found if record["loader"] == "ours-zarr")
        titles = [f"{batch_rows} rows a batch", *columns, "design effect", "first batch s", "resumed s"]
        tables.append(table(titles, [_loader_cells(record, ours) for record in found]))
    order = next((record for record in records if record["loader"] == "order"), None)
    planned = (
        f"\n\nAn epoch of {order['rows']:,} rows is planned in {order['plan_s']:.2f} s and "
        f"{order['plan_peak_mb']:.0f} MB; the check of a state at 90 % of it takes "
        f"{order['digest_90_percent_s']:.2f} s."
        if order
        else ""
    )
    return "\n\n".join(tables) + planned


def _loader_cells(record: Record, ours: float) -> list[str]:
    def seconds(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    planned = record["planned_mb"]
    return [
        f"{record['loader']} {record['version']}", f"{record['rows_per_s']:,}", f"{record['rows_per_s'] / ours:.2f}",
        f"{record['rows_per_cpu_s']:,}", f"{record['peak_rss_mb'] - record['import_rss_mb']:,.0f}",
        "-" if planned is None else f"{planned:,.0f}", f"{record['bytes_on_disk'] / 1e6:,.0f}",
        f"{record['design_effect']:,.2f}", seconds(record["first_batch_s"]), seconds(record["resume_first_batch_s"]),
    ]  # fmt: skip


def overlap(record: Record) -> str:
    """What streaming adds to training steps."""
    return (
        f"Steps of a {record['preset']} student, {record['batch_size']} rows each, on {record['device']}: "
        f"{record['step_ms']:.1f} ms streamed and {record['step_from_memory_ms']:.1f} ms from memory, "
        f"{record['ratio']:.3f} times as long (medians of {record['steps']} steps each). Of the streamed time "
        f"{record['data_wait_share']:.2%} was waiting for data."
    )


def window(records: Sequence[Record]) -> str:
    """Streaming of stores of different sizes in a process of limited address space."""
    titles = ["store GB", "rows", "planned MB", "MB above imports", "peak MB", "seconds per epoch"]
    rows = [
        [
            f"{record['store_bytes'] / 1e9:.2f}", f"{record['rows']:,}", f"{record['planned_mb']:,.0f}",
            f"{record['peak_rss_mb'] - record['import_rss_mb']:,.0f}", f"{record['peak_rss_mb']:,.0f}",
            ", ".join(f"{seconds:.0f}" for seconds in record["epoch_s"]),
        ]
        for record in records
    ]  # fmt: skip
    return table(titles, rows)


def evaluate(records: Sequence[Record]) -> str:
    """Measuring of predictions, by their number."""
    titles = ["predictions", "seconds", "seconds of processors", "peak MB", "times the memory of the first"]
    rows = [
        [
            f"{record['predictions']:,}", f"{record['seconds']:.1f}", f"{record['cpu_seconds']:.1f}",
            f"{record['peak_mb']:,.0f}", f"{record['peak_mb'] / records[0]['peak_mb']:.2f}",
        ]
        for record in records
    ]  # fmt: skip
    last = records[-1]
    spent = sorted(last["seconds_by_metric"].items(), key=lambda item: -item[1])[:5]
    most = ", ".join(f"`{name}` {seconds:.1f}" for name, seconds in spent)
    return (
        f"{table(titles, rows)}\n\n{last['metrics']} metrics on {last['cores']} cores; load of the machine at the "
        f"end: {last['load']}. Seconds that single metrics take of the last line: {most}."
    )


def conditions(records: Sequence[Record]) -> str:
    """What the figures of one file hold for, in a sentence."""
    first = records[0]
    return (
        f"{first['positions']:,} label positions that neither fit nor student has seen, in batches of at least "
        f"{first['batch_positions']:,}; gradients of a student that is {first['reference_kl']:.2f} nats from the "
        "teacher at T = 1."
    )


def pages() -> dict[Path, str]:
    """The pages as they should be, by path."""
    found = {}
    for name, write_fidelity in (("docs/performance.md", full), ("docs/losses.md", full), ("README.md", short)):
        page = ROOT / name
        text = page.read_text(encoding="utf-8")
        for path in sorted(RESULTS.glob("fidelity-*.json")):
            if f"<!-- {path.stem} -->" in text:
                records = json.loads(path.read_text(encoding="utf-8"))
                text = replaced(text, path.stem, f"{write_fidelity(records)}\n\n{conditions(records)}")
        others = {
            "encode": encode, "store": store, "loader": loader, "overlap": overlap, "window": window,
            "loss": losses.loss, "students": losses.students, "ablation": losses.ablation,
            "whole_runs": losses.whole_runs, "evaluate": evaluate,
        }  # fmt: skip
        for record, write in others.items():
            if f"<!-- {record} -->" in text:
                found_there = json.loads((RESULTS / f"{record}.json").read_text(encoding="utf-8"))
                text = replaced(text, record, write(found_there))
        found[page] = text
    return found


def _settings(records: Sequence[Record]) -> list[tuple[str, dict[float, Record]]]:
    """Name and records by temperature of every setting."""
    found = []
    for (codec, settings), group in groupby(records, lambda r: (r["codec"], json.dumps(r["settings"]))):
        kept = {key: value for key, value in json.loads(settings).items() if key not in ("temperatures", "seed")}
        described = ", ".join(f"{key} {value}" for key, value in kept.items())
        found.append((f"{codec}: {described}" if described else codec, {r["temperature"]: r for r in group}))
    return found


def _angle(record: Record | None, worst: bool = False) -> str:
    if record is None:
        return "-"
    text = f"{record['angle_deg']:.1f}" if record["angle_deg"] >= 0.1 else f"{record['angle_deg']:.2f}"
    return f"{text} ({record['angle_worst_deg']:.1f})" if worst else text


def main() -> None:
    """Write all pages."""
    for page, text in pages().items():
        page.write_text(text, encoding="utf-8")
        print(page.relative_to(ROOT))


if __name__ == "__main__":
    main()
