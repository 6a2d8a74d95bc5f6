"""What a call passes, and whether it fits a signature."""

import ast
from collections.abc import Sequence

from codemods import layout
from codemods.mirror import Parameter
from codemods.source import SourceFile


def argument(call: ast.Call, position: int, keyword: str | None) -> ast.expr | None:
    """What a call passes for a parameter, by keyword or at its position from 0."""
    for given in call.keywords:
        if given.arg == keyword:
            return given.value
    return call.args[position] if position < len(call.args) else None


def written(file: SourceFile, node: ast.expr) -> str:
    """An argument as it is written, on one line where that is possible."""
    return layout.flatten(file.segment(node))


def passes_by_star(call: ast.Call) -> bool:
    """Whether a call passes more than can be read, by * or **."""
    return any(isinstance(a, ast.Starred) for a in call.args) or any(
        k.arg is None for k in call.keywords
    )


def call_problem(call: ast.Call, parameters: Sequence[Parameter]) -> str | None:
    """Why a call does not fit a signature, or None if it does."""
    names = [parameter.name for parameter in parameters]
    if passes_by_star(call):
        return "it passes arguments by * or **, which cannot be followed"
    if len(call.args) > len(names):
        return (
            f"it passes {len(call.args)} positional arguments, {len(names)} are taken"
        )
    twice = set(names[: len(call.args)]) & {k.arg for k in call.keywords}
    if twice:
        return f"it passes {', '.join(sorted(twice))} twice"
    given = [*names[: len(call.args)]]
    for keyword in call.keywords:
        if keyword.arg not in names:
            return f"there is no parameter {keyword.arg}"
        given.append(keyword.arg)
    missing = [p.name for p in parameters if p.required and p.name not in given]
    if missing:
        return f"it does not pass {', '.join(missing)}"
    return None
