"""Where code asks of which class something is, and by which names a class goes."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from codemods.bindings import Checkout
from codemods.names import Definition
from codemods.nodes import dotted, nodes, spelled
from codemods.once import once
from codemods.source import SourceFile

How = Literal["isinstance", "issubclass", "bases", "type", "name", "case"]

_HOLDERS = ("tuple", "list", "set", "frozenset")


@dataclass(frozen=True)
class Question:
    """One place that asks for a class.

    Args:
        node: the call, the comparison, or the ``case``'s pattern.
        subject: what is asked of, ``m`` of ``type(m) is Block``.
        asked: the classes, or their names, as they are written.
        how: ``type`` asks for the very class, ``name`` for its name; the others take
            what inherits from it too.
        negated: whether it is true of all others.
    """

    node: ast.expr | ast.MatchClass
    subject: str
    asked: ast.expr
    how: How
    negated: bool = False


@once
def questions(tree: ast.AST) -> tuple[Question, ...]:
    """Every place that asks for a class, in any of its spellings."""
    return tuple(_questions(tree))


def _questions(tree: ast.AST) -> Iterator[Question]:
    for node in nodes(tree):
        if isinstance(node, ast.Call) and len(node.args) == 2:
            of = node.args[0]
            if spelled(node.func) == "isinstance":
                yield Question(node, spelled(of), node.args[1], "isinstance")
            elif spelled(node.func) == "issubclass" and (subject := class_of(of)):
                yield Question(node, spelled(subject), node.args[1], "issubclass")
        elif isinstance(node, ast.Compare) and len(node.ops) == 1:
            yield from _compared(node)
        elif isinstance(node, ast.Match):
            for pattern in (p for case in node.cases for p in nodes(case.pattern)):
                if isinstance(pattern, ast.MatchClass):
                    yield Question(pattern, spelled(node.subject), pattern.cls, "case")


def _compared(node: ast.Compare) -> Iterator[Question]:
    (operator,), left, (right,) = node.ops, node.left, node.comparators
    negated = isinstance(operator, ast.IsNot | ast.NotEq | ast.NotIn)
    ways = [(left, right)]
    if not isinstance(operator, ast.In | ast.NotIn):
        ways.append((right, left))
    elif (bases := _bases_of(right)) is not None:
        yield Question(node, spelled(bases), left, "bases", negated)
    for one, other in ways:
        if subject := class_of(one):
            yield Question(node, spelled(subject), other, "type", negated)
        elif subject := class_name_of(one):
            yield Question(node, spelled(subject), other, "name", negated)


def class_of(node: ast.expr) -> ast.expr | None:
    """``m`` of ``type(m)`` and of ``m.__class__``."""
    if isinstance(node, ast.Attribute) and node.attr == "__class__":
        return node.value
    if isinstance(node, ast.Call) and spelled(node.func) == "type":
        return node.args[0] if len(node.args) == 1 else None
    return None


def class_name_of(node: ast.expr) -> ast.expr | None:
    """``m`` of ``type(m).__name__``, of its ``__qualname__`` and of ``m._get_name()``."""
    if isinstance(node, ast.Attribute) and node.attr in ("__name__", "__qualname__"):
        return class_of(node.value)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr == "_get_name" and not node.args:
            return node.func.value
    return None


def _bases_of(node: ast.expr) -> ast.expr | None:
    """``m`` of ``type(m).__mro__``, ``type(m).mro()`` and ``type(m).__bases__``."""
    if isinstance(node, ast.Call) and not node.args:
        node = node.func
    if isinstance(node, ast.Attribute) and node.attr in ("__mro__", "mro", "__bases__"):
        return class_of(node.value)
    return None


class Names:
    """By which names a class goes in a checkout: imports, aliases, and what holds it.

    Args:
        checkout: its files.
        word: the name of the class where it is defined.
    """

    def __init__(self, checkout: Checkout, word: str) -> None:
        self.checkout, self.word = checkout, word
        self._held: dict[Definition, ast.expr] = {}
        for file in checkout.mentioning(word):
            for node in file.syntax.body:
                if isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
                    for name in _targets(node):
                        if self._holds(file, node.value):
                            self._held[Definition(file.path, name)] = node.value

    @property
    def words(self) -> tuple[str, ...]:
        """One of these stands in every file that asks for the class."""
        return (self.word, *sorted({held.name for held in self._held}))

    def stands_for(self, file: SourceFile, asked: ast.expr) -> bool:
        """Whether an expression names the class, alone or among others."""
        own = _own(file)
        return any(
            self._is_it(file, part)
            or any(self._holds(file, value) for value in own.get(_last(part), ()))
            for part in nodes(asked)
            if isinstance(part, ast.Name | ast.Attribute)
        )

    def _holds(self, file: SourceFile, value: ast.expr) -> bool:
        """Whether a value is the class or a collection with it, and not made by calling it."""
        if isinstance(value, ast.Call) and spelled(value.func) in _HOLDERS:
            return any(self._holds(file, argument) for argument in value.args)
        if isinstance(value, ast.Tuple | ast.List | ast.Set):
            return any(self._holds(file, element) for element in value.elts)
        if isinstance(value, ast.Dict):
            return any(self._holds(file, key) for key in value.keys if key)
        if isinstance(value, ast.BinOp):
            return self._holds(file, value.left) or self._holds(file, value.right)
        return isinstance(value, ast.Name | ast.Attribute) and self._is_it(file, value)

    def _is_it(self, file: SourceFile, node: ast.expr) -> bool:
        spelling = dotted(node)
        if spelling is None:
            return False
        scope = _scopes(file).get(id(node), "")
        origin = self.checkout.external(file.path, scope, spelling) or ""
        if self.word in (spelling.rpartition(".")[2], origin.rpartition(".")[2]):
            return True
        if not self._held or origin.rpartition(".")[2] not in self.words:
            return False
        found = self.checkout.resolve(file.path, scope, spelling)
        return found in self._held


@once
def _scopes(file: SourceFile) -> dict[int, str]:
    """The id of each name that is read -> the scope that it is read in."""
    return {id(use.node): use.scope for use in file.names.uses}


@once
def _own(file: SourceFile) -> dict[str, list[ast.expr]]:
    """Last name of what is assigned anywhere in a file -> the values that it is given."""
    found: dict[str, list[ast.expr]] = {}
    for node in nodes(file.syntax):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            for name in _targets(node):
                found.setdefault(name, []).append(node.value)
    return found


def _targets(node: ast.Assign | ast.AnnAssign) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [_last(target) for target in targets]


def _last(node: ast.expr) -> str:
    return spelled(node).rpartition(".")[2]
