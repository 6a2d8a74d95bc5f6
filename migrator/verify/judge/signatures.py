"""What a function takes, and whether a call fits it, by parsing alone."""

from __future__ import annotations

import ast
from dataclasses import dataclass


@dataclass(frozen=True)
class Function:
    """A function's parameters."""

    positional: tuple[str, ...]
    keyword_only: tuple[str, ...]
    required: frozenset[str]
    variadic: bool
    keywords: bool


def signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Function:
    """The parameters of a definition."""
    arguments = node.args
    positional = [a.arg for a in (*arguments.posonlyargs, *arguments.args)]
    optional = (
        positional[len(positional) - len(arguments.defaults) :]
        if arguments.defaults
        else []
    )
    keyword_only = [a.arg for a in arguments.kwonlyargs]
    required = {name for name in positional if name not in optional}
    required |= {
        a.arg
        for a, default in zip(arguments.kwonlyargs, arguments.kw_defaults)
        if default is None
    }
    return Function(
        tuple(positional),
        tuple(keyword_only),
        frozenset(required),
        arguments.vararg is not None,
        arguments.kwarg is not None,
    )


def misfit(call: ast.Call, function: Function) -> str | None:
    """Why a call does not fit a function's parameters; None where it does, or where * and ** hide the answer."""
    if any(isinstance(argument, ast.Starred) for argument in call.args) or any(
        k.arg is None for k in call.keywords
    ):
        return None
    if len(call.args) > len(function.positional) and not function.variadic:
        return f"with {len(call.args)} positional arguments, of which it takes {len(function.positional)}"
    given = set(function.positional[: len(call.args)])
    for name in filter(None, (keyword.arg for keyword in call.keywords)):
        known = name in (*function.positional, *function.keyword_only)
        if not known and not function.keywords:
            return f"with {name}=, which it does not take any more"
        given.add(name)
    missing = sorted(function.required - given)
    return f"without {', '.join(missing)}" if missing else None
