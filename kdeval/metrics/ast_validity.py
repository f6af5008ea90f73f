"""Share of predictions that parse as Java."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import ClassVar

from javalang.parser import JavaSyntaxError, Parser
from javalang.tokenizer import EndOfInput, JavaToken, LexerError, tokenize

from kdeval.metrics import METRICS, Direction, Sample, SampleMean

# What javalang raises on text that is not Java. Beyond its two own errors these are slips: `do {` ends in
# StopIteration, the escape \u-bEf in ValueError, deep nesting in RecursionError.
_NOT_JAVA = (
    JavaSyntaxError,
    LexerError,
    StopIteration,
    ValueError,
    RecursionError,
    IndexError,
    TypeError,
    AttributeError,
)


@METRICS.register("ast_validity")
class AstValidity(SampleMean):
    """1 when javalang parses the prediction as the statements of a method body, else 0.

    The grammar is javalang's, Java 8: switch expressions and text blocks count as invalid. Several lines are
    several statements. At least one statement is needed, so an empty prediction, or one of comments only, is
    0 whatever the reference; the reference is never looked at. Types and names are not resolved.

    >>> AstValidity().values(Sample("1", "", "", prediction="assertEquals(1, f(x));"))
    (1.0,)
    """

    name = "ast_validity"
    title = "AST validity"
    unit = "fraction"
    range = (0.0, 1.0)
    direction: ClassVar[Direction] = "higher"
    good_at = 0.9

    @property
    def implementation(self) -> str:
        """The parser and its version."""
        return f"javalang {version('javalang')}"

    def values(self, sample: Sample) -> tuple[float]:
        """Whether the prediction parses."""
        return (float(parses_as_statements(sample.prediction)),)


def parses_as_statements(text: str) -> bool:
    """Whether ``text`` is one Java statement or more, by javalang."""
    try:
        # The line break ends a trailing comment, which would swallow the brace.
        tokens = list(tokenize(f"{{\n{text}\n}}"))
        if not _parentheses_match(tokens):
            return False
        parser = Parser(tokens)
        statements = parser.parse_block()
        # Text such as `} {` closes our brace early and leaves a rest behind.
        return bool(statements) and isinstance(parser.tokens.look(), EndOfInput)
    except _NOT_JAVA:
        return False


def _parentheses_match(tokens: Sequence[JavaToken]) -> bool:
    """Without this, javalang looks for ever for the end of an annotation like ``@A(``."""
    depth = 0
    for token in tokens:
        depth += (token.value == "(") - (token.value == ")")
        if depth < 0:
            return False
    return depth == 0
