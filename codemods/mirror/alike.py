"""The text of a function reduced to what it does, to compare two of them."""

import ast
from functools import lru_cache
from typing import TypeGuard


@lru_cache(maxsize=256)
def bare(text: str) -> str:
    """The code of a function, whatever its comments, annotations and local names."""
    function = ast.parse(text).body[0]
    assert isinstance(function, ast.FunctionDef)
    if ast.get_docstring(function) is not None:
        function.body = function.body[1:]
    read = {n.id for n in ast.walk(function) if _is_name(n, ast.Load)}
    function.returns = None
    function = _Bare(read).visit(function)
    numbers: dict[str, str] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.arg) or _is_name(node, ast.Store):
            name = node.arg if isinstance(node, ast.arg) else node.id
            numbers.setdefault(name, f"_{len(numbers)}")
    for node in ast.walk(function):
        if isinstance(node, ast.arg):
            node.arg = numbers[node.arg]
        elif _is_name(node):
            node.id = numbers.get(node.id, node.id)
    return ast.dump(function)


class _Bare(ast.NodeTransformer):
    """Takes annotations out, and keys that a loop over ``items()`` never reads."""

    def __init__(self, read: set[str]) -> None:
        self.read = read

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is None:
            return node
        return ast.Assign(targets=[node.target], value=node.value, lineno=0)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_For(self, node: ast.For) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.target, ast.Tuple) and len(node.target.elts) == 2:
            key, value = node.target.elts
            walked = ast.unparse(node.iter)
            if (
                walked.endswith(".items()")
                and _is_name(key)
                and key.id not in self.read
            ):
                # `for _, block in x.items()` walks what `for block in x.values()` does.
                node.target = value
                values = f"{walked.removesuffix('.items()')}.values()"
                node.iter = ast.parse(values, mode="eval").body
        return node


def _is_name(node: ast.AST, context: type = object) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name) and isinstance(node.ctx, context)
