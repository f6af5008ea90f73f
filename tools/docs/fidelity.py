"""Write the tables of docs/performance.md and the README from the records of tools/bench."""

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from marked import replaced, row

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs/results"
COMMAND = "python tools/docs/fidelity.py"

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
    for page, table in ((ROOT / "docs/performance.md", full), (ROOT / "README.md", short)):
        text = page.read_text(encoding="utf-8")
        for path in sorted(RESULTS.glob("fidelity-*.json")):
            if f"<!-- {path.stem} -->" in text:
                records = json.loads(path.read_text(encoding="utf-8"))
                text = replaced(text, path.stem, f"{table(records)}\n\n{conditions(records)}")
        if "<!-- encode -->" in text:
            text = replaced(text, "encode", encode(json.loads((RESULTS / "encode.json").read_text(encoding="utf-8"))))
        if "<!-- store -->" in text:
            text = replaced(text, "store", store(json.loads((RESULTS / "store.json").read_text(encoding="utf-8"))))
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
    """Write both pages."""
    for page, text in pages().items():
        page.write_text(text, encoding="utf-8")
        print(page.relative_to(ROOT))


if __name__ == "__main__":
    main()
