"""CodeBLEU for Java."""

from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, ClassVar

import numpy as np

from kdeval.metrics import METRICS, Direction, Floats, Summed, Values
from kdeval.metrics._codebleu_flow import data_flow
from kdeval.metrics._codebleu_tree import Shapes, parse
from kdeval.samples import Group, Sample
from kdeval.text import java_tokens

_ORDERS = 4
_MISSED = 0.1  # counts in place of no match at all (smoothing 1 of Chen and Cherry 2014)
_OTHER_WEIGHT = 0.2  # of a token that is no keyword; a keyword's is 1
# The published list: those of the Java Language Specification, chapter 3.9, without literals and contextual ones.
# fmt: off
_KEYWORDS = frozenset((
    "abstract", "assert", "boolean", "break", "byte", "case", "catch", "char", "class", "const", "continue",
    "default", "do", "double", "else", "enum", "extends", "final", "finally", "float", "for", "goto", "if",
    "implements", "import", "instanceof", "int", "interface", "long", "native", "new", "package", "private",
    "protected", "public", "return", "short", "static", "strictfp", "super", "switch", "synchronized", "this",
    "throw", "throws", "transient", "try", "void", "volatile", "while",
))
# fmt: on

_COUNTS = (
    *(f"matched_{n}" for n in range(1, _ORDERS + 1)),
    *(f"predicted_{n}" for n in range(1, _ORDERS + 1)),
    *(f"expected_{n}" for n in range(1, _ORDERS + 1)),
    "matched_keywords",
    "expected_keywords",
    "predicted_tokens",
    "expected_tokens",
    "matched_subtrees",
    "expected_subtrees",
    "matched_edges",
    "expected_edges",
)


@METRICS.register("codebleu")
class CodeBleu(Summed):
    r"""Mean of four shares: n-grams, weighted n-grams, syntax and data flow (Ren et al. 2020, arXiv:2009.10297).

    All counts are summed over the set, and n goes from 1 to 4.

    * ``codebleu_ngram``: :math:`\min(1, e^{1 - r/c}) (\prod_n p_n)^{1/4}` for c predicted and r expected tokens. p_n
      is the share of the prediction's n-grams that the reference has (clipped). Where none is found, 0.1 takes the
      place of the count.
    * ``codebleu_weighted_ngram``: :math:`(\prod_n r_n)^{1/4}`. r_n is the share of the reference's n-grams that the
      prediction has, smoothed in the same way; a single token weighs 1 if it is a keyword, 0.2 otherwise.
    * ``codebleu_syntax``: the share of the reference's subtrees (nodes with children) that are anywhere in the
      prediction's tree, without names, values and operators.
    * ``codebleu_dataflow``: the share of the reference's data-flow edges that the prediction has as often, with
      variables numbered in the order in which they are met.

    Without any common token the first two are 0. Tokens are those of `java_tokens`: the numbers do not compare with
    those of tokens between white space, which the published package takes by default. Comments count as tokens only.
    Trees are tree-sitter-java's, also of texts that are no Java. Of a text the first 20,000 characters are parsed.

    Nothing to find is all found: n-grams of an order for which both texts of a pair are too short are left out, and
    references without data flow (few assertions have any) give a data-flow share of 1, so that the value of such a
    pair is at least 0.25. Both texts empty: all 1. One of them empty: n-grams and syntax 0.

    Differs from ``codebleu`` 0.7.0 on PyPI, with which all parts agree otherwise:

    * Where no data-flow edge is found, the package's mean takes 1 in place of 0, so that all wrong counts more than
      half right. Where there is no edge, it calls the part 0, and its mean takes 1, as here.
    * Where both texts are too short for an n-gram, the package counts one that is not found, and it takes the weights
      of a reference's tokens for at least 1; so a short text is not like itself. Its brevity penalty for weighted
      n-grams takes every reference for 2 tokens long; that matters below two predicted tokens per pair.
    * The package lists the variables of a computed value in the order of a Python set, which changes from run to run
      (hash seed); here it is the order of the text.
    * The package cuts out variables at byte offsets, which are wrong behind a character that is not ASCII.
    * The package has no bound: loops 40 deep do not end. Here such a text has no data flow (see `MAX_STEPS`).

    >>> found = CodeBleu().score([Sample("1", "", reference="int a = b;", prediction="int a = c;")])
    >>> round(found["codebleu_ngram"], 4)  # fourth root of 4/5 2/4 1/3 0.1/2
    0.2857
    >>> round(found["codebleu_weighted_ngram"], 4)  # fourth root of 1.6/1.8 2/4 1/3 0.1/2
    0.2934
    >>> found["codebleu_syntax"], found["codebleu_dataflow"], round(found["codebleu"], 4)
    (1.0, 1.0, 0.6448)
    """

    name = "codebleu"
    title = "CodeBLEU"
    unit = "fraction"
    range = (0.0, 1.0)
    direction: ClassVar[Direction] = "higher"
    inputs: ClassVar[Group] = "text"
    parts = ("codebleu_ngram", "codebleu_weighted_ngram", "codebleu_syntax", "codebleu_dataflow")
    good_at = 0.3
    columns = _COUNTS
    aggregation = "one value for the set, from summed counts"

    @property
    def implementation(self) -> str:
        """This package, the grammar's version, and the tokenisation."""
        return f"{super().implementation}, tree-sitter-java {version('tree-sitter-java')}, tokens of java_tokens"

    def measure(self, samples: Sequence[Sample]) -> Floats:
        """Counts of each sample, float64 [N, 20]."""
        return np.array([_ngrams(sample) + _structure(sample) for sample in samples], np.float64)

    def of_sums(self, sums_BK: Floats) -> Values:
        """CodeBLEU and its parts from summed counts."""
        matched_BO, predicted_BO, expected_BO = (sums_BK[:, at : at + _ORDERS] for at in (0, _ORDERS, 2 * _ORDERS))
        keywords_B2, lengths_B2, subtrees_B2, edges_B2 = np.split(sums_BK[:, 3 * _ORDERS :], 4, axis=1)
        predicted_B, expected_B = lengths_B2.T
        brevity_B = np.exp(np.minimum(0, 1 - expected_B / np.maximum(1, predicted_B)))
        shares = (
            brevity_B * _mean_share(matched_BO, predicted_BO),
            _mean_share(_weighted(matched_BO, keywords_B2[:, 0]), _weighted(expected_BO, keywords_B2[:, 1])),
            _share(subtrees_B2),
            _share(edges_B2),
        )
        return {self.name: np.mean(shares, axis=0), **dict(zip(self.parts, shares, strict=True))}


def _ngrams(sample: Sample) -> list[int]:
    """What of_sums needs of the tokens: all but the last four columns."""
    predicted, expected = java_tokens(sample.prediction), java_tokens(sample.reference)
    matched = [_matched(_grams(predicted, n), _grams(expected, n)) for n in range(1, _ORDERS + 1)]
    keywords = [[token for token in tokens if token in _KEYWORDS] for tokens in (predicted, expected)]
    longer = max(len(predicted), len(expected))
    # Of two texts, one that is too short counts an n-gram that is not found.
    sizes = [
        max(1, len(tokens) - n + 1) if longer >= n else 0
        for tokens in (predicted, expected)
        for n in range(1, _ORDERS + 1)
    ]
    return [
        *matched, *sizes, _matched(*map(Counter, keywords)), len(keywords[1]), len(predicted), len(expected)
    ]  # fmt: skip


def _grams(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(tokens[start:] for start in range(n)), strict=False))


def _matched(predicted: Counter[Any], expected: Counter[Any]) -> int:
    return (predicted & expected).total()


def _structure(sample: Sample) -> list[int]:
    """Subtrees and data-flow edges of the reference: how many the prediction has, and how many there are."""
    shapes: Shapes = {}
    predicted, predicted_shapes = parse(sample.prediction, shapes)
    expected, expected_shapes = parse(sample.reference, shapes)
    known = set(predicted_shapes)
    edges = data_flow(expected)
    return [
        sum(shape in known for shape in expected_shapes),
        len(expected_shapes),
        _matched(data_flow(predicted), edges) if edges else 0,
        edges.total(),
    ]


def _weighted(counts_BO: Floats, keywords_B: Floats) -> Floats:
    """Counts by order, in which single tokens have their weights."""
    first_B = _OTHER_WEIGHT * counts_BO[:, 0] + (1 - _OTHER_WEIGHT) * keywords_B
    return np.column_stack([first_B, counts_BO[:, 1:]])


def _mean_share(found_BO: Floats, sizes_BO: Floats) -> Floats:
    """Geometric mean of found / sizes over the orders with a size; 0 where no token is found, 1 without tokens."""
    used_BO = sizes_BO > 0
    shares_BO = np.where(found_BO > 0, found_BO, _MISSED) / np.where(used_BO, sizes_BO, 1)
    logs_B = np.where(used_BO, np.log(shares_BO), 0).sum(1) / np.maximum(1, used_BO.sum(1))
    return np.where(used_BO[:, 0] & (found_BO[:, 0] == 0), 0, np.exp(logs_B))


def _share(counts_B2: Floats) -> Floats:
    """The first of each pair of counts divided by the second; 1 of nothing."""
    found_B, sizes_B = counts_B2.T
    return np.where(sizes_B > 0, found_B / np.maximum(1, sizes_B), 1)
