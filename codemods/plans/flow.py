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
    """The statements behind a call in its function, those of the branch that shards apart."""
    if site.function is None:
        return
    branch = {id(node) for s in site.sibling.branch for node in nodes(s)}
    last = site.node.end_lineno or site.node.lineno
    block = block_of(site.function, site.node)
    ends = isinstance(block[-1], ast.Return | ast.Raise)
    for outer in block if ends else [site.function]:
        for node in nodes(outer):
            if isinstance(node, ast.stmt) and node.lineno > last:
                if id(node) not in branch:
                    yield node


def block_of(function: ast.AST, inner: ast.expr | ast.stmt) -> list[ast.stmt]:
    """The innermost list of statements that holds ``inner``."""
    best: list[ast.stmt] = []
    for node in nodes(function):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list) and any(
                s.lineno <= inner.lineno <= (s.end_lineno or 0) for s in block
            ):
                if not best or _span(block) < _span(best):
                    best = block
    return best


def _span(block: list[ast.stmt]) -> int:
    return (block[-1].end_lineno or 0) - block[0].lineno
