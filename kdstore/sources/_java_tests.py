"""The test methods of a Java file and the assertions in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from tree_sitter import Node

from kdstore.sources import _java_syntax as syntax
from kdstore.sources._java_syntax import Call, Scope

_TEST_ANNOTATIONS = frozenset({"Test", "ParameterizedTest", "RepeatedTest", "TestTemplate", "Theory"})
_ASSERTION_NAME = re.compile(r"assert(?:[A-Z]\w*)?")
_DECLARATIONS = frozenset(
    {
        "local_variable_declaration",
        "field_declaration",
        "formal_parameter",
        "resource",
        "enhanced_for_statement",
        "catch_formal_parameter",
        "instanceof_expression",
    }
)


@dataclass(frozen=True)
class Variable:
    """A declared name, its written type (``var`` included) and its initial value."""

    type: str
    value: Node | None


@dataclass(frozen=True)
class Assertion:
    """A statement that asserts: ``call`` is its ``assertX(...)``, perhaps the head of a chain."""

    statement: Node
    call: Call
    index: int


@dataclass(frozen=True)
class _Step:
    """A statement before an assertion: where it ends, the variables it mentions, its calls."""

    end: int
    mentioned: set[str]
    calls: list[Call]


@dataclass(frozen=True)
class TestMethod:
    """One test of a file, with the types around it from the outermost to its own."""

    __test__ = False  # not a pytest class

    node: Node
    name: str
    classes: tuple[Node, ...]
    scope: Scope

    @cached_property
    def assertions(self) -> list[Assertion]:
        """The statements that assert, in source order; one inside another is part of it."""
        found: list[Assertion] = []
        stack = [self.node]
        while stack:
            node = stack.pop()
            if call := _assertion_call(node):
                found.append(Assertion(node, call, len(found)))
            else:
                stack.extend(reversed(node.named_children))
        return found

    @cached_property
    def variables(self) -> dict[str, Variable]:
        """Fields of the enclosing types, parameters and local variables; the innermost of a name wins."""
        found: dict[str, Variable] = {}
        for declaration in self.classes:
            body = declaration.child_by_field_name("body")
            for member in syntax.children(body):
                if member.type == "field_declaration":
                    found |= _variables(member)
        for node in syntax.walk(self.node):
            if node.type in _DECLARATIONS:
                found |= _variables(node)
        return found

    def history(self, assertion: Assertion) -> Iterator[Call]:
        """The calls before an assertion that touch what it uses, the latest first.

        A backward slice: a statement belongs to it when it mentions a variable that the assertion, or a later
        statement of the slice, mentions. Other assertions do not, unless they declare such a variable.
        """
        used = self._mentions(assertion.statement)
        for step in reversed(self._steps):
            if step.end <= assertion.statement.start_byte and used & step.mentioned:
                used |= step.mentioned
                yield from step.calls

    @cached_property
    def _steps(self) -> list["_Step"]:
        steps = []
        for node in syntax.walk(self.node):
            if node.type == "enhanced_for_statement":
                body, value = node.child_by_field_name("body"), node.child_by_field_name("value")
                if body and value:
                    mentioned = self._mentions(value) | {syntax.name_of(node)}
                    steps.append(_Step(body.start_byte, mentioned, syntax.calls(value)))
            elif node.type in ("local_variable_declaration", "resource") or (
                node.type == "expression_statement" and not _assertion_call(node)
            ):
                steps.append(_Step(node.end_byte, self._mentions(node), syntax.calls(node)))
        return steps

    def _mentions(self, node: Node) -> set[str]:
        names = {syntax.text(inner) for inner in syntax.walk(node) if inner.type == "identifier"}
        return names & self.variables.keys()


def test_methods(root: Node, scope: Scope) -> Iterator[TestMethod]:
    """The tests of a file in source order: annotated ones, and JUnit 3's ``public void testX()``."""
    for node in syntax.walk(root, leaves=("block",)):
        if node.type == "method_declaration" and node.child_by_field_name("body") and _is_test(node):
            yield TestMethod(node, syntax.name_of(node), tuple(syntax.enclosing_types(node)), scope)


def _is_test(method: Node) -> bool:
    modifiers = [child for child in method.children if child.type == "modifiers"]
    annotations = [a for m in modifiers for a in m.children if a.type in ("marker_annotation", "annotation")]
    if any(syntax.name_of(a).rpartition(".")[2] in _TEST_ANNOTATIONS for a in annotations):
        return True
    return (
        re.match(r"test(?![a-z])", syntax.name_of(method)) is not None
        and any(child.type == "public" for m in modifiers for child in m.children)
        and syntax.type_name(method.child_by_field_name("type")) == "void"
        and not syntax.children(method.child_by_field_name("parameters"))
    )


def is_assertion(call: Call) -> bool:
    """Whether a call is an assertion by its name."""
    return _ASSERTION_NAME.fullmatch(call.name) is not None


def _assertion_call(statement: Node) -> Call | None:
    """The ``assertX(...)`` that a statement consists of, assigns, or chains further calls to."""
    node: Node | None = None
    if statement.type == "expression_statement":
        node = syntax.children(statement)[0]
        if node.type == "assignment_expression":
            node = node.child_by_field_name("right")
    elif statement.type == "local_variable_declaration":
        declarator = statement.child_by_field_name("declarator")
        node = declarator.child_by_field_name("value") if declarator else None
    while node and node.type == "method_invocation":
        call = syntax.as_call(node)
        if call and is_assertion(call):
            return call
        node = node.child_by_field_name("object")
    return None


def _variables(node: Node) -> dict[str, Variable]:
    if node.type == "catch_formal_parameter":
        written = next((child for child in node.children if child.type == "catch_type"), None)
    else:
        written = node.child_by_field_name("right" if node.type == "instanceof_expression" else "type")
    kind = syntax.type_name(written)
    if declarators := node.children_by_field_name("declarator"):
        return {syntax.name_of(d): Variable(kind, d.child_by_field_name("value")) for d in declarators}
    name = syntax.name_of(node)
    value = node.child_by_field_name("value") if node.type == "resource" else None
    return {name: Variable(kind, value)} if name else {}
