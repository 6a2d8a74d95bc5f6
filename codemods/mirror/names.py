"""The names in a piece of code, and the opposite of a condition."""

import ast
from collections.abc import Sequence
from functools import lru_cache

_OPPOSITE: dict[type[ast.cmpop], str] = {
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.In: "not in",
    ast.NotIn: "in",
}


@lru_cache(maxsize=1024)
def names_in(text: str) -> frozenset[str]:
    return frozenset(n.id for n in ast.walk(parsed(text)) if isinstance(n, ast.Name))


@lru_cache(maxsize=1024)
def assigned_in(text: str) -> frozenset[str]:
    return frozenset(
        node.id
        for node in ast.walk(parsed(text))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    )


def negated(terms: Sequence[str]) -> str:
    """The opposite of terms that are joined by ``and``, as one term."""
    if len(terms) > 1:
        return f"not ({' and '.join(terms)})"
    term = terms[0]
    node = ast.parse(f"({term})", mode="eval").body
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        opposite = _OPPOSITE.get(type(node.ops[0]))
        left = ast.get_source_segment(f"({term})", node.left)
        right = ast.get_source_segment(f"({term})", node.comparators[0])
        if opposite:
            return f"{left} {opposite} {right}"
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        inner = ast.get_source_segment(f"({term})", node.operand) or ""
        return f"({inner})" if isinstance(node.operand, ast.BoolOp) else inner
    simple = (ast.Name, ast.Attribute, ast.Call, ast.Subscript)
    return f"not {term}" if isinstance(node, simple) else f"not ({term})"


def parsed(text: str) -> ast.AST:
    """The syntax tree of a statement or an expression, which may be the rest of a line."""
    try:
        return ast.parse(text)
    except SyntaxError:
        return ast.parse(f"({text})")
