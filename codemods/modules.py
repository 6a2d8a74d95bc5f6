"""What stands for a model in code outside of it, and which classes are modules."""

import ast
import re

from codemods.nodes import nodes, spelled
from codemods.once import once

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
        node
        for node in nodes(tree)
        if isinstance(node, ast.ClassDef) and "forward" in methods(node)
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
    return tuple(node for node in nodes(tree) if isinstance(node, Function))
