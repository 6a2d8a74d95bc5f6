"""Whether code of a plan does something, besides giving a value."""

import ast
import re
from collections.abc import Iterator

from codemods.mirror.names import parsed

_ASKS = re.compile(r"_*(get|is|has|num|count|len|named)(_|$)")
_CHANGES = frozenset(
    {
        *("append", "extend", "insert", "remove", "clear", "update", "pop", "popitem"),
        *("setdefault", "sort", "reverse"),
    }
)
_GIVES = {
    *(name for kind in (dict, list, str, int, float) for name in dir(kind)),
    *(
        "len",
        "list",
        "dict",
        "tuple",
        "set",
        "frozenset",
        "str",
        "int",
        "float",
        "bool",
    ),
    *(
        "range",
        "zip",
        "enumerate",
        "reversed",
        "sorted",
        "map",
        "filter",
        "iter",
        "next",
    ),
    *(
        "min",
        "max",
        "sum",
        "any",
        "all",
        "abs",
        "isinstance",
        "issubclass",
        "type",
        "id",
    ),
    *("hasattr", "getattr", "vars", "repr", "cast", "partial", "deepcopy", "chain"),
    *("size", "dim", "numel", "ndim", "item", "children", "modules", "parameters"),
    *("buffers", "state_dict", "flatten", "_flatten", "init_device_mesh", "device"),
} - _CHANGES
"""What is known to give a value and do nothing else, by the last part of its name."""


def acts(code: str) -> bool:
    """Whether a statement or expression calls what may have an effect.

    Constructors, what asks (``get_``, ``is_``, ``has_``, ...) and what Python and torch
    have for giving values are taken not to; any other function may.
    """
    return any(map(_may_act, _run(parsed(code))))


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """What runs with a node: not the body of a lambda."""
    yield node
    if not isinstance(node, ast.Lambda):
        for child in ast.iter_child_nodes(node):
            yield from _run(child)


def _may_act(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Attribute):
        name = node.func.attr
    elif isinstance(node.func, ast.Name):
        name = node.func.id
    else:
        return True
    constructs = name.lstrip("_")[:1].isupper()
    return not (constructs or name in _GIVES or _ASKS.match(name))
