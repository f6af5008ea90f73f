"""``kdstore build``."""

import tomllib
from pathlib import Path
from typing import Any

import click

from kdstore.console import print_json, stdout
from kdstore.errors import UsageError


@click.command()
@click.argument("rows", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The store to build.")
@click.option("--val-out", type=click.Path(path_type=Path), help="Build a validation store here too.")
@click.option("--val-rows", multiple=True, type=click.Path(path_type=Path), help="Rows of the validation store.")
@click.option(
    "--val-fraction", default=0.1, show_default=True, type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Without --val-rows: part of ROWS to hold out, by whole test files.",
)  # fmt: skip
@click.option("--teacher", help="Directory or hub name of a Hugging Face seq2seq model.")
@click.option("--tokenizer", help="Directory or hub name; the teacher's own by default.")
@click.option("--task", default="java_assertion", show_default=True, help="What is predicted.")
@click.option("--codec", default="topk", show_default=True, help="How the teacher's output is kept.")
@click.option("--codec-set", multiple=True, metavar="KEY=VALUE", help="A setting of the codec, such as k=64.")
@click.option("--no-teacher-prediction", is_flag=True, help="Do not generate and keep the teacher's own prediction.")
@click.option(
    "--embed", multiple=True, metavar="[COLUMN=]MODEL",
    help="Embed the gold text: 'codebert', or a sentence-transformers name or directory. May be repeated.",
)  # fmt: skip
@click.option("--max-input-len", default=512, show_default=True, type=click.IntRange(2), help="In tokens.")
@click.option("--max-output-len", default=128, show_default=True, type=click.IntRange(2), help="In tokens.")
@click.option(
    "--overlong", default="truncate", show_default=True, type=click.Choice(["truncate", "skip"]),
    help="Rows over a limit: keep the end of the input and the start of the output, or leave the row out.",
)  # fmt: skip
@click.option("--batch-size", default=64, show_default=True, type=click.IntRange(1), help="Rows per teacher batch.")
@click.option("--part-rows", default=1024, show_default=True, type=click.IntRange(1), help="Most rows per part.")
@click.option("--block-rows", default=128, show_default=True, type=click.IntRange(1, 4096), help="Rows per block.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option(
    "--dtype",
    default="fp32",
    show_default=True,
    type=click.Choice(["fp32", "bf16", "fp16"]),
    help="Number format of the teacher; fp16 needs a GPU.",
)
@click.option("--seed", default=42, show_default=True, type=click.IntRange(0), help="Of the split and of the order.")
@click.option("--limit", type=click.IntRange(1), help="Use only so many rows of each source.")
@click.option("--strict", is_flag=True, help="Stop at the first bad row instead of putting it in quarantine.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def build(rows: tuple[Path, ...], codec_set: tuple[str, ...], no_teacher_prediction: bool, as_json: bool,
          max_input_len: int, max_output_len: int, **options: Any) -> None:  # fmt: skip
    """Run a teacher over ROWS and keep its signal in a store.

    ROWS are JSON Lines files, plain or .gz, as `kdstore mine` writes them. The teacher reads the prompt and scores
    the reference; what the codec keeps of its output goes into the store, with the row's tokens, texts, the
    teacher's own prediction, and embeddings of the reference where asked. Rows are written in a shuffled order.

    Bad rows are left out, counted, and listed with their place and reason in STORE/quarantine.jsonl. An
    interrupted build continues when the same command is run again. Without --teacher the store holds tokens only.

    \b
    Example:
        kdstore build rows.jsonl --teacher teacher/final_model --out train.kd --val-out val.kd
        kdstore build rows.jsonl.gz --teacher T --out train.kd --codec topk --codec-set k=64
        kdstore build rows.jsonl --teacher T --out train.kd --embed minilm=sentence-transformers/all-MiniLM-L6-v2
    """
    from kdstore.encode.build import BuildOptions
    from kdstore.encode.build import build as run_build

    built = run_build(
        BuildOptions(
            rows=rows,
            codec_config=_settings(codec_set),
            predict=not no_teacher_prediction,
            max_input_tokens=max_input_len,
            max_output_tokens=max_output_len,
            **options,
        )
    )
    if as_json:
        print_json([
            {
                "store": str(b.path),
                "rows": b.manifest.rows,
                "label_tokens": b.manifest.label_tokens,
                "signal_bytes_per_token": round(b.manifest.signal_bytes_per_token, 2),
                "bytes": sum(part.bytes for part in b.manifest.parts),
                "scan": b.manifest.head.scan,
                "seconds": round(b.seconds, 1),
                "peak_rss_bytes": b.peak_rss_bytes,
            }
            for b in built
        ])  # fmt: skip
        return
    for b in built:
        stdout.print(
            f"{b.path}: {b.manifest.rows:,} rows, {b.manifest.label_tokens:,} label tokens, "
            f"{b.manifest.signal_bytes_per_token:.1f} signal bytes per token."
        )
    stdout.print(f"{built[0].seconds:.0f} s, peak memory {built[0].peak_rss_bytes / 2**20:,.0f} MiB.")


def _settings(pairs: tuple[str, ...]) -> dict[str, Any]:
    """KEY=VALUE pairs with values in TOML notation; a bare word is a string."""
    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"Expected --codec-set KEY=VALUE. Got {pair!r}.")
        try:
            settings[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            settings[key] = value
    return settings
