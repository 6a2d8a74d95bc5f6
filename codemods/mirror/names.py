"""The names in a piece of code."""

import ast


def names_in(text: str) -> set[str]:
    return {n.id for n in ast.walk(_parsed(text)) if isinstance(n, ast.Name)}


def assigned_in(text: str) -> set[str]:
    return {
        node.id
        for node in ast.walk(_parsed(text))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


def _parsed(text: str) -> ast.AST:
    try:
        return ast.parse(text)
    except SyntaxError:
        return ast.parse(f"({text})")
