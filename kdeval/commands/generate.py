"""``kdeval generate``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from rich.table import Table
from rich.text import Text

from kdeval.bounds import MAX_BEAMS, MAX_TOKENS
from kdstore.console import note, print_json, stdout
from kdstore.errors import InputError, UsageError

if TYPE_CHECKING:
    from kdeval.generate import Candidate, Proposal

_MAX_BYTES: Final = 1_000_000
_STDIN: Final = Path("-")
_FILE = click.Path(path_type=Path)


@click.command()
@click.option("--model", required=True, type=click.Path(path_type=Path), help="Directory of a seq2seq model.")
@click.option("--focal", required=True, type=_FILE, help="File with the method under test; - is standard input.")
@click.option("--test", required=True, type=_FILE, help="File with the test up to the assertion; - likewise.")
@click.option(
    "--num", default=5, show_default=True, type=click.IntRange(1, MAX_BEAMS), help="Candidates, or draws, at most."
)
@click.option(
    "--num-beams", type=click.IntRange(1, MAX_BEAMS), help="Width of the search; default: as --num, at least 5."
)
@click.option("--sample", is_flag=True, help="Draw each candidate instead of searching for the likeliest.")
@click.option("--sampling-temperature", default=1.0, show_default=True, help="With --sample: of the draws.")
@click.option("--top-p", default=1.0, show_default=True, help="With --sample: draw from the likeliest of this mass.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="With --sample: of the draws.")
@click.option(
    "--max-input-len", "max_input_tokens", default=512, show_default=True, type=click.IntRange(2, MAX_TOKENS),
    help="Longest prompt in tokens; the end of a longer one is kept.",
)  # fmt: skip
@click.option(
    "--max-output-len", "max_output_tokens", default=128, show_default=True, type=click.IntRange(2, MAX_TOKENS),
    help="Longest assertion in tokens.",
)  # fmt: skip
@click.option("--valid-only", is_flag=True, help="Leave out what javalang or tree-sitter does not parse.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--json", "as_json", is_flag=True, help="Print candidates, prompt, settings and weights hash as JSON.")
def generate(model: Path, focal: Path, test: Path, as_json: bool, **settings: Any) -> None:
    """Propose assertions for a Java method and a test of it.

    FOCAL holds the method under test, or its class. TEST holds the test up to where the assertion belongs: a test
    method, or a file with a test class, of which the last method is used. Where a closing brace ends that method,
    the brace and what follows are left out, so that the assertion comes last in its body. A TEST in which no method
    can be made out, such as bare statements, is used as it is. What is left out is said on standard error. Both
    texts are moved left by the indentation of their first line, as `kdstore mine` does.

    Candidates come from a beam search, or from --num independent draws with --sample. Those that differ in white
    space only are one. They are ranked by the mean log-probability of their tokens, the end token included, that the
    model gives them when it is run over them (teacher-forced, at temperature 1), however they were found. The
    probability is that of the whole assertion.

    Nothing is hidden: a candidate that does not parse keeps its rank, and is marked. "does not parse" means by
    neither javalang (Java 8) nor tree-sitter (current Java, more lenient); "javalang only" and "tree-sitter only"
    that the other one refuses it. "no end" is an assertion cut at --max-output-len; its numbers are of that part.

    The same command prints the same, on the same machine.

    \b
    Example:
        kdeval generate --model results/run/final_model --focal Focal.java --test Test.java
        kdeval generate --model results/run/final_model --focal Focal.java --test - --num 3 --json < Test.java
        kdeval generate --model results/run/final_model --focal Focal.java --test Test.java --sample --top-p 0.9
    """
    if focal == test == _STDIN:
        raise UsageError("Expected --focal or --test as a file. Got - for both. Save one of them to a file.")
    texts = _read(focal, "--focal"), _read(test, "--test")

    from kdeval.generate import Settings, propose
    from kdstore.validation import parse

    proposal = propose(model, *texts, parse(Settings, settings, "settings"))
    _tell(proposal)
    if as_json:
        print_json(proposal.model_dump(mode="json"))
    else:
        stdout.print(_table(proposal.candidates))


def _read(path: Path, option: str) -> str:
    """The text of a file or of standard input."""
    name = "standard input" if path == _STDIN else str(path)
    if path == _STDIN and sys.stdin is None:
        raise InputError(f"Expected text for {option} on standard input. Got a closed one. Name a file.")
    try:
        with click.open_file(str(path), "rb") as file:
            content: bytes = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise InputError(
            f"Expected a text file for {option}. Got {name}: {error.strerror}. Check the path."
        ) from None
    if len(content) > _MAX_BYTES:
        raise InputError(
            f"Expected at most {_MAX_BYTES:,} bytes for {option}. Got more in {name}. Give the method alone."
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"Expected UTF-8 text for {option}. Got other bytes in {name}, the first at {error.start:,}. Convert it."
        ) from None
    if not text.strip():
        raise InputError(f"Expected Java for {option}. Got nothing but space in {name}. Write the method into it.")
    return text


def _tell(proposal: "Proposal") -> None:
    """What a user would not see from the candidates."""
    prompt, shown = proposal.prompt, len(proposal.candidates)
    if prompt.test_lines is None:
        note("no method can be made out in --test: it is used as it is")
    elif prompt.test_in_part:
        first, last = prompt.test_lines
        note(f"of --test, lines {first} to {last} are used: {prompt.test_method}, up to the end of its body")
    if prompt.cut_tokens:
        rest = "; nothing of --focal is left" if prompt.without_focal else ""
        note(f"the prompt is cut to {prompt.tokens:,} tokens: {prompt.cut_tokens:,} on the left are left out{rest}")
    if shown < proposal.settings.num or proposal.invalid:
        invalid = f", {proposal.invalid} do not parse" if proposal.settings.valid_only else ""
        note(f"{shown} of {proposal.written} texts that the model wrote: {proposal.repeated} repeat another{invalid}")


def _table(candidates: "list[Candidate]") -> Table:
    table = Table("", "assertion", box=None, pad_edge=False)
    for heading in ("probability", "log p per token", "kind", "parses"):
        table.add_column(heading, justify="left" if heading in ("kind", "parses") else "right")
    for each in candidates:
        table.add_row(
            str(each.rank), Text(_printable(each.assertion)), f"{each.probability:.2g}", f"{each.mean_log_prob:.3f}",
            each.kind, ", ".join(_marks(each)),
        )  # fmt: skip
    return table


def _marks(candidate: "Candidate") -> list[str]:
    parses = candidate.parses
    reads = {
        (True, True): "yes", (False, False): "does not parse",
        (True, False): "javalang only", (False, True): "tree-sitter only",
    }  # fmt: skip
    return [reads[parses.javalang, parses.tree_sitter], *(() if candidate.finished else ("no end",))]


def _printable(text: str) -> str:
    """The text without what a terminal would obey."""
    return "".join(letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in text)
