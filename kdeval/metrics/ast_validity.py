"""Share of predictions that parse as Java."""

from importlib.metadata import version
from typing import ClassVar

from kdeval.metrics import METRICS, Direction, Sample, SampleMean
from kdstore.java import parses_as_statements


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
