"""Texts that are hard on whatever reads them: a strategy, and some of great length."""

from hypothesis import strategies as st

# st.characters() has unpaired surrogates and NUL.
ANY_TEXT = st.text(st.characters(), max_size=40) | st.text("ab1 .,;(){}<>=+-\"'\\u@\n/*\0\ud800", max_size=60)

_UNITS = ("(", "a ", '"', '\\"', '"""\n\\', "/*", "//\n", "f(", "A<", "@A(", "\0")
EXTREMES = [
    *("\0", "\ud800", 'f("\udfff");', "\\uD800", '"""\n'),
    *((unit * 20_000)[:20_000] for unit in _UNITS),
    "assertTrue(a);" * 2_000,
]
