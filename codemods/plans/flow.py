"""What runs before a call, and what a variable holds when it does."""

import ast
from collections.abc import Iterator

from codemods.nodes import nodes
from codemods.survey import CallSite


def last_assignment(site: CallSite, name: str) -> tuple[ast.expr, bool] | None:
    """What a local variable was last set to before the call, and if in its block."""
    if site.function is None:
        return None
    block = block_of(site.function, site.node)
    found: tuple[ast.expr, bool] | None = None
    for node in nodes(site.function):
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        if node.lineno >= site.node.lineno:
            continue
        if not any(isinstance(t, ast.Name) and t.id == name for t in targets):
            continue
        if not reaches(site.function, node, site.node):
            continue
        found = (value, node in block)
    return found


def reaches(
    function: ast.FunctionDef, statement: ast.stmt | ast.expr, call: ast.Call
) -> bool:
    """Whether a statement runs before the call whenever the call runs."""
    holder = block_of(function, statement)
    return any(node.lineno <= call.lineno <= (node.end_lineno or 0) for node in holder)


def after(site: CallSite) -> Iterator[ast.stmt]:
    """The statements that may run behind a call in its function, those of the branch that shards apart."""
    branch = {id(node) for s in site.sibling.branch for node in nodes(s)}
    for statement in behind(site.function, site.node) if site.function else ():
        if id(statement) not in branch:
            yield statement


def behind(function: ast.AST, inner: ast.expr) -> Iterator[ast.stmt]:
    """The statements that may run after an expression in a function, from its block outwards."""
    for block, at in reversed([*_around(function, inner)]):
        for later in block[at + 1 :]:
            yield from (n for n in nodes(later) if isinstance(n, ast.stmt))
        if _ends(block[-1]):
            return


def _around(
    outer: ast.AST, inner: ast.expr | ast.stmt
) -> Iterator[tuple[list[ast.stmt], int]]:
    """The blocks that an expression is in, with the index in each, from the outermost inwards."""
    for node in nodes(outer):
        for name in ("body", "orelse", "finalbody"):
            found = getattr(node, name, None)
            block: list[ast.stmt] = found if isinstance(found, list) else []
            for at, one in enumerate(block):
                if one.lineno <= inner.lineno <= (one.end_lineno or 0):
                    yield block, at


def _ends(statement: ast.stmt) -> bool:
    """Whether nothing behind a statement runs."""
    if isinstance(statement, ast.If):
        return bool(statement.orelse) and all(
            _ends(block[-1]) for block in (statement.body, statement.orelse)
        )
    if isinstance(statement, ast.With):
        return _ends(statement.body[-1])
    return isinstance(statement, ast.Return | ast.Raise)


def block_of(function: ast.AST, inner: ast.expr | ast.stmt) -> list[ast.stmt]:
    """The innermost list of statements that holds ``inner``."""
    blocks = (block for block, _ in _around(function, inner))
    return min(blocks, key=_span, default=[])


def _span(block: list[ast.stmt]) -> int:
    return (block[-1].end_lineno or 0) - block[0].lineno
