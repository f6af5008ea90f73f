"""Tables of what losses cost and what they move, from the records of tools/bench and tools/ablation.py."""

from collections.abc import Mapping, Sequence
from typing import Any

from marked import table

Record = Mapping[str, Any]

_CASES = {
    "ce": "cross-entropy alone",
    "dense_ce_kl": "ce + kl, written out",
    "predecessor_jsd": "JSD as the predecessor wrote it",
    "ours_ce_kl": "ce + kl",
    "ours_focal_jsd": "focal + jsd",
}


def loss(records: Sequence[Record]) -> str:
    """Time as multiples of cross-entropy's, and memory, by size."""
    tables = []
    for tokens, dim in sorted({(record["tokens"], record["dim"]) for record in records}):
        found = [record for record in records if (record["tokens"], record["dim"]) == (tokens, dim)]
        ce_s = next(record["seconds"] for record in found if record["name"] == "ce")
        titles = [f"{tokens:,} tokens, d = {dim}", "times cross-entropy", "peak MB", "off the dense result"]
        rows = [
            [
                " from ".join(filter(None, [_CASES[record["name"]], record["codec"]])),
                f"{record['seconds'] / ce_s:.2f}", f"{record['peak_mb']:,.0f}",
                f"{record['gradient_error']:.0e}" if "gradient_error" in record else "-",
            ]
            for record in found
        ]  # fmt: skip
        tables.append(table(titles, rows))
    return "\n\n".join(tables)


def students(records: Sequence[Record]) -> str:
    """Held-out losses of students by signal, their distance from the dense student of the same seed, and chance."""
    rows = []
    for T in sorted({record["temperature"] for record in records}):
        at = [record for record in records if record["temperature"] == T]
        first = min(record["seed"] for record in at)
        dense = [record for record in at if record["codec"] == "dense"]
        own = next(record for record in dense if record["seed"] == first)
        for record in [record for record in at if record["seed"] == first]:
            cells = [f"{T:g}", record["codec"]]
            for name in ("ce", "kl"):
                off = "" if record is own else f" ({record[name] / own[name] - 1:+.1%})"
                cells.append(f"{record[name]:.4f}{off}")
            rows.append(cells)
        spread = [max(one[name] for one in dense) - min(one[name] for one in dense) for name in ("ce", "kl")]
        shares = [f"{width:.4f} ({width / own[name]:.1%})" for width, name in zip(spread, ("ce", "kl"), strict=True)]
        rows.append([f"{T:g}", f"spread of {len(dense)} seeds, dense", *shares])
    kept = records[0]
    conditions = (
        f"Students of the preset `{kept['preset']}`, {kept['steps']:,} steps of ce + kl at a constant T; means over "
        f"{kept['val_tokens']:,.0f} held-out label tokens, in nats; KL is T^2 KL(p_T || q_T) against the running "
        "teacher. In parentheses: against the dense student of the same seed."
    )
    return f"{table(['T', 'signal', 'cross-entropy', 'KL'], rows)}\n\n{conditions}"


def ablation(records: Sequence[Record]) -> str:
    """What each run moved: its own components, then what is generated."""
    measures = {
        "f1": ("token F1", 100, "{:.1f}"),
        "bleu": ("BLEU", 1, "{:.1f}"),
        "ast_validity": ("AST validity", 100, "{:.1f}"),
        "loss": ("cross-entropy", 1, "{:.3f}"),
        "critical_accuracy": ("critical tokens", 100, "{:.1f}"),
        "other_accuracy": ("other tokens", 100, "{:.1f}"),
    }
    ce_ms = next(record["step_ms"] for record in records if record["name"] == "ce")
    titles = [
        "trained with",
        "its components, before and after",
        "step",
        *(title for title, _, _ in measures.values()),
    ]
    rows = [["(before)", "", "", *_cells(records[0]["before"], measures)]]
    for record in records:
        own = ", ".join(f"{name} {a:.3f} to {b:.3f}" for name, (a, b) in record["components"].items())
        rows.append([record["name"], own, f"{record['step_ms'] / ce_ms:.2f}", *_cells(record["after"], measures)])
    first = records[0]
    conditions = (
        f"{first['steps']} steps each from one student, the same batches, lr {first['lr']:g}; components are means "
        f"over all held-out rows, `step` is the median time of a step as a multiple of ce's, texts are generated for "
        f"{first['rows']} held-out rows; the last two columns are teacher-forced accuracies, in percent as F1 and "
        "validity."
    )
    return f"{table(titles, rows)}\n\n{conditions}"


def whole_runs(records: Sequence[Record]) -> str:
    """Whole runs of each loss: values, and differences from the first with their intervals."""
    measures = {
        "f1": ("token F1", 100, 1),
        "ast_validity": ("AST validity", 100, 1),
        "token_accuracy": ("token accuracy", 100, 1),
        "loss": ("cross-entropy", 1, 3),
    }
    rows = []
    for record in records:
        cells = [record["name"]]
        for name, (_, scale, digits) in measures.items():
            found = record["metrics"][name]
            seeds = " and ".join(f"{scale * value:.{digits}f}" for value in found["by_seed"])
            cell = f"{scale * found['value']:.{digits}f} ({seeds})"
            if "difference" in found:
                low, high = (f"{scale * end:+.{digits}f}" for end in found["difference_interval"])
                cell += f"; {scale * found['difference']:+.{digits}f}, {low} to {high}"
            cells.append(cell)
        rows.append(cells)
    first = records[0]
    conditions = (
        f"{first['steps']:,} steps over the same rows, means of {first['seeds']} seeds (each in parentheses), "
        f"{first['rows']:,} held-out rows; then the difference from {first['name']}, paired by row, and its 95 % "
        "bootstrap interval over rows."
    )
    return f"{table(['loss', *(title for title, _, _ in measures.values())], rows)}\n\n{conditions}"


def _cells(values: Record, measures: Mapping[str, tuple[str, float, str]]) -> list[str]:
    return [form.format(scale * values[name]) for name, (_, scale, form) in measures.items()]
