"""Conditions that follow from the defaults of parameters which only serve sharding."""

import ast
import re
from collections.abc import Iterable, Mapping

import libcst as cst

from codemods import layout
from codemods.mirror.names import names_in

_OF_EXPERTS = re.compile(
    r"^ep(_(degree|size|enabled|mesh))?$|^edp_|efsdp|^dp_mod_|expert\w*_(mesh|degree|parallel)"
)
"""Parameters that lay out experts, which replicas do not."""

_OF_SHARDING = re.compile(
    r"reshard|offload|^pp_|pipeline|(^|_)ep(_|$)|prefetch|divide_factor"
)
"""Parameters that by their names say how to shard: no use here, if that is all they do."""

_COMPARISON = (
    ast.Expression,
    ast.Compare,
    ast.BoolOp,
    ast.UnaryOp,
    ast.Name,
    ast.Constant,
    ast.boolop,
    ast.unaryop,
    ast.cmpop,
    ast.expr_context,
)


def constants_of(
    tree: cst.Module, params: Iterable[cst.Param]
) -> tuple[dict[str, object], dict[str, object]]:
    """The parameters that lay out experts, and these with those named for sharding -> their defaults."""
    known = _defaults(tree, params)
    experts = {n: value for n, value in known.items() if _OF_EXPERTS.search(n)}
    sharding = {n: value for n, value in known.items() if _OF_SHARDING.search(n)}
    return experts, {**experts, **sharding}


def _defaults(tree: cst.Module, params: Iterable[cst.Param]) -> dict[str, object]:
    """Parameter -> its default, where that is a literal."""
    found: dict[str, object] = {}
    for param in params:
        name = param.name.value
        if param.default is None:
            continue
        try:
            found[name] = ast.literal_eval(tree.code_for_node(param.default).strip())
        except ValueError:
            continue
    return found


def fold(
    tree: cst.Module, test: cst.BaseExpression, constants: Mapping[str, object]
) -> tuple[list[str], bool | None]:
    """The terms of a condition that do not follow from defaults; its value if known."""
    if isinstance(test, cst.BooleanOperation) and isinstance(test.operator, cst.And):
        left, left_value = fold(tree, test.left, constants)
        right, right_value = fold(tree, test.right, constants)
        if False in (left_value, right_value):
            return [], False
        terms = [
            term
            for terms, value in ((left, left_value), (right, right_value))
            for term in terms
            if value is not True
        ]
        return terms, None if terms else True
    code = tree.code_for_node(test).strip()
    names = names_in(code)
    bracketed = f"(\n{code}\n)"  # what goes over several lines may be in brackets here
    if names and names <= set(constants) and _only_compares(bracketed):
        try:
            value = eval(
                compile(bracketed, "<default>", "eval"),
                {"__builtins__": {}},
                dict(constants),
            )
        except TypeError:
            return [layout.flatten(code)], None
        return [], bool(value)
    return [layout.flatten(code)], None


def _only_compares(code: str) -> bool:
    """Whether it only compares literals and names, so that it is safe to run."""
    parsed = ast.parse(code, mode="eval")
    return all(isinstance(node, _COMPARISON) for node in ast.walk(parsed))
