"""Share of predictions that parse as Java."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import ClassVar

import numpy as np

from kdeval.metrics import METRICS, Direction, Sample, SampleMean, Stats
from kdtrain.losses._parsing import ParserPool


@METRICS.register("ast_validity")
class AstValidity(SampleMean):
    """1 when javalang parses the prediction as the statements of a method body, else 0.

    The grammar is javalang's, Java 8: switch expressions and text blocks count as invalid. Several lines are
    several statements. At least one statement is needed, so an empty prediction, or one of comments only, is
    0 whatever the reference; the reference is never looked at. Types and names are not resolved.

    javalang can take for ever on a text that a model made up. It runs in a process beside this one, which lasts as
    long as one call; a text that it does not decide within `ParserPool`'s limits of time, memory and length is 0.

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
        return (float(self.measure([sample])[0, 0]),)

    def measure(self, samples: Sequence[Sample]) -> Stats:
        """Whether each prediction parses, float64 [N, 1]; equal ones are parsed once.

        Raises
        ------
        TrainingError
            No process can be started.
        """
        texts = list({sample.prediction: None for sample in samples})
        with ParserPool() as parsers:
            valid = dict(zip(texts, parsers.submit(texts).result(), strict=True))
        return np.array([[valid[sample.prediction]] for sample in samples], np.float64)
