"""The main sources of one repository by type and method name: what a test can be about."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from os.path import commonpath

from tree_sitter import Node

from kdstore.sources import _java_syntax as syntax
from kdstore.sources._java_syntax import TYPE_DECLARATIONS, Scope

_CALLABLES = frozenset({"method_declaration", "constructor_declaration", "compact_constructor_declaration"})
# What is declared inside these belongs to no named type.
_BODIES = frozenset({"block", "constructor_body", "variable_declarator", "enum_constant"})


@dataclass(frozen=True, slots=True)
class Method:
    """A method or constructor of the main sources; ``text`` is empty where it has no body."""

    name: str
    owner: str
    path: str
    text: str
    arity: int
    variadic: bool
    returns: str

    def accepts(self, arity: int | None) -> bool:
        """Whether a call with so many arguments can reach it; None stands for an unknown number."""
        return arity is None or arity == self.arity or (self.variadic and arity >= self.arity - 1)


@dataclass(slots=True)
class Type:
    """A class, interface, record or enum of the main sources."""

    name: str
    scope: Scope
    supertypes: list[str] = field(default_factory=list)
    methods: dict[str, list[Method]] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)


class MainIndex:
    """Types and methods of the main sources, found as Java's own name resolution finds them."""

    def __init__(self) -> None:
        self._types: dict[str, list[Type]] = {}
        self._methods: dict[str, list[tuple[Type, Method]]] = {}

    def add(self, source: bytes, path: str) -> Counter[str]:
        """Index one file; returns how many of its declarations were left out, by reason."""
        root = syntax.parse(source)
        scope = syntax.scope_of(root, path)
        skipped: Counter[str] = Counter()
        for node in syntax.walk(root, leaves=_BODIES):
            if node.type in TYPE_DECLARATIONS:
                self._types.setdefault(syntax.qualified(node, scope.package), []).append(_type(node, scope))
            elif node.type in _CALLABLES and node.has_error:
                skipped["syntax error in a main method"] += 1
            elif node.type in _CALLABLES:
                self._add_method(source, node, scope)
            elif node.type == "field_declaration":
                self._add_fields(node, scope)
            elif node.type == "enum_constant":
                owner = self._owner(node, scope)
                owner.fields[syntax.name_of(node)] = owner.name
        return skipped

    def resolve(self, name: str, scope: Scope) -> Type | None:
        """The main type that ``name`` means in a file, or None for types of other origin."""
        first, _, rest = name.partition(".")
        if first in scope.declared:
            outer = [scope.declared[first]]
        elif first in scope.imports:
            outer = [scope.imports[first]]
        else:
            outer = [f"{package}.{first}" if package else first for package in (scope.package, *scope.packages)]
        for full in [f"{prefix}.{rest}" if rest else prefix for prefix in outer] + [name]:
            if full in self._types:
                # Two modules may declare the same type: the one nearest to the file is meant.
                return max(self._types[full], key=lambda t: len(commonpath([t.scope.path, scope.path])))
        return None

    def overloads(self, owner: Type, name: str, arity: int | None) -> list[tuple[Type, Method]]:
        """The methods that a call on ``owner`` can reach: those of the nearest type that implements any.

        Where no main type implements one, those of the nearest type that declares any, without text.
        """
        levels = [
            [(kind, m) for m in kind.methods.get(name, ()) if m.accepts(arity)] for kind in self._lineage(owner)
        ]
        declared = next(filter(None, levels), [])
        return next((level for level in levels if any(m.text for _, m in level)), declared)

    def named(self, name: str) -> list[tuple[Type, Method]]:
        """Every method of that name."""
        return self._methods.get(name, [])

    def _lineage(self, owner: Type) -> Iterator[Type]:
        queue, seen = [owner], {id(owner)}
        for kind in queue:
            yield kind
            for name in kind.supertypes:
                if (parent := self.resolve(name, kind.scope)) and id(parent) not in seen:
                    seen.add(id(parent))
                    queue.append(parent)

    def _add_method(self, source: bytes, node: Node, scope: Scope) -> None:
        owner = self._owner(node, scope)
        parameters = _parameters(node)
        body = node.child_by_field_name("body")
        method = Method(
            name=syntax.name_of(node),
            owner=owner.name,
            path=scope.path,
            text=syntax.dedented(source, node, node.end_byte) if body else "",
            arity=len(parameters),
            variadic=any(p.type == "spread_parameter" for p in parameters),
            returns=syntax.type_name(node.child_by_field_name("type")),
        )
        owner.methods.setdefault(method.name, []).append(method)
        if node.type == "method_declaration":
            self._methods.setdefault(method.name, []).append((owner, method))

    def _add_fields(self, node: Node, scope: Scope) -> None:
        owner = self._owner(node, scope)
        kind = syntax.type_name(node.child_by_field_name("type"))
        owner.fields |= {syntax.name_of(d): kind for d in node.children_by_field_name("declarator")}

    def _owner(self, member: Node, scope: Scope) -> Type:
        return self._types[syntax.qualified(member, scope.package)][-1]


def _type(node: Node, scope: Scope) -> Type:
    listed = [
        child
        for child in syntax.children(node)
        if child.type in ("superclass", "super_interfaces", "extends_interfaces")
    ]
    names = [name for child in listed for name in syntax.children(child)]
    flat = [inner for name in names for inner in (syntax.children(name) if name.type == "type_list" else [name])]
    components = {
        syntax.name_of(p): syntax.type_name(p.child_by_field_name("type"))
        for p in syntax.children(node.child_by_field_name("parameters"))
    }
    return Type(syntax.name_of(node), scope, [syntax.type_name(name) for name in flat], fields=components)


def _parameters(node: Node) -> list[Node]:
    if node.type == "compact_constructor_declaration":
        node = syntax.enclosing_types(node)[-1]
    return [p for p in syntax.children(node.child_by_field_name("parameters")) if p.type != "receiver_parameter"]
