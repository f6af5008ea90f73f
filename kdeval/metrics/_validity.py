"""What the metrics have in common that ask a parser whether a prediction is Java."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from kdeval.metrics import Direction, Floats, SampleMean
from kdeval.samples import Sample
from kdstore.parsing import MAX_CHARACTERS


class Validity(SampleMean):
    """Base of the metrics that are 1 where a parser accepts the prediction as the statements of a method body.

    At least one statement is needed, so an empty prediction, or one of comments only, is 0 whatever the reference;
    the reference is never looked at.
    """

    unit = "fraction"
    range = (0.0, 1.0)
    direction: ClassVar[Direction] = "higher"

    @abstractmethod
    def parse(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text, all of them different, is accepted."""

    def values(self, sample: Sample) -> tuple[float]:
        """Whether the prediction parses."""
        return (float(self.measure([sample])[0, 0]),)

    def measure(self, samples: Sequence[Sample]) -> Floats:
        """Whether each prediction parses, and a 1, float64 [N, 2]; equal ones are parsed once.

        Raises
        ------
        KDError
            The parser cannot run; see the metric's `parse`.
        """
        texts = list({sample.prediction: None for sample in samples})
        valid = dict(zip(texts, self.parse(texts), strict=True))
        return np.array([(valid[sample.prediction], 1.0) for sample in samples], np.float64)


def as_source(text: str) -> bytes | None:
    """The text in UTF-8, or None where it is not parsed.

    That is: longer than `MAX_CHARACTERS`, or with an unpaired surrogate, which no source file can hold.
    """
    if len(text) > MAX_CHARACTERS:
        return None
    try:
        return text.encode()
    except UnicodeEncodeError:
        return None
