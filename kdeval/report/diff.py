"""Which tokens of a text another one lacks, with the text itself kept as it is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Final

from kdeval.text import java_tokens

_MOST: Final = 400  # tokens of a text that is compared: the time grows with the square, at worst faster


@dataclass(frozen=True)
class Piece:
    """A piece of a text; ``differs`` where its tokens have no partner in the other text."""

    text: str
    differs: bool = False


def marked(text: str, other: str) -> list[Piece]:
    """``text`` in pieces, which together are the text; those differ whose Java-like tokens ``other`` lacks there.

    Tokens are paired by `difflib.SequenceMatcher`: in order, the longest runs first. White space alone is no
    difference. A text of more than 400 tokens is one piece.

    >>> [(piece.text, piece.differs) for piece in marked("f(a, 1);", "f(b,1);")]
    [('f(', False), ('a', True), (', 1);', False)]
    """
    tokens, others = java_tokens(text), java_tokens(other)
    if max(len(tokens), len(others)) > _MOST:
        return [Piece(text)]
    matcher = SequenceMatcher(None, others, tokens, autojunk=False)
    places = list(_places(text, tokens))
    runs = [
        (places[first][0], places[last - 1][1])
        for kind, _, _, first, last in matcher.get_opcodes()
        if kind in ("replace", "insert")
    ]
    return list(_pieces(text, runs))


def _places(text: str, tokens: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Where each token begins and ends: nothing but white space lies between them."""
    at = 0
    for token in tokens:
        start = text.index(token, at)
        at = start + len(token)
        yield start, at


def _pieces(text: str, runs: Sequence[tuple[int, int]]) -> Iterator[Piece]:
    at = 0
    for start, stop in runs:
        if start > at:
            yield Piece(text[at:start])
        yield Piece(text[start:stop], differs=True)
        at = stop
    if at < len(text) or not text:
        yield Piece(text[at:])
