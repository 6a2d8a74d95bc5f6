"""Which conditions tell pure replication from sharding."""

import ast
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any, Literal

from codemods.nodes import last, nodes, of_kind, spelled
from codemods.once import once

World = Literal["replicated", "sharded"]
WORLDS: tuple[World, World] = ("replicated", "sharded")

REPLICAS = re.compile(
    r"^(dp_replicate(_(degree|size))?|data_parallel_replicate_degree|replicate_(degree|size)"
    r"|(num_|n_)replicas?|ddp_(degree|size|world_size))$"
)
"""What holds the number of replicas."""

SHARDS = re.compile(
    r"^(dp_shard(_(degree|size))?|data_parallel_shard_degree|fsdp_(degree|size))$"
)
"""What holds the number of shards."""

_OTHERS = re.compile(
    r"^(tp|pp|cp|ep|etp|(tensor|pipeline|context|expert)_parallel_degree)$"
)
_REPLICATED = re.compile(
    r"^_?((is|use|pure|only)_)?(ddp|dp_replicate|replicated?)(_(enabled|only|mode))?$"
)
_SHARDED = re.compile(r"^_?((is|use)_)?(fsdp|dp_shard|sharded)(_(enabled|mode))?$")
_BOTH = {"dp_enabled": True, "dp_cp_enabled": True, "world_size": 2}
"""What is the same under both."""
_ABOUT = re.compile(r"replica|ddp|fsdp|shard", re.IGNORECASE)
"""Without one of these a condition is about something else."""

_OPERATORS: Mapping[type[ast.AST], Callable[[Any, Any], object]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Mult: operator.mul,
}
_MOST = 4
"""Of so many things that are not known each answer is tried."""


class _Open(Exception):
    """The answer hangs on something that is not known: its text."""


Held = Mapping[str, ast.expr]
"""Name or last part of an attribute -> what it was set to, or what the property returns."""


def parting(test: ast.expr, held: Held) -> tuple[bool, bool] | None:
    """What a condition is under pure replication and under sharding, if these may differ.

    Args:
        test: a condition, or anything else.
        held: what its names stand for, as ``conditions_of`` finds it.

    Returns:
        Both answers, for the first answer to the rest that makes them differ. None where they
        are the same whatever the rest is.
    """
    if not _is_about(test, held):
        return None
    unknown: list[str] = []
    while len(unknown) <= _MOST:
        try:
            for answers in product((True, False), repeat=len(unknown)):
                rest = dict(zip(unknown, answers))
                one, two = (bool(_value(test, w, held, rest)) for w in WORLDS)
                if one != two:
                    return one, two
            return None
        except _Open as left:
            unknown.append(str(left))
    return None


def _is_about(test: ast.expr, held: Held) -> bool:
    names = (last(node) for node in nodes(test) if isinstance(node, ast.expr))
    return bool(_ABOUT.search(spelled(test))) or any(n in held for n in names if n)


@once
def conditions_of(tree: ast.Module) -> Held:
    """The names of a file that are set once and part the two, its properties too."""
    found: dict[str, list[ast.expr]] = {}
    for name, value in _set(tree):
        found.setdefault(name, []).append(value)
    once_set = {name: values[0] for name, values in found.items() if len(values) == 1}
    return {
        **properties_of(tree),
        **{n: value for n, value in once_set.items() if _ABOUT.search(spelled(value))},
    }


@once
def properties_of(tree: ast.Module) -> Held:
    """The properties of a file's classes that part the two, and methods that are like one."""
    return {
        node.name: node.body[-1].value
        for node in of_kind(tree, ast.FunctionDef)
        if _is_property(node)
        if isinstance(node.body[-1], ast.Return) and node.body[-1].value is not None
        if _ABOUT.search(spelled(node.body[-1].value))
    }


def _is_property(node: ast.FunctionDef) -> bool:
    """Whether it is one, or a method that takes nothing and only returns."""
    if len(node.body) == 1 and [a.arg for a in node.args.args] == ["self"]:
        return True
    return any(spelled(d).endswith("property") for d in node.decorator_list)


def _set(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in of_kind(tree, ast.Assign, ast.AnnAssign, ast.NamedExpr):
        if isinstance(node, ast.Assign):
            yield from ((last(t), node.value) for t in node.targets if last(t))
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            yield last(node.target), node.value


def _value(
    node: ast.expr, world: World, held: Held, rest: Mapping[str, bool]
) -> object:
    """The value of an expression in a world; raises _Open."""
    pure = world == "replicated"
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.BoolOp):
        values = (bool(_value(part, world, held, rest)) for part in node.values)
        return all(values) if isinstance(node.op, ast.And) else any(values)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return not _value(node.operand, world, held, rest)
    if isinstance(node, ast.IfExp):
        chosen = node.body if _value(node.test, world, held, rest) else node.orelse
        return _value(chosen, world, held, rest)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        sides = [_value(part, world, held, rest) for part in (node.left, node.right)]
        return _OPERATORS[type(node.op)](*sides)
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        return _compared(node, world, held, rest)
    if isinstance(node, ast.Call):
        if spelled(node.func) == "bool" and node.args:
            return _value(node.args[0], world, held, rest)
        return _named(_asked(node), node, pure, held, rest)
    return _named(last(node), node, pure, held, rest)


def _asked(call: ast.Call) -> str:
    """What a call asks for by its name, ``self.is_ddp()`` and ``getattr(dims, "is_ddp")``."""
    if spelled(call.func) == "getattr" and len(call.args) > 1:
        named = call.args[1]
        return str(named.value) if isinstance(named, ast.Constant) else ""
    return "" if call.args or call.keywords else last(call.func)


def _named(
    name: str, node: ast.expr, pure: bool, held: Held, rest: Mapping[str, bool]
) -> object:
    if REPLICAS.match(name):
        return 2 if pure else 1
    if SHARDS.match(name):
        return 1 if pure else 2
    if _OTHERS.match(name):
        return 1
    if _REPLICATED.match(name):
        return pure
    if _SHARDED.match(name):
        return not pure
    if name in _BOTH:
        return _BOTH[name]
    if name in held:
        known = {key: value for key, value in held.items() if key != name}
        return _value(held[name], "replicated" if pure else "sharded", known, rest)
    return _answer(node, rest)


def _answer(node: ast.expr, rest: Mapping[str, bool]) -> bool:
    text = spelled(node)
    if text not in rest:
        raise _Open(text)
    return rest[text]


def _compared(
    node: ast.Compare, world: World, held: Held, rest: Mapping[str, bool]
) -> object:
    right, how = node.comparators[0], node.ops[0]
    for word in (node.left, right):  # strategy == "ddp", "dp_shard" in mesh_dim_names
        if isinstance(word, ast.Constant) and isinstance(word.value, str):
            of_one = _of_world(word.value)
            if of_one is None:
                return _answer(node, rest)
            met = of_one == world
            return met if isinstance(how, ast.Eq | ast.In) else not met
    if isinstance(how, ast.Is | ast.IsNot):
        words = [n.value for n in nodes(node.left) if isinstance(n, ast.Constant)]
        of_one = _of_world(str(words[0])) if len(words) == 1 else None
        if of_one is None:  # get_optional_mesh("fsdp") is None
            return _answer(node, rest)
        return (of_one != world) == isinstance(how, ast.Is)
    if type(how) not in _OPERATORS:
        return _answer(node, rest)
    try:
        sides = [_value(part, world, held, rest) for part in (node.left, right)]
        if all(isinstance(side, int) for side in sides):
            return _OPERATORS[type(how)](*sides)
    except _Open:
        pass
    return _answer(node, rest)


def _of_world(word: str) -> World | None:
    """In which of the two something of a name is there."""
    if re.search(r"ddp|replica", word, re.IGNORECASE):
        return "replicated"
    return "sharded" if re.search(r"fsdp|shard", word, re.IGNORECASE) else None
