"""``kdstore inspect``."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.tree import Tree

from kdstore.console import print_json, stdout

if TYPE_CHECKING:
    from kdstore.store.reader import Store


@click.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def inspect(store: Path, as_json: bool) -> None:
    """Show what STORE holds: rows, columns and their sizes, codec, and where it came from.

    \b
    Example:
        kdstore inspect train.kd
        kdstore inspect train.kd --json
    """
    from kdstore.store.reader import Store

    opened = Store(store)
    columns = _columns(opened)
    if as_json:
        head = opened.head.model_dump(mode="json", by_alias=True)
        print_json(_totals(opened) | {"columns": columns, "head": head})
        return
    _print_tree(opened)
    _print_columns(opened, columns)


def _totals(store: "Store") -> dict[str, Any]:
    manifest = store.manifest
    return {
        "store": str(store.root),
        "fingerprint": manifest.fingerprint,
        "rows": manifest.rows,
        "label_tokens": manifest.label_tokens,
        "parts": len(manifest.parts),
        "blocks": len(store.blocks()),
        "signal_bytes_per_token": round(manifest.signal_bytes_per_token, 2),
        "bytes": sum(part.bytes for part in manifest.parts),
        "lost_parts": manifest.lost,
        "lost_rows": manifest.lost_rows,
        "shared_bytes": sum(file.bytes for file in manifest.shared_files.values()),
    }


def _columns(store: "Store") -> dict[str, dict[str, Any]]:
    """Per array: dtype, axis, raw bytes, and bytes on disk with its metadata.

    In a tar file the arrays of a field lie together: its first array has the bytes of all, the others None.
    """
    import numpy as np

    firsts = {field.specs()[0].path: field.name for field in store.schema.fields}
    stored: Counter[str] = Counter()
    values: Counter[str] = Counter()
    specs = store.schema.specs()
    for ref in store.manifest.parts:
        record = store.part(ref.index).record
        for path, spec in specs.items():
            if record.tar is None:
                stored[path] += record.bytes_under(path)
            elif path in firsts:
                stored[path] += record.tar.field_bytes[firsts[path]]
            values[path] += record.extent(spec.axis) * int(np.prod(spec.shape))
    return {
        path: {
            "dtype": spec.dtype,
            "shape": [spec.axis, *spec.shape],
            "raw_bytes": values[path] * np.dtype(spec.dtype).itemsize,
            "stored_bytes": stored[path] if path in firsts or store.head.container == "zarr" else None,
        }
        for path, spec in specs.items()
    }


def _print_tree(store: "Store") -> None:
    head, totals = store.head, _totals(store)
    tree = Tree(f"[bold]{store.root}[/]  format {head.format_version}, fingerprint {totals['fingerprint']}")
    tree.add(
        f"{totals['rows']:,} rows, {totals['label_tokens']:,} label tokens, {totals['parts']:,} parts, "
        f"{totals['blocks']:,} blocks of {head.block_rows}, {totals['bytes']:,} bytes"
    )
    if store.manifest.lost:
        tree.add(f"lost: parts {', '.join(map(str, store.manifest.lost))} with {store.manifest.lost_rows:,} rows")
    tree.add(f"task {head.task}, {head.split}, seed {head.seed}, parts of {head.container}")
    if head.codec:
        settings = ", ".join(f"{key}={value}" for key, value in head.codec.config.items())
        tree.add(f"codec {head.codec.name} ({settings}): {totals['signal_bytes_per_token']} bytes per label token")
    else:
        tree.add("no teacher signal: tokens only")
    if head.teacher:
        tree.add(f"teacher {head.teacher.name}, weights {head.teacher.weights_sha256[:12]}, {head.teacher.dtype}")
    if head.imported:
        said = ", ".join(f"{key} {value}" for key, value in head.imported.settings.items())
        tree.add(f"imported from {head.imported.format}{f', {said}' if said else ''}")
    tree.add(f"tokenizer {head.tokenizer.sha256[:12]}, {head.tokenizer.vocab_size:,} ids")
    for column, fingerprint in head.encoders.items():
        tree.add(f"embeddings/{column}, weights {fingerprint[:12]}")
    for index, segment in enumerate(head.segments):
        verb = "appended" if index else "built"
        branch = tree.add(f"{verb}: {segment.rows:,} rows from source {segment.source_sha256[:12]}")
        branch.add(", ".join(f"{key} {value:,}" for key, value in segment.scan.items() if value))
        branch.add("written by " + ", ".join(f"{name} {version}" for name, version in segment.versions.items()))
    for ancestor in reversed(head.ancestors):
        changed = ", ".join(f"{key} {_brief(value)}" for key, value in ancestor.changes.items())
        tree.add(f"converted from {ancestor.fingerprint}: {changed}")
    stdout.print(tree)


def _brief(value: Any) -> str:
    """A change of a conversion; of a codec's request its name."""
    return str(value.get("codec", value)) if isinstance(value, dict) else str(value)


def _print_columns(store: "Store", columns: dict[str, dict[str, Any]]) -> None:
    table = Table(box=None)
    for title in ("array", "dtype", "shape"):
        table.add_column(title, no_wrap=True)
    for title in ("raw bytes", "stored", "ratio", "bytes/row"):
        table.add_column(title, justify="right")
    for path, column in columns.items():
        raw, stored = column["raw_bytes"], column["stored_bytes"]
        sizes = ("-",) * 3 if stored is None else (
            f"{stored:,}", f"{raw / max(1, stored):.1f}", f"{stored / max(1, store.rows):.1f}"
        )  # fmt: skip
        shape = f"[{', '.join(map(str, column['shape']))}]".replace("[", "\\[")
        table.add_row(path, column["dtype"], shape, f"{raw:,}", *sizes)
    stdout.print(table)
