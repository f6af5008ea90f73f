"""Share of predictions that parse as Java 8."""

from collections.abc import Sequence
from importlib.metadata import version

from kdeval.metrics import METRICS
from kdeval.metrics._validity import Validity
from kdstore.parsing import ParserPool


@METRICS.register("ast_validity")
class AstValidity(Validity):
    """1 when javalang parses the prediction as the statements of a method body, else 0.

    The grammar is javalang's, Java 8: switch expressions and text blocks count as invalid. Several lines are
    several statements. At least one statement is needed, so an empty prediction, or one of comments only, is
    0 whatever the reference; the reference is never looked at. Types and names are not resolved.

    javalang can take for ever on a text that a model made up. It runs in a process beside this one, which lasts as
    long as one call; a text that it does not decide within `ParserPool`'s limits of time, memory and length is 0.

    >>> AstValidity().parse(["assertEquals(1, f(x));", "assertEquals(1, ;"])
    [True, False]
    """

    name = "ast_validity"
    title = "AST validity"
    good_at = 0.9

    @property
    def implementation(self) -> str:
        """The parser and its version."""
        return f"javalang {version('javalang')}"

    def parse(self, texts: Sequence[str]) -> list[bool]:
        """Whether javalang accepts each text.

        Raises
        ------
        TrainingError
            No process can be started.
        """
        with ParserPool() as parsers:
            return parsers.submit(texts).result()
