"""Whether code of a plan does something, besides giving a value."""

import ast
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TypeGuard

from codemods.mirror.names import parsed
from codemods.nodes import spelled

SHARDING_CALL = re.compile(
    r"^set_modules_to_\w+_prefetch$|^set_reshard_|^set_unshard_|^_set_unshard"
)
"""Methods of what ``fully_shard`` wrapped that are of no use to replicate."""

_HSDP_CALL = "set_requires_all_reduce"
_LOGS = re.compile(r"\w*log\w*\.|print$|warn")
_ASKS = re.compile(r"_*(get|is|has|num|count|len|named)(_|$)")
_CHANGES = {
    *("append", "extend", "insert", "remove", "clear", "update", "pop", "popitem"),
    *("setdefault", "sort", "reverse"),
}
_METHODS = {
    *(name for kind in (dict, list, str) for name in dir(kind) if name not in _CHANGES),
    *("size", "dim", "numel", "ndim", "item", "children", "modules", "parameters"),
    *("buffers", "state_dict", "flatten", "_flatten", "named_children", "device"),
}
_FUNCTIONS = {
    *("len", "list", "dict", "tuple", "set", "frozenset", "str", "int", "float"),
    *("bool", "range", "zip", "enumerate", "reversed", "sorted", "map", "filter"),
    *("iter", "next", "min", "max", "sum", "any", "all", "abs", "isinstance"),
    *("issubclass", "type", "id", "hasattr", "getattr", "vars", "repr", "cast"),
    *("partial", "deepcopy", "chain", "init_device_mesh", "device"),
}
"""What is known to give a value and do nothing else, by its name."""

_MODULES = ("functools.", "itertools.", "copy.", "typing.", "torch.")


@lru_cache(maxsize=1024)
def acts(code: str) -> bool:
    """Whether a statement or expression calls what may have an effect.

    Constructors, what asks (``get_``, ``is_``, ``has_``, ...) and what Python and torch
    have for giving values are taken not to; any other function may.
    """
    return any(map(_may_act, _run(parsed(code))))


def is_of_sharding(code: str) -> bool:
    """Whether all that a statement calls, but for what gives a value or logs, is for shards alone."""
    acting = [spelled(node.func) for node in _run(parsed(code)) if _may_act(node)]
    return all(
        SHARDING_CALL.match(name) or name == _HSDP_CALL or _LOGS.match(called)
        for called in acting
        for name in [called.rpartition(".")[2]]
    )


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """What runs with a node: not the body of a lambda."""
    yield node
    if not isinstance(node, ast.Lambda):
        for child in ast.iter_child_nodes(node):
            yield from _run(child)


def _may_act(node: ast.AST) -> TypeGuard[ast.Call]:
    if not isinstance(node, ast.Call):
        return False
    called = spelled(node.func)
    name = called.rpartition(".")[2]
    constructs = name.lstrip("_")[:1].isupper()
    module = called.startswith(_MODULES)
    is_method = isinstance(node.func, ast.Attribute) and not module
    gives = _METHODS if is_method else _FUNCTIONS
    return not (constructs or name in gives or _ASKS.match(name))
