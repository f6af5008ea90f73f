"""``kdstore import``."""

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from kdstore.commands._store_options import codec_options, layout_options, out_options, print_built, take_signal

_CAPTURE = ("logit_scale", "logit_dtype", "vocab_size", "temperature", "tail")


class _Temperature(click.ParamType[float | str]):
    """A temperature, or the word ``unknown``."""

    name = "T|unknown"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See `click.ParamType`."""
        return value if value == "unknown" else click.FLOAT.convert(value, param, ctx)


@click.command("import")
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--format", "format_name", required=True, help="Of SOURCES: predecessor, openai or distillkit.")
@out_options
@click.option("--tokenizer", required=True, help="Of the capture; directory or hub name.")
@click.option("--logit-scale", default=1.0, show_default=True, help="Factor that gives the teacher's logits.")
@click.option("--logit-dtype", type=click.Choice(["f16", "f32"]), help="Of raw logits that do not say it.")
@click.option("--vocab-size", type=click.IntRange(1), help="Ids that the teacher scores; the tokenizer's by default.")
@click.option("--temperature", type=_Temperature(), help="At which candidates were captured: 1, or unknown.")
@click.option(
    "--tail", type=click.Choice(["leftover", "unknown"]),
    help="Whether what candidates leave over of 1 is the mass of all other ids.",
)  # fmt: skip
@codec_options
@click.option("--max-input-len", type=click.IntRange(2), help="In tokens; by default 512, 8192 for sequences.")
@click.option("--max-output-len", type=click.IntRange(2), help="In tokens; by default 128, 8192 for sequences.")
@layout_options
def import_(sources: tuple[Path, ...], format_name: str, as_json: bool, max_input_len: int | None,
            max_output_len: int | None, **options: Any) -> None:  # fmt: skip
    """Turn signals that other tools have stored into a store.

    SOURCES are files or directories of one format: `predecessor`, JSON Lines with compressed logits; `distillkit`, a
    directory of parquet files with its compression_config.yaml; `openai`, JSON of vLLM or OpenAI servers with
    logprobs or prompt_logprobs. See docs/migrating.md.

    Full logits are kept with any codec, which is fitted and measured as in a build. Candidates are kept with topk,
    at T = 1 only: what other temperatures would need was never captured. Where a file does not say at which
    temperature it was captured, or what the mass outside its candidates is, you must: --temperature, --tail.

    --embed keeps embeddings of the reference text, as in a build: the default loss of `kdtrain student` needs one.
    Rows of `predecessor` have such a text; sequences have none.

    Bad rows are left out, counted, and listed in STORE/quarantine.jsonl. An interrupted import continues when the
    same command is run again.

    \b
    Example:
        kdstore import distillation_data.jsonl --format predecessor --tokenizer Salesforce/codet5p-220m --out train.kd
        kdstore import rows.jsonl --format predecessor --tokenizer T --out train.kd --embed minilm=ENCODER
        kdstore import captured/ --format distillkit --tokenizer T --temperature 1 --tail leftover --out train.kd
    """
    from kdstore.encode.build import BuildOptions
    from kdstore.encode.fit import SignalOptions
    from kdstore.importers import IMPORTERS, CaptureSettings
    from kdstore.importers._run import CANDIDATES_CODEC, ImportOptions, import_stores
    from kdstore.validation import parse

    settings = parse(CaptureSettings, {name: options.pop(name) for name in _CAPTURE}, "settings of the capture")
    codec_given = click.get_current_context().get_parameter_source("codec") is not ParameterSource.DEFAULT
    if IMPORTERS.get(format_name).sparse and not codec_given:
        options["codec"] = CANDIDATES_CODEC
    built = import_stores(
        ImportOptions(
            format=format_name,
            settings=settings,
            build=BuildOptions(rows=sources, signal=SignalOptions(**take_signal(options)), **options),
            max_tokens=(max_input_len, max_output_len),
        )
    )
    print_built(built, as_json)
