"""Java source as a syntax tree, and the few questions that mining asks of it."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import tree_sitter_java
from tree_sitter import Language, Node, Parser

TYPE_DECLARATIONS = frozenset(
    {
        "class_declaration",
        "interface_declaration",
        "record_declaration",
        "enum_declaration",
        "annotation_type_declaration",
    }
)
_COMMENTS = frozenset({"line_comment", "block_comment"})
_CALLS = frozenset({"method_invocation", "object_creation_expression", "method_reference"})
_LANGUAGE = Language(tree_sitter_java.language())


def parse(source: bytes) -> Node:
    """The root of the syntax tree of UTF-8 ``source``; errors in it are nodes of the tree."""
    return Parser(_LANGUAGE).parse(source).root_node


def text(node: Node) -> str:
    """The source text of a node."""
    return (node.text or b"").decode()


def name_of(node: Node) -> str:
    """The text of a node's ``name`` field, or nothing."""
    name = node.child_by_field_name("name")
    return text(name) if name else ""


def children(node: Node | None) -> list[Node]:
    """The named children without comments."""
    return [child for child in node.named_children if child.type not in _COMMENTS] if node else []


def walk(node: Node, leaves: Collection[str] = ()) -> Iterator[Node]:
    """``node`` and its descendants in source order; nodes of the kinds ``leaves`` are not entered."""
    # A stack instead of recursion: real and hostile files nest deeper than Python's recursion limit.
    stack = [node]
    while stack:
        top = stack.pop()
        yield top
        if top.type not in leaves:
            stack.extend(reversed(top.named_children))


def type_name(node: Node | None) -> str:
    """A type without type arguments and annotations, ``Map.Entry`` for ``@A Map.Entry<K, V>``.

    Primitive and array types keep their spelling (``int``, ``Foo[]``), so they name no class.
    """
    while node and node.type in ("generic_type", "annotated_type", "catch_type"):
        node = children(node)[0 if node.type != "annotated_type" else -1]
    return "".join(re.sub(r"<.*>|@\w+", "", text(node)).split()) if node else ""


@dataclass(frozen=True)
class Call:
    """A call, a construction, or a method reference. ``arity`` is None where arguments are not written."""

    node: Node
    name: str
    arity: int | None

    @property
    def constructs(self) -> bool:
        """Whether this is ``new T(...)``."""
        return self.node.type == "object_creation_expression"

    @property
    def receiver(self) -> Node | None:
        """The expression that the method is called on; None for a bare ``method()``."""
        if self.node.type == "method_reference":
            return children(self.node)[0]
        return self.node.child_by_field_name("object")


def as_call(node: Node) -> Call | None:
    """``node`` as a call, or None when it is not one."""
    if node.type == "method_reference":
        parts = children(node)
        return Call(node, text(parts[-1]), None) if len(parts) > 1 else None
    if node.type not in _CALLS:
        return None
    name = name_of(node) or type_name(node.child_by_field_name("type"))
    return Call(node, name, len(children(node.child_by_field_name("arguments"))))


def calls(node: Node) -> list[Call]:
    """Every call in ``node``, outer ones before their receivers and arguments."""
    return [call for inner in walk(node) if (call := as_call(inner))]


def dedented(source: bytes, start: Node, end: int) -> str:
    """The source from ``start`` to byte ``end``, moved left by the indentation of its first line."""
    line = source[start.start_byte - start.start_point.column : start.start_byte].decode()
    indent = line if not line.strip() else ""
    code = source[start.start_byte : end].decode()
    return "\n".join(row.removeprefix(indent).rstrip() for row in code.split("\n")).rstrip()


@dataclass(frozen=True)
class Scope:
    """What names mean in one file: its package, imports, and the types it declares, by simple name."""

    path: str
    package: str
    imports: dict[str, str]
    packages: tuple[str, ...]
    static_imports: dict[str, str]
    static_types: tuple[str, ...]
    declared: dict[str, str]


def scope_of(root: Node, path: str) -> Scope:
    """Read the package clause, imports and type declarations of a file."""
    package, imports, packages = "", {}, []
    static_imports, static_types = {}, []
    for node in children(root):
        if node.type == "package_declaration":
            package = text(children(node)[-1])
        elif node.type == "import_declaration":
            name, wildcard = text(children(node)[0]), text(node).rstrip("; \t\n").endswith("*")
            owner, _, last = name.rpartition(".")
            static = any(child.type == "static" for child in node.children)
            if static and wildcard:
                static_types.append(name)
            elif static:
                static_imports[last] = owner
            elif wildcard:
                packages.append(name)
            else:
                imports[last] = name
    declared = {name_of(node): qualified(node, package) for node in walk(root) if node.type in TYPE_DECLARATIONS}
    return Scope(path, package, imports, tuple(packages), static_imports, tuple(static_types), declared)


def enclosing_types(node: Node) -> list[Node]:
    """The type declarations around and including ``node``, outermost first."""
    around: list[Node] = []
    inner: Node | None = node
    while inner:
        if inner.type in TYPE_DECLARATIONS:
            around.append(inner)
        inner = inner.parent
    return around[::-1]


def qualified(declaration: Node, package: str) -> str:
    """The full name of a type declaration, ``package.Outer.Inner``."""
    names = [name_of(node) for node in enclosing_types(declaration)]
    return ".".join([package, *names] if package else names)
