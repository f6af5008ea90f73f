"""Similarity of prediction and reference in characters."""

from importlib.metadata import version
from typing import ClassVar

from rapidfuzz import fuzz

from kdeval.metrics import METRICS, Direction, SampleMean
from kdeval.samples import Sample
from kdeval.text import normalise_space


@METRICS.register("edit_similarity")
class EditSimilarity(SampleMean):
    """1 - d / (p + r), for p predicted and r expected characters and the least number d of edits between them.

    An edit inserts or deletes one character, so that d = p + r - 2 c with c the length of the longest common
    subsequence. White space is normalised first (`normalise_space`). Both empty: 1. One of them empty: 0.

    It is ``fuzz.ratio`` / 100, as in the evaluations of CodeXGLUE (Lu et al. 2021) and CrossCodeEval (Ding et al.
    2023). These take it from fuzzywuzzy, which rounds each pair to a whole percent, and which without
    python-Levenshtein uses difflib, whose numbers differ.

    >>> EditSimilarity().values(Sample("1", "", reference="f(ab);", prediction="f(b, c);"))  # 14 characters, 5 common
    (0.7142857142857143,)
    """

    name = "edit_similarity"
    title = "Edit similarity"
    unit = "fraction"
    range = (0.0, 1.0)
    direction: ClassVar[Direction] = "higher"

    @property
    def implementation(self) -> str:
        """The library and its version."""
        return f"rapidfuzz {version('rapidfuzz')}, fuzz.ratio"

    def values(self, sample: Sample) -> tuple[float]:
        """The similarity of one pair."""
        return (fuzz.ratio(normalise_space(sample.prediction), normalise_space(sample.reference)) / 100,)
