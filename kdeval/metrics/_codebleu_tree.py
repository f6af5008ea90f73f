"""Java texts as syntax trees, the way CodeBLEU looks at them.

The grammar is tree-sitter-java's. It makes a tree of any text: what it cannot read are nodes ``ERROR``, and a token
that it takes for forgotten is one without characters. Nothing here recurses: deep nesting takes memory, not stack.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import tree_sitter_java
from tree_sitter import Language, Node, Parser, TreeCursor

MAX_CHARACTERS: Final = 20_000
"""Of longer texts only the beginning is parsed. Assertions have about a hundred characters."""

Shapes = dict[tuple[object, ...], int]
"""A number for each shape of subtrees; to be shared by the texts that are compared."""

_LANGUAGE: Final = Language(tree_sitter_java.language())
_LITERALS: Final = frozenset({"string_literal", "character_literal"})
_COMMENT_OR_LITERAL: Final = re.compile(r"""(//[^\n]*|/\*.*?\*/)|"(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.)*+'""", re.DOTALL)


@dataclass(slots=True)
class Tree:
    """A node and what is below it.

    Attributes
    ----------
    kind
        The grammar's name for it. That of a keyword or an operator is its text.
    role
        What it is to its parent, e.g. ``name``, or None.
    span
        Byte at which it begins and the byte behind it. Tokens are told apart by it.
    text
        The characters of a token, otherwise "".
    children
        Nothing for a token. A literal is a token, whatever the grammar sees in it.
    """

    kind: str
    role: str | None
    span: tuple[int, int]
    text: str = ""
    children: list["Tree"] = field(default_factory=list)

    def child(self, role: str) -> "Tree | None":
        """The first child with this role."""
        return next((child for child in self.children if child.role == role), None)

    def tokens(self) -> Iterator["Tree"]:
        """The tokens in it in the order of the text; of a token, itself."""
        stack = [self]
        while stack:
            tree = stack.pop()
            if tree.children:
                stack.extend(reversed(tree.children))
            else:
                yield tree


def parse(text: str, shapes: Shapes) -> tuple[Tree, list[int]]:
    """The tree of a text without its comments, and the shape of each subtree.

    A subtree is a node with children, or the root. Its shape is all that tree-sitter writes of it as S-expression:
    kinds and roles of the named nodes in it, and errors; no names, values and operators. Two of the same shape have
    the same number in ``shapes``, to which new ones are added.
    """
    lines = _COMMENT_OR_LITERAL.sub(_without_comment, text[:MAX_CHARACTERS].strip()).split("\n")
    # Blank lines would count where tree-sitter decides how far an error reaches.
    source = "\n".join(line for line in lines if line.strip())
    # JSON can hold a lone surrogate, UTF-8 cannot.
    return _Reader(source.encode("utf-8", "replace"), shapes).read()


def _without_comment(found: re.Match[str]) -> str:
    return found[0] if found[1] is None else " "


class _Reader:
    """Goes through the tree of one text with a cursor, children before parents."""

    def __init__(self, source: bytes, shapes: Shapes) -> None:
        self._source, self._shapes = source, shapes
        self._subtrees: list[int] = []
        # For each node on the way from the root: its children so far, and what they contribute to its shape.
        self._open: list[tuple[list[Tree], list[tuple[str | None, int]]]] = [([], [])]

    def read(self) -> tuple[Tree, list[int]]:
        cursor = Parser(_LANGUAGE).parse(self._source).walk()
        while True:
            while cursor.goto_first_child():
                self._open.append(([], []))
            self._close(cursor, [], [])
            while not cursor.goto_next_sibling():
                if not cursor.goto_parent():
                    ((root,), ((_, shape),)) = self._open[0]
                    return root, self._subtrees or [shape]
                self._close(cursor, *self._open.pop())

    def _close(self, cursor: TreeCursor, children: list[Tree], parts: list[tuple[str | None, int]]) -> None:
        node, role = cursor.node, cursor.field_name
        assert node is not None
        kind, span = node.type, (node.start_byte, node.end_byte)
        siblings, beside = self._open[-1]
        if children and kind not in _LITERALS:
            siblings.append(Tree(kind, role, span, children=children))
        else:
            siblings.append(Tree(kind, role, span, self._source[slice(*span)].decode()))
        shape = self._shapes.setdefault((kind, *parts) if children else _leaf(node), len(self._shapes))
        if children:
            self._subtrees.append(shape)
        if node.is_named or node.is_missing:
            beside.append((role, shape))


def _leaf(node: Node) -> tuple[str, ...]:
    # Of an error tree-sitter writes the character, of a forgotten token that it is missing.
    return (str(node) if node.is_missing or node.type == "ERROR" else node.type,)
