"""What the text metrics look at: Java-like tokens, assertion calls, normalised lines, the overlap of two bags."""

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from itertools import zip_longest
from typing import Final

# No literal is longer than 4,096 characters: a quote that nobody closes would be looked for in all of the text, again
# and again.
_TOKEN: Final = re.compile(
    r'''
      """[ \t\f]*\r?\n (?:\\[\s\S]|[^"\\]|"(?!"")){0,4096}+ """   # text block
    | "(?:\\.|[^"\\\n]){0,4096}+"                           # string literal, on one line
    | '(?:\\.|[^'\\\n]){0,4096}+'                           # character literal
    | 0[xX][0-9a-fA-F_]+[lL]?                              # hexadecimal number
    | \.?[0-9](?:[eE][+-][0-9]|[\w.])*                     # any other number
    | (?:[^\W\d]|\$)[\w$]*                                 # identifier or keyword
    | >>>= | <<= | >>= | >>> | \.\.\. | -> | :: | \+\+ | -- | && | \|\| | << | >> | [-+*/%&|^!=<>]=
    | \S                                                   # any other character, e.g. an unpaired quote
    ''',
    re.VERBOSE,
)
# What a lexer would skip comes first; a comment that nobody closes goes on to the end.
_CODE: Final = re.compile(rf"//[^\r\n]* | /\*[\s\S]*?(?:\*/|\Z) | {_TOKEN.pattern}", re.VERBOSE)
_COMMENT: Final = ("//", "/*")

_ASSERTION: Final = re.compile(r"assert[\w$]* | (?:expect|fail|verify)(?![a-z])[\w$]*", re.VERBOSE)
_NAME: Final = re.compile(r"(?:[^\W\d]|\$)[\w$]*")
_NO_METHODS: Final = frozenset(
    ("if", "for", "while", "switch", "try", "catch", "synchronized", "return", "throw", "yield", "case")
)
_CLASSES: Final = (
    "org.junit.Assert",
    "org.junit.jupiter.api.Assertions",
    "junit.framework.Assert",
    "org.testng.Assert",
    "org.assertj.core.api.Assertions",
    "Assert",
    "Assertions",
)
_QUALIFIERS: Final = [re.findall(r"\w+|\.", f"{name}.") for name in _CLASSES]


def java_tokens(text: str) -> list[str]:
    """Split text the way a Java lexer would, without ever failing.

    Literals, numbers, identifiers and the longest operators are one token each; any other character that is
    not space is a token of its own. White space only separates, except inside literals. Comments are not
    special.
    """
    return _TOKEN.findall(text)


def code_tokens(text: str) -> list[str]:
    """`java_tokens` of the text without its comments; one that is not closed goes on to the end of the text."""
    return [token for token in _CODE.findall(text) if not token.startswith(_COMMENT)]


def assertion_tokens(text: str) -> list[str]:
    """The tokens of an assertion, without what does not change its meaning.

    Of `code_tokens`, two things are dropped. First, before the call of an assertion method (see `is_assertion`) the
    class that it is of, with or without its package, where that is ``Assert`` of JUnit 3 and 4 (``junit.framework``,
    ``org.junit``) and TestNG (``org.testng``) or ``Assertions`` of JUnit 5 (``org.junit.jupiter.api``) and AssertJ
    (``org.assertj.core.api``). Second, the last token if it is a semicolon.

    >>> assertion_tokens("Assert.assertNull(map.get(1)); // none")
    ['assertNull', '(', 'map', '.', 'get', '(', '1', ')', ')']
    """
    tokens: list[str] = []
    for token, following in _pairs(code_tokens(text)):
        if following == "(" and is_assertion(token):
            _drop_qualifier(tokens)
        tokens.append(token)
    return tokens[:-1] if tokens[-1:] == [";"] else tokens


def is_assertion(name: str) -> bool:
    """Whether methods of this name assert: it begins with ``assert``, or with the word expect, fail or verify.

    These are words where no small letter follows: ``verifyNoInteractions``, but not ``verified``.
    """
    return _ASSERTION.fullmatch(name) is not None


def assertion_kind(text: str) -> str:
    """The name of the assertion method that the text calls, ``other`` for other calls only, ``none`` for no call.

    A call is a name before an opening parenthesis, outside of strings and comments. Of several assertions
    (`is_assertion`) the outermost counts, that is the one within the fewest parentheses, and of those the first. So
    ``assertThat(x).isEqualTo(y)`` is ``assertThat``, and ``run(() -> fail())`` is ``fail``. The statement
    ``assert x;`` is ``assert``. Parentheses need not match.

    >>> [assertion_kind(text) for text in ("Assert.assertEquals(1, f());", "f(x);", "// assertTrue(x);")]
    ['assertEquals', 'other', 'none']
    """
    calls: list[tuple[int, str]] = []
    depth = 0
    for token, following in _pairs(code_tokens(text)):
        if token == "(":
            depth += 1
        elif token == ")":
            depth = max(0, depth - 1)
        elif token == "assert" or (following == "(" and _is_method(token)):
            calls.append((depth, token))
    assertions = [call for call in calls if is_assertion(call[1])]
    if assertions:
        return min(assertions, key=lambda call: call[0])[1]
    return "other" if calls else "none"


def _pairs(tokens: Sequence[str]) -> Iterable[tuple[str, str]]:
    """Each token and the one after it."""
    return zip_longest(tokens, tokens[1:], fillvalue="")


def _is_method(token: str) -> bool:
    return token not in _NO_METHODS and _NAME.fullmatch(token) is not None


def _drop_qualifier(tokens: list[str]) -> None:
    """Drop a class of assertions from the end, unless it is the end of a longer name."""
    for qualifier in _QUALIFIERS:
        start = len(tokens) - len(qualifier)
        if tokens[-len(qualifier) :] == qualifier and tokens[max(start - 1, 0) : start] != ["."]:
            del tokens[start:]
            return


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
