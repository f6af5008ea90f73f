"""Write the tables of docs/performance.md and the README from the records of tools/bench."""

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs/results"
COMMAND = "python tools/docs/fidelity.py"

Record = Mapping[str, Any]


_FULL = (
    "stored as", "bytes/token", "shared", "sum", "T = 1", "T = 2", "T = 4", "norm ratio",
    "KL at T = 1, mean (p99)", "encode, decode",
)  # fmt: skip


def full(records: Sequence[Record]) -> str:
    """Every setting: bytes, angles (mean and worst batch), norm ratio, KL, speed."""
    lines = [_row(_FULL), _row(["---"] * len(_FULL))]
    for name, at in _settings(records):
        first = next(iter(at.values()))
        size, shared = first["bytes_per_token"], first["shared_bytes_per_token"]
        angles = [_angle(at.get(T), worst=True) for T in (1.0, 2.0, 4.0)]
        ratios = " / ".join(f"{at[T]['norm_ratio']:.3f}" if T in at else "-" for T in (1.0, 2.0, 4.0))
        kl = at.get(1.0, first)
        divergence = "-" if kl["kl_mean"] is None else f"{kl['kl_mean']:.4f} ({kl['kl_p99']:.3f})"
        speed = ", ".join("-" if v is None else f"{v:,.0f}" for v in (first["encode_tok_s"], first["decode_tok_s"]))
        sizes = [f"{size:,.1f}", f"{shared:.1f}", f"{size + shared:,.1f}"]
        lines.append(_row([name, *sizes, *angles, ratios, divergence, speed]))
    return "\n".join(lines)


def short(records: Sequence[Record]) -> str:
    """Bytes and mean angles alone."""
    lines = [_row(["stored as", "bytes per token", "T = 1", "T = 2", "T = 4"]), _row(["---"] * 5)]
    for name, at in _settings(records):
        size = next(iter(at.values()))["bytes_per_token"]
        lines.append(_row([name, f"{size:,.0f}", *(_angle(at.get(T)) for T in (1.0, 2.0, 4.0))]))
    return "\n".join(lines)


def encode(records: Sequence[Record]) -> str:
    """What every codec adds to the teacher's forward pass."""
    first = records[0]
    lines = [_row(["codec", "ms per label token", "share of the teacher's time"]), _row(["---"] * 3)]
    lines += [_row([r["codec"], f"{r['ms_per_token']:.2f}", f"{r['share_of_teacher']:.1%}"]) for r in records]
    conditions = (
        f"The teacher takes {first['teacher_ms_per_token']:.0f} ms per label token, in batches of {first['rows']} "
        f"rows of {first['inputs']} input and {first['labels']} label tokens."
    )
    return "\n".join([*lines, "", conditions])


def conditions(records: Sequence[Record]) -> str:
    """What the figures of one file hold for, in a sentence."""
    first = records[0]
    return (
        f"{first['positions']:,} label positions that neither fit nor student has seen, in batches of at least "
        f"{first['batch_positions']:,}; gradients of a student that is {first['reference_kl']:.2f} nats from the "
        "teacher at T = 1."
    )


def replaced(text: str, name: str, content: str) -> str:
    """``text`` with what lies between the markers of ``name`` replaced."""
    start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, rest = text.split(start, 1)
    return f"{before}{start}{content}\n{rest[rest.index(end) :]}"


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
        found[page] = text
    return found


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


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
