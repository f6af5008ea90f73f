"""What the text metrics count: Java-like tokens, normalised lines, and the overlap of two bags."""

import re
from collections import Counter
from collections.abc import Hashable, Iterable

_TOKEN = re.compile(
    r"""
      "(?:\\.|[^"\\\n])*"                                  # string literal, on one line
    | '(?:\\.|[^'\\\n])*'                                  # character literal
    | 0[xX][0-9a-fA-F_]+[lL]?                              # hexadecimal number
    | \.?[0-9](?:[eE][+-][0-9]|[\w.])*                     # any other number
    | (?:[^\W\d]|\$)[\w$]*                                 # identifier or keyword
    | >>>= | <<= | >>= | >>> | \.\.\. | -> | :: | \+\+ | -- | && | \|\| | << | >> | [-+*/%&|^!=<>]=
    | \S                                                   # any other character, e.g. an unpaired quote
    """,
    re.VERBOSE,
)


def java_tokens(text: str) -> list[str]:
    """Split text the way a Java lexer would, without ever failing.

    Literals, numbers, identifiers and the longest operators are one token each; any other character that is
    not space is a token of its own. White space only separates, except inside literals. Comments are not
    special.
    """
    return _TOKEN.findall(text)


def normalise_space(text: str) -> str:
    """The text with every run of white space turned into one blank, and none at either end."""
    return " ".join(text.split())


def lines(text: str) -> set[str]:
    """The distinct lines that are not blank, each with its white space normalised."""
    return {normalised for line in text.splitlines() if (normalised := normalise_space(line))}


def overlap_f1(predicted: Iterable[Hashable], expected: Iterable[Hashable]) -> tuple[float, float, float]:
    """F1, precision and recall of two bags; all 1 when both are empty, all 0 when they share nothing."""
    predicted_bag, expected_bag = Counter(predicted), Counter(expected)
    if not predicted_bag and not expected_bag:
        return 1.0, 1.0, 1.0
    shared = (predicted_bag & expected_bag).total()
    if not shared:
        return 0.0, 0.0, 0.0
    precision, recall = shared / predicted_bag.total(), shared / expected_bag.total()
    return 2 * precision * recall / (precision + recall), precision, recall
