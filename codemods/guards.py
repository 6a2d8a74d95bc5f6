"""What a guard against more than one dimension looks like."""

import ast
import re

_MESSAGE = re.compile(r"(DDP|replicate).*(> ?1-?D|1-?D|> 1 dim|one.dimension)", re.I | re.S)


def refuses(node: ast.AST) -> bool:
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
        return isinstance(only, ast.Raise) and bool(_MESSAGE.search(ast.unparse(only)))
    if isinstance(node, ast.Assert) and node.msg is not None:
        return bool(_MESSAGE.search(ast.unparse(node.msg)))
    return False
