"""Which method of the main sources an assertion is about."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tree_sitter import Node

from kdstore.sources import _java_syntax as syntax
from kdstore.sources._java_index import MainIndex, Method, Type
from kdstore.sources._java_syntax import Call, Scope
from kdstore.sources._java_tests import Assertion, TestMethod, is_assertion

RECEIVER = "A:receiver"
CONSTRUCTOR = "A:constructor"
TEST_CLASS = "B:test-class"
UNIQUE_NAME = "C:unique-name"

_MAX_INFERENCE_DEPTH = 50
_OF_EVERY_OBJECT = frozenset({"toString", "equals", "hashCode", "getClass"})
_LITERALS = frozenset(
    {"string_literal", "character_literal", "class_literal", "decimal_integer_literal", "true", "false"}
)


@dataclass(frozen=True)
class Foreign:
    """The type of an expression that is known to come from outside the main sources."""


FOREIGN = Foreign()
Inferred = Type | Foreign | None
"""A main type, a foreign one, or None where nothing is known."""


@dataclass(frozen=True)
class Focal:
    """The method under test, how it was found, and whether its overload is certain."""

    method: Method
    match: str
    sure: bool


def find_focals(test: TestMethod, index: MainIndex) -> Iterator[tuple[Assertion, Focal | None]]:
    """Each assertion of a test with its focal method: by receiver, else by the test class's name, else unique."""
    types = _Types(test, index)
    for assertion in test.assertions:
        own = [call for call in _own_calls(assertion) if not is_assertion(call)]
        # What every object has is rarely the subject: in `builder.append(1).toString()` it is `append`.
        own.sort(key=lambda call: call.name in _OF_EVERY_OBJECT)
        calls = own + [call for call in test.history(assertion) if not is_assertion(call)]
        yield (
            assertion,
            _by_receiver(calls, types) or _by_test_class(calls, types) or _by_unique_name(calls, types),
        )


def _own_calls(assertion: Assertion) -> Iterator[Call]:
    """The calls in an assertion, those of the actual value first.

    AssertJ and Hamcrest write ``assertThat(actual)``; JUnit writes the actual value after the expected one.
    """
    arguments = syntax.children(assertion.call.node.child_by_field_name("arguments"))
    for argument in arguments if assertion.call.name.startswith("assertThat") else reversed(arguments):
        yield from syntax.calls(argument)
    for node in syntax.walk(assertion.statement, leaves=("argument_list",)):
        if node.type == "argument_list" and node.end_byte > assertion.call.node.end_byte:
            yield from syntax.calls(node)


def _by_receiver(calls: Iterable[Call], types: "_Types") -> Focal | None:
    """The first call on a main type: one that the test's name mentions, else any, else a construction."""
    found = [(call, methods) for call in calls if (methods := types.reached(call))]
    ranked = sorted(found, key=lambda f: 2 if f[0].constructs else not _mentioned(f[0].name, types.test.name))
    for call, methods in ranked:
        if focal := _focal(methods, CONSTRUCTOR if call.constructs else RECEIVER):
            return focal
    return None


def _by_test_class(calls: Iterable[Call], types: "_Types") -> Focal | None:
    """A method of the class that the test class is named after: one that is called, else one in the test's name."""
    unknown = [call for call in calls if types.may_be_main(call)]
    for subject in types.subjects():
        for call in unknown:
            if focal := _focal(types.index.overloads(subject, call.name, call.arity), TEST_CLASS):
                return focal
        named = [name for name in subject.methods if name != subject.name and _mentioned(name, types.test.name)]
        for name in sorted(named, key=len, reverse=True):
            if focal := _focal(types.index.overloads(subject, name, None), TEST_CLASS):
                return focal
    return None


def _by_unique_name(calls: Iterable[Call], types: "_Types") -> Focal | None:
    for call in calls:
        methods = types.index.named(call.name)
        if len(methods) == 1 and types.may_be_main(call) and methods[0][1].accepts(call.arity):
            return _focal(methods, UNIQUE_NAME)
    return None


def _focal(methods: list[tuple[Type, Method]], match: str) -> Focal | None:
    with_body = [method for _, method in methods if method.text]
    return Focal(with_body[0], match, len(with_body) == 1) if with_body else None


def _mentioned(method: str, test: str) -> bool:
    """Whether a test's name contains a method's name as whole words: ``parse`` in ``testParseEmpty``."""
    words = "".join(word[:1].upper() + word[1:] for word in test.split("_"))
    return len(method) > 2 and method[0].upper() + method[1:] in words


class _Types:
    """Types of expressions in one test, as far as declarations tell them."""

    def __init__(self, test: TestMethod, index: MainIndex) -> None:
        self.test = test
        self.index = index
        self._reached: dict[int, list[tuple[Type, Method]]] = {}
        self._helpers = {
            syntax.name_of(member)
            for declaration in test.classes
            for member in syntax.children(declaration.child_by_field_name("body"))
            if member.type == "method_declaration"
        }

    def reached(self, call: Call, depth: int = 0) -> list[tuple[Type, Method]]:
        """The main methods or constructors that a call reaches."""
        if call.node.id not in self._reached:
            self._reached[call.node.id] = self._find(call, depth)
        return self._reached[call.node.id]

    def _find(self, call: Call, depth: int) -> list[tuple[Type, Method]]:
        if call.constructs:
            kind = self.index.resolve(call.name, self.test.scope)
            return self._constructors(kind, call.arity) if kind else []
        if call.receiver is None:
            return self._static_import(call)
        receiver = self.of(call.receiver, depth)
        return self.index.overloads(receiver, call.name, call.arity) if isinstance(receiver, Type) else []

    def may_be_main(self, call: Call) -> bool:
        """Whether a method call has a receiver of which nothing is known."""
        return not call.constructs and call.receiver is not None and self.of(call.receiver) is None

    def subjects(self) -> Iterator[Type]:
        """The main types that the test's classes are named after, the innermost first."""
        for declaration in reversed(self.test.classes):
            name = syntax.name_of(declaration)
            for part in dict.fromkeys([name, *name.split("_")]):
                bare = re.sub(r"^Tests?(?=[A-Z])|(?:Tests?|TestCase|IT)$", "", part)
                if bare and (kind := self.index.resolve(bare, self.test.scope)):
                    yield kind

    def of(self, node: Node, depth: int = 0) -> Inferred:
        """The type of an expression."""
        if depth > _MAX_INFERENCE_DEPTH:
            return None
        if node.type in _LITERALS:
            return FOREIGN
        if node.type == "parenthesized_expression":
            return self.of(syntax.children(node)[0], depth + 1)
        if node.type == "identifier":
            return self._of_name(syntax.text(node), depth)
        if node.type == "field_access":
            return self._of_field(node, depth)
        if node.type in ("object_creation_expression", "cast_expression"):
            return self._named(syntax.type_name(node.child_by_field_name("type")), self.test.scope)
        if node.type == "method_invocation" and (call := syntax.as_call(node)):
            methods = self.reached(call, depth + 1)
            return self._named(methods[0][1].returns, methods[0][0].scope) if methods else None
        return None

    def _of_name(self, name: str, depth: int) -> Inferred:
        variable = self.test.variables.get(name)
        if variable is None:
            # A bare name that is no variable is a type, or a field that the test inherits.
            return self._named(name, self.test.scope) if name[0].isupper() else None
        if variable.value and variable.value.type == "object_creation_expression":
            built = self.of(variable.value, depth + 1)
            if isinstance(built, Type):
                return built
        if variable.type == "var":
            return self.of(variable.value, depth + 1) if variable.value else None
        return self._named(variable.type, self.test.scope)

    def _of_field(self, node: Node, depth: int) -> Inferred:
        owner, name = node.child_by_field_name("object"), node.child_by_field_name("field")
        if owner is None or name is None:
            return None
        if owner.type == "this":
            return self._of_name(syntax.text(name), depth)
        if kind := self.index.resolve("".join(syntax.text(node).split()), self.test.scope):
            return kind
        holder = self.of(owner, depth + 1)
        if isinstance(holder, Type) and (written := holder.fields.get(syntax.text(name))):
            return self._named(written, holder.scope)
        return None

    def _named(self, name: str, scope: Scope) -> Inferred:
        if kind := self.index.resolve(name, scope):
            return kind
        # A name in capitals is a type parameter (or a constant): it says nothing.
        return None if name.isupper() or not name else FOREIGN

    def _static_import(self, call: Call) -> list[tuple[Type, Method]]:
        scope = self.test.scope
        if call.name in self._helpers:
            return []
        owners = [scope.static_imports[call.name]] if call.name in scope.static_imports else scope.static_types
        for owner in owners:
            kind = self.index.resolve(owner, scope)
            if kind and (methods := self.index.overloads(kind, call.name, call.arity)):
                return methods
        return []

    def _constructors(self, kind: Type, arity: int | None) -> list[tuple[Type, Method]]:
        return [(kind, method) for method in kind.methods.get(kind.name, ()) if method.accepts(arity)]
