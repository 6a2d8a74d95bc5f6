"""What stands for a model in code outside of it, and which classes are modules."""

import ast
import re
from dataclasses import dataclass

from codemods.nodes import nodes, of_kind, spelled
from codemods.once import once
from codemods.source import SourceFile

_MODEL = re.compile(
    r"(^|[._])(model|model_part|module|net|network|student|policy|actor)"
    r"(s?\[[^\]]*\]|_parts\[[^\]]*\])?$"
)
_PARTS = re.compile(
    r"(^|\.)(layer|block|transformer_block)$|\.(layers|blocks)\[[^\]]*\]$"
)

PLAN_OF_A_SPEC = "parallelize_fn"
"""The field of a model's specification that holds its plan, and what a trainer calls."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def is_model(node: ast.expr) -> bool:
    """Whether an expression is, by its name, the model that is trained: ``self.model``."""
    return bool(_MODEL.search(spelled(node))) and "teacher" not in spelled(node)


def is_block(node: ast.expr) -> bool:
    """Whether it is, by its name, one block of a model: ``layer``, ``model.layers["0"]``."""
    return bool(_PARTS.search(spelled(node)))


@once
def modules(tree: ast.AST) -> tuple[ast.ClassDef, ...]:
    """The classes that have a ``forward``."""
    return tuple(
        node for node in of_kind(tree, ast.ClassDef) if "forward" in methods(node)
    )


def methods(node: ast.ClassDef) -> dict[str, Function]:
    """Name -> method."""
    return {child.name: child for child in node.body if isinstance(child, Function)}


@once
def inside_modules(tree: ast.AST) -> frozenset[int]:
    """The ids of all nodes in classes that have a ``forward``."""
    return frozenset(id(inner) for node in modules(tree) for inner in nodes(node))


@once
def functions(tree: ast.AST) -> tuple[Function, ...]:
    """Every function and method, those within others too."""
    return tuple(of_kind(tree, ast.FunctionDef, ast.AsyncFunctionDef))


@dataclass(frozen=True)
class Named:
    """Finds the functions of a module, and the methods of its classes, of one name.

    Each with the name of its class, "" without one.
    """

    name: str

    def __call__(self, file: SourceFile) -> tuple[tuple[str, Function], ...]:
        return _members(file).get(self.name, ())


@once
def _members(file: SourceFile) -> dict[str, tuple[tuple[str, Function], ...]]:
    found: dict[str, tuple[tuple[str, Function], ...]] = {}
    for node in file.syntax.body:
        own = {node.name: node} if isinstance(node, Function) else {}
        owner = ""
        if isinstance(node, ast.ClassDef):
            own, owner = methods(node), node.name
        for name, function in own.items():
            found[name] = (*found.get(name, ()), (owner, function))
    return found


@dataclass(frozen=True)
class Defining:
    """Finds the first class or function of a name in a module."""

    name: str

    def __call__(self, file: SourceFile) -> ast.ClassDef | Function | None:
        return _top(file).get(self.name)


@once
def _top(file: SourceFile) -> dict[str, ast.ClassDef | Function]:
    defined = (n for n in file.syntax.body if isinstance(n, ast.ClassDef | Function))
    return {node.name: node for node in reversed([*defined])}
