"""``kdstore preview``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from kdstore.console import print_json, stdout

if TYPE_CHECKING:
    from kdstore.codecs import Codec
    from kdstore.store.reader import Store


@click.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--rows", default=3, show_default=True, type=click.IntRange(1), help="How many rows to show.")
@click.option("--candidates", default=3, show_default=True, type=click.IntRange(1), help="Teacher's ids per token.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
def preview(store: Path, rows: int, candidates: int, as_json: bool) -> None:
    """Show rows of STORE as text, each label token beside the teacher's likeliest ones.

    Probabilities are those at T = 1, or at the temperature nearest to it that the store can serve. Of draws their
    weights are shown.

    \b
    Example:
        kdstore preview val.kd --rows 2
    """
    from kdstore.encode.tokenizer import Tokenizer
    from kdstore.store.reader import Store

    opened = Store(store)
    tokenizer = Tokenizer(opened.tokenizer_path)
    codec = opened.codec()
    shown = _read(opened, rows)
    samples = [_sample(row, tokenizer.backend, codec, candidates) for row in shown]
    if as_json:
        print_json(samples)
        return
    for sample in samples:
        _print(sample)


def _read(store: "Store", rows: int) -> list[dict[str, Any]]:
    blocks = list(store.scan(limit=rows))
    return [block.row(index) for block in blocks for index in range(block.rows)][:rows]


def _sample(row: dict[str, Any], tokenizer: Any, codec: "Codec[Any] | None", candidates: int) -> dict[str, Any]:
    sample = {
        "id": row["id"],
        "input": tokenizer.decode(row["input_ids"], skip_special_tokens=True),
        **{name: value for name, value in row.items() if name.startswith("text/")},
        "tokens": [{"label": tokenizer.decode([int(token)])} for token in row["labels"]],
    }
    if codec is None:
        return sample
    sample["teacher_values"], likeliest = _likeliest(row["teacher"], codec, candidates)
    for token, likely, logprob in zip(sample["tokens"], likeliest, row["label_logprob"], strict=True):
        token["log_prob"] = round(float(logprob), 3)
        token["teacher"] = [[tokenizer.decode([index]), round(probability, 4)] for index, probability in likely]
    return sample


def _likeliest(arrays: Any, codec: "Codec[Any]", candidates: int) -> tuple[str, list[list[tuple[int, float]]]]:
    """What the values are; and per label token the first candidates' ids with their values."""
    import torch

    from kdstore.codecs import DenseSignal, SampledSignal

    T = min(codec.temperatures or (1.0,), key=lambda T: abs(T - 1))
    signal = codec.decode({name: torch.from_numpy(array.copy()) for name, array in arrays.items()}, T)
    if isinstance(signal, DenseSignal):
        ids_LK, values_LK = None, signal.log_probs(T).exp()
    else:
        ids_LK = signal.ids_LK
        values_LK = signal.weights_LK if isinstance(signal, SampledSignal) else signal.log_probs_LK.exp()
    values_LK, order_LK = values_LK.topk(min(candidates, values_LK.shape[1]), dim=-1)
    ids_LK = order_LK if ids_LK is None else ids_LK.gather(-1, order_LK)
    what = "weights of draws" if isinstance(signal, SampledSignal) else "probabilities"
    # Where a position has fewer candidates, the rest of its list is filled up with zeros.
    return f"{what} at T = {T:g}", [
        [(token, value) for token, value in zip(ids, values, strict=True) if value > 0]
        for ids, values in zip(ids_LK.tolist(), values_LK.tolist(), strict=True)
    ]


def _print(sample: dict[str, Any]) -> None:
    stdout.rule(f"row {sample['id']}")
    stdout.print(Text("\n".join(sample["input"].splitlines()[-12:]), style="dim"))
    for name, value in sample.items():
        if name.startswith("text/"):
            stdout.print(Text.assemble((f"{name.removeprefix('text/'):>20}  ", "bold"), value))
    values = f" ({sample['teacher_values']})" if "teacher_values" in sample else ""
    table = Table("label token", "log p", f"teacher's candidates{values}", box=None)
    for token in sample["tokens"]:
        likely = "  ".join(f"{text!r} {probability:.2f}" for text, probability in token.get("teacher", []))
        table.add_row(Text(repr(token["label"])), f"{token.get('log_prob', float('nan')):.2f}", Text(likely))
    stdout.print(table)
