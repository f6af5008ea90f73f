"""Data flow of a Java text: which variables get their values from which, as CodeBLEU compares it."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from kdeval.metrics._codebleu_tree import Tree

MAX_STEPS: Final = 300_000
"""A text that takes more has no data flow. Every loop around a statement doubles its steps; real methods of up to
6,000 characters have taken 12,000."""

Edge = tuple[str, str, tuple[str, ...]]
"""A variable, ``comesFrom`` or ``computedFrom``, and the variables that it comes from, if any."""

_Span = tuple[int, int]
_States = dict[str, frozenset[_Span]]  # of every variable that is known, the tokens that may have given it its value


def data_flow(root: Tree) -> Counter[Edge]:
    """The edges of a tree, with ``var_0``, ``var_1``, ... for the variables in the order in which they are met."""
    numbers: dict[str, str] = {}

    def number(names: Iterable[str]) -> tuple[str, ...]:
        return tuple(numbers.setdefault(name, f"var_{len(numbers)}") for name in names)

    edges: Counter[Edge] = Counter()
    for name, relation, sources in _Flow().edges(root):
        numbered = number(sources)
        edges[number([name])[0], relation, numbered] += 1
    return edges


class _Flow:
    """Follows the values through one tree.

    A variable is a token that is neither keyword nor operator: names of methods and literals are variables too. Where
    one is read that has a value, it ``comesFrom`` itself. A declaration lets it ``comesFrom`` all variables of its
    value; with assignments, ``++`` and ``--``, and ``for (T name : values)`` it is ``computedFrom`` them. The body of
    a loop is followed twice, the second time with the values that the first left behind.
    """

    def __init__(self) -> None:
        self._edges: dict[_Span, Edge] = {}  # one for each variable in the text
        self._linked: set[_Span] = set()  # those that give a value or get one
        self._steps = 0

    def edges(self, root: Tree) -> list[Edge]:
        """All edges that give or get a value, in the order of the text; none where there are too many steps."""
        # Generators on a stack of ours, since texts nest deeper than Python's stack.
        stack = [iter([(root, _States())])]
        while stack and self._steps < MAX_STEPS:
            following = next(stack[-1], None)
            if following is None:
                stack.pop()
            elif following[0].children:
                stack.append(self._follow(*following))
            else:
                self._read(*following)
        if stack:
            return []
        return [edge for span, edge in sorted(self._edges.items()) if span in self._linked]

    def _follow(self, tree: Tree, states: _States) -> Iterator[tuple[Tree, _States]]:
        """What to follow next, with which states; changes ``states``."""
        self._steps += 1
        match tree.kind:
            case "variable_declarator":
                yield from self._assignment(tree.child("name"), tree.child("value"), "comesFrom", states)
            case "assignment_expression":
                yield from self._assignment(tree.child("left"), tree.child("right"), "computedFrom", states)
            case "update_expression":
                self._assign(tree, tree, "computedFrom", states)
            case "if_statement":
                yield from self._alternatives(tree, states)
            case "enhanced_for_statement":
                body = [child for child in tree.children if child.role == "body"]
                for _ in range(2):
                    yield from self._assignment(tree.child("name"), tree.child("value"), "computedFrom", states)
                    yield from ((child, states) for child in body)
            case _:
                yield from ((child, states) for child in [*tree.children, *_again(tree)])

    def _alternatives(self, tree: Tree, states: _States) -> Iterator[tuple[Tree, _States]]:
        """An ``if``: afterwards a variable may have the value from before, or that of any alternative."""
        outcomes = [states.copy()]
        first = True
        for child in tree.children:
            # As published, an ``if`` without braces as the first alternative is taken for the second.
            first = first and child.kind not in ("if_statement", "else")
            if not first:
                outcomes.append(states.copy())
            yield child, outcomes[-1]
        for outcome in outcomes:
            for name, spans in outcome.items():
                states[name] = states.get(name, spans) | spans
                self._steps += len(spans)

    def _assignment(
        self, left: Tree | None, right: Tree | None, relation: str, states: _States
    ) -> Iterator[tuple[Tree, _States]]:
        if right is not None:
            yield right, states
        if left is not None:
            self._assign(left, right, relation, states)

    def _assign(self, left: Tree, right: Tree | None, relation: str, states: _States) -> None:
        """Every variable on the left gets its value from all on the right, or has none yet."""
        targets, values = self._variables(left), self._variables(right) if right else []
        sources = tuple(dict.fromkeys(value.text for value in values))
        for target in targets:
            states[target.text] = frozenset([target.span])
            if values or right is None:
                self._edges[target.span] = (target.text, relation, sources)
        if targets and values:
            self._linked.update(token.span for token in (*targets, *values))

    def _read(self, token: Tree, states: _States) -> None:
        self._steps += 1
        if not _is_variable(token):
            return
        known = states.get(token.text)
        if known is not None:
            self._edges[token.span] = (token.text, "comesFrom", (token.text,))
            self._linked |= known | {token.span}
            self._steps += len(known)
        else:
            self._edges[token.span] = (token.text, "comesFrom", ())
            if token.kind == "identifier":
                states[token.text] = frozenset([token.span])

    def _variables(self, tree: Tree) -> list[Tree]:
        tokens = list(tree.tokens())
        self._steps += len(tokens)
        return [token for token in tokens if _is_variable(token)]


def _is_variable(token: Tree) -> bool:
    return token.kind != token.text


def _again(tree: Tree) -> list[Tree]:
    """The children of a loop that are followed a second time, after all."""
    if tree.kind == "while_statement":
        return tree.children
    kinds = [child.kind for child in tree.children]
    if tree.kind == "for_statement" and "local_variable_declaration" in kinds:
        return tree.children[kinds.index("local_variable_declaration") + 1 :]
    return []
