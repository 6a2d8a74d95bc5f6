"""The nodes of a syntax tree, found once: most rules go through the same trees."""

import ast
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, TypeVar

from codemods.once import once

_Kind = TypeVar("_Kind", bound=ast.AST)

_PLAIN = frozenset(
    {
        *("ctx", "id", "attr", "arg", "name", "asname", "module", "level", "kind"),
        *("type_comment", "conversion", "simple", "is_async", "rest"),
    }
)
"""Fields that hold no node but a name, a number or, ``ctx``, nothing of interest."""


class _Fields(dict[type[ast.AST], tuple[str, ...]]):
    """Kind of node -> its fields that may hold nodes."""

    def __missing__(self, kind: type[ast.AST]) -> tuple[str, ...]:
        names = () if kind is ast.Constant else kind._fields
        return self.setdefault(kind, tuple(n for n in names if n not in _PLAIN))


_FIELDS = _Fields()


def children(node: ast.AST) -> list[ast.AST]:
    """The nodes right below one, as ``ast.iter_child_nodes`` gives them, ``ctx`` apart."""
    found: list[ast.AST] = []
    _add_children(node, found)
    return found


def _add_children(node: ast.AST, found: list[ast.AST]) -> None:
    own = node.__dict__
    for name in _FIELDS[node.__class__]:
        value = own.get(name)
        if value.__class__ is list:
            for child in value:
                if isinstance(child, ast.AST):
                    found.append(child)
        elif isinstance(value, ast.AST):
            found.append(value)


class Visitor(ast.NodeVisitor):
    """An ``ast.NodeVisitor`` that looks each method up once, and does not visit ``ctx``."""

    _methods: dict[type[ast.AST], Callable[[Any, ast.AST], Any]]

    def __init_subclass__(cls) -> None:
        cls._methods = {}

    def visit(self, node: ast.AST) -> Any:
        kind = node.__class__
        if kind not in self._methods:
            named = getattr(
                type(self), f"visit_{kind.__name__}", type(self).generic_visit
            )
            self._methods[kind] = named
        return self._methods[kind](self, node)

    def visit_Constant(self, node: ast.Constant) -> None:
        """Nothing is in it; the standard library looks for methods of old first."""

    def generic_visit(self, node: ast.AST) -> None:
        for child in children(node):
            self.visit(child)


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node of a tree that nobody changes, as ``ast.walk`` gives them, ``ctx`` apart."""
    return chain((tree,), _below(tree))


# Without the tree itself: what leads to itself is freed by the garbage collector alone.
@once
def _below(tree: ast.AST) -> tuple[ast.AST, ...]:
    found = children(tree)
    for node in found:  # grows
        _add_children(node, found)
    return tuple(found)


def of_kind(tree: ast.AST, *kinds: type[_Kind]) -> Sequence[_Kind]:
    """Those of ``nodes`` that are of one of some kinds, in the same order."""
    known = _by_kind(tree)
    there = [kind for kind in kinds if kind in known]
    found: Sequence[Any] = known[there[0]] if there else ()
    if len(there) > 1:
        found = [node for node in _below(tree) if node.__class__ in there]
    return [tree, *found] if isinstance(tree, kinds) else found


@once
def _by_kind(tree: ast.AST) -> dict[type[ast.AST], list[ast.AST]]:
    found: dict[type[ast.AST], list[ast.AST]] = {}
    for node in _below(tree):
        found.setdefault(node.__class__, []).append(node)
    return found


def taken(arguments: ast.arguments) -> tuple[ast.arg, ...]:
    """What a function takes by name, in order: all but its stars."""
    return (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)


def last(node: ast.AST) -> str:
    """``c`` of ``a.b.c`` and of ``f(x).c``, "" of what is neither a name nor an attribute."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def dotted(node: ast.AST) -> str | None:
    """``a.b.c`` for a chain of attributes on a name, else None."""
    if isinstance(node, ast.Name):
        return node.id
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([node.id, *reversed(parts)])


def spelled(node: ast.AST) -> str:
    """What ``ast.unparse`` gives of a node that nobody changes; most are dotted names, which is quick."""
    return dotted(node) or _unparsed(node)


@once
def _unparsed(node: ast.AST) -> str:
    return ast.unparse(node)
