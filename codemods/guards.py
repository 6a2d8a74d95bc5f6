"""What a guard against more than one dimension looks like."""

import ast
import re
from typing import TypeGuard

_MESSAGE = re.compile(
    r"(DDP|replicate).*(> ?1-?D|1-?D|> 1 dim|one.dimension)", re.I | re.S
)


def refuses(node: ast.AST) -> TypeGuard[ast.Constant]:
    """Whether a string says that DDP does not do more than one dimension."""
    return (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and bool(_MESSAGE.search(node.value))
    )


def is_guard(node: ast.stmt) -> bool:
    """Whether a statement only refuses a mesh of more than one dimension for DDP."""
    if isinstance(node, ast.If) and not node.orelse and len(node.body) == 1:
        only = node.body[0]
        refusal = isinstance(only, ast.Raise) and _MESSAGE.search(ast.unparse(only))
        return bool(refusal) and _only_about_the_mesh(node.test)
    if isinstance(node, ast.Assert) and node.msg is not None:
        refusal = _MESSAGE.search(ast.unparse(node.msg))
        return bool(refusal) and _only_about_the_mesh(node.test)
    return False


def _only_about_the_mesh(test: ast.expr) -> bool:
    """Whether a condition asks for the mesh alone, directly or by a variable."""
    if isinstance(test, ast.BoolOp):
        return all(_only_about_the_mesh(value) for value in test.values)
    if isinstance(test, ast.UnaryOp):
        return _only_about_the_mesh(test.operand)
    if isinstance(test, ast.Compare):
        sides = (test.left, *test.comparators)
        if all(isinstance(side, (ast.Name, ast.Constant)) for side in sides):
            return True
    if isinstance(test, ast.Name):
        return True
    return bool(re.search(r"mesh|ndim|size|_enabled|degree|dims", ast.unparse(test)))
