"""The method of a test in which an assertion is to be written, out of a text that may hold more."""

import re
import time
from dataclasses import dataclass

import tree_sitter_java
from tree_sitter import Language, Node, Parser, Point

from kdeval.text import code_tokens

_LIMIT_S = 5.0  # tree-sitter can take hours to recover from the errors of a large text
_CHUNK = 1024
_TYPES = ("class_declaration", "interface_declaration", "record_declaration")
_COMMENTS = ("line_comment", "block_comment")


@dataclass(frozen=True)
class OpenMethod:
    """A method of a test up to its end, without the brace that closes it.

    ``lines`` are the first and the last of it in the given text, from 1.
    """

    name: str
    text: str
    lines: tuple[int, int]


def last_method(test: str) -> OpenMethod | None:
    r"""The last method in a Java text, whose end may be open, or None where there is none, or none can be made out.

    The text is a method, or a file with a class, up to any place in or behind the method. It is parsed with the
    braces and parentheses that are missing at its end, so that all before must be right. Methods without a body do
    not count, and neither do those in statements.

    >>> last_method("class A {\n    void t() {\n        f();\n    }\n}").text
    'void t() {\n    f();'
    """
    source = test.encode()
    missing = _missing(test)
    root = _tree(source + b"\n" + missing.encode() if missing else source)
    node = _last_method(root) if root else None
    if node is None:
        return None
    end = min(node.end_byte - 1, len(source))
    line = source[node.start_byte - node.start_point.column : end]
    used = source[node.start_byte : end] if line[: node.start_point.column].strip() else line
    first = node.start_point.row + 1
    name = node.child_by_field_name("name")
    return OpenMethod(
        name=((name and name.text) or b"").decode(),
        text=dedented(used.decode()),
        lines=(first, first + used.rstrip().count(b"\n")),
    )


def _missing(test: str) -> str:
    """What closes the braces and parentheses that are open at the end of a text, and ends the calls among them."""
    closing: list[str] = []
    for token in code_tokens(test):
        if token in ("{", "("):
            closing.append("}" if token == "{" else ")")
        elif closing and token == closing[-1]:
            closing.pop()
    return re.sub(r"\)(?!\))", ");", "".join(reversed(closing)))


def _tree(source: bytes) -> Node | None:
    """The root of the tree of a Java text; None where there is an error in it, or no end of looking for one."""
    late = time.monotonic() + _LIMIT_S

    def read(offset: int, _: Point) -> bytes:
        return source[offset : offset + _CHUNK] if time.monotonic() < late else b""

    root = Parser(Language(tree_sitter_java.language())).parse(read).root_node
    return None if root.has_error or root.end_byte < len(source.rstrip()) else root


def _last_method(root: Node) -> Node | None:
    stack = [node for node in root.named_children if node.type not in _COMMENTS][-1:]
    while stack:
        node = stack.pop()
        body = node.child_by_field_name("body")
        if body is not None and node.type == "method_declaration":
            return node
        if body is not None and node.type in _TYPES:
            stack.extend(body.named_children)
    return None


def dedented(text: str) -> str:
    r"""The text moved left by the indentation of its first line, without blank lines around it: as mined rows are.

    >>> dedented("\n    void t() {\n        f();\n")
    'void t() {\n    f();'
    """
    rows = [row.rstrip() for row in text.split("\n")]
    first = next((row for row in rows if row), "")
    indent = first[: len(first) - len(first.lstrip())]
    return "\n".join(row.removeprefix(indent) for row in rows).strip("\n")
