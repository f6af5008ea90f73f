"""Share of predictions that parse as current Java."""

import time
from collections.abc import Sequence
from importlib.metadata import version

import tree_sitter_java
from tree_sitter import Language, Node, Parser, Point

from kdeval.metrics import METRICS
from kdeval.metrics._validity import Validity, as_source

_BEFORE = b"class A { void f() {\n"
_AFTER = b"\n} }"  # the line break ends a comment, which would swallow the brace
_BODY_START = len(_BEFORE) - 2
_BODY_END = 2  # from the end
_CHUNK = 1024
_SHORT = 2000  # bytes that are parsed in no time; the library never frees what it is given piece by piece
_NO_STATEMENT = ("{", "}", "line_comment", "block_comment")


@METRICS.register("tree_sitter_validity")
class TreeSitterValidity(Validity):
    """1 when tree-sitter-java parses the prediction as the statements of a method body without an error, else 0.

    Without an error: the tree has neither ERROR nor MISSING nodes, and the method's body ends at the brace after
    the prediction, so that ``} void g() {`` is 0. Text blocks, records and switch expressions are valid. At least
    one statement is needed, so an empty prediction, or one of comments only, is 0 whatever the reference; the
    reference is never looked at.

    The grammar is made for editors and more lenient than the language: any expression is a statement (``1;``), a
    keyword that it does not list is a name (``goto x;``), an import may stand among statements. It is stricter in
    two points: Unicode escapes are known in literals only, and NUL nowhere.

    Not parsed, and 0: texts of more than `MAX_CHARACTERS` or with an unpaired surrogate. To recover from errors can
    take half a minute at that length; what is left of a text after ``limit_s`` seconds, 5 unless told, is not read,
    and the text is 0.

    >>> TreeSitterValidity().parse(["assertEquals(1, switch (x) { default -> 2; });", "assertEquals(1, ;"])
    [True, False]
    """

    name = "tree_sitter_validity"
    title = "Syntax validity, tree-sitter"
    good_at = 0.9

    def __init__(self, limit_s: float = 5.0) -> None:
        self._limit_s = limit_s
        self._parser = Parser(Language(tree_sitter_java.language()))

    @property
    def implementation(self) -> str:
        """The grammar and the library, with their versions."""
        return f"tree-sitter-java {version('tree-sitter-java')}, tree-sitter {version('tree-sitter')}"

    def parse(self, texts: Sequence[str]) -> list[bool]:
        """Whether tree-sitter accepts each text."""
        sources = [as_source(text) for text in texts]
        return [source is not None and self._is_valid(_BEFORE + source + _AFTER) for source in sources]

    def _is_valid(self, source: bytes) -> bool:
        if len(source) <= _SHORT:
            root = self._parser.parse(source).root_node
            return not root.has_error and _is_one_body(root, len(source))
        late = time.monotonic() + self._limit_s

        def read(offset: int, _: Point) -> bytes:
            return source[offset : offset + _CHUNK] if time.monotonic() < late else b""

        root = self._parser.parse(read).root_node
        return not root.has_error and _is_one_body(root, len(source))


def _is_one_body(root: Node, length: int) -> bool:
    """Whether the block that our brace opens ends with our brace, and holds a statement."""
    brace = root.descendant_for_byte_range(_BODY_START, _BODY_START + 1)
    body = brace.parent if brace else None
    if body is None or body.end_byte != length - _BODY_END:
        return False
    return any(node.type not in _NO_STATEMENT for node in body.children)
