"""Where code goes through the parameters of a model, and under which names."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from codemods.nodes import nodes, of_kind, spelled
from codemods.once import once

_LISTS = {"parameters"}
_PAIRS = {"named_parameters"}
_ARGUMENTS = {"params", "parameters"}
"""What a function calls the parameters that it is given."""

_ONE = ast.Name("_", ast.Store())
_PAIR = ast.Tuple([ast.Name("_n", ast.Store()), _ONE], ast.Store())
"""What a loop may call a parameter, and a parameter with its name."""

_SAME = {"list", "tuple", "reversed", "sorted", "iter", "set", "dict", "chain"}
"""What gives the elements of its argument."""

_LOOPS = ast.For, ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp
Body = ast.For | ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp


@dataclass(frozen=True)
class Loop:
    """A loop or comprehension over the parameters of a model.

    Args:
        node: the loop.
        names: what one parameter is called in it.
        inner: what is done for each, conditions too.
    """

    node: Body
    names: frozenset[str]
    inner: tuple[ast.AST, ...]


@once
def loops(tree: ast.AST) -> tuple[Loop, ...]:
    """Every loop over parameters: of a model, of a list made of them, of an optimizer's group."""
    return tuple(_loops(tree, set(_held(tree))))


def _loops(tree: ast.AST, held: set[str]) -> Iterator[Loop]:
    for node in of_kind(tree, *_LOOPS):
        if isinstance(node, ast.For):
            names = _names(node.target, node.iter, held)
            if names:
                yield Loop(node, frozenset(names), tuple(node.body))
        elif isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp):
            names = _of_generators(node.generators, held)
            if names:
                conditions = [test for g in node.generators for test in g.ifs]
                yield Loop(node, frozenset(names), (node.elt, *conditions))
        elif isinstance(node, ast.DictComp):
            names = _of_generators(node.generators, held)
            if names:
                yield Loop(node, frozenset(names), (node.key, node.value))


def names_in(tree: ast.AST) -> set[str]:
    """What a single parameter is called anywhere in a tree."""
    return {name for loop in loops(tree) for name in loop.names}


def are_parameters(node: ast.expr, held: set[str] | None = None) -> bool:
    """Whether an expression stands for parameters of a model: ``model.parameters()``."""
    known = held or set()
    return bool(_names(_ONE, node, known) or _names(_PAIR, node, known))


def _of_generators(generators: list[ast.comprehension], held: set[str]) -> set[str]:
    return {n for g in generators for n in _names(g.target, g.iter, held)}


def _held(tree: ast.AST) -> Iterator[str]:
    """Names and attributes that a list or dict of parameters was put under."""
    for node in of_kind(tree, ast.Assign):
        if len(node.targets) != 1:
            continue
        value = node.value
        if isinstance(value, ast.ListComp):
            names = _of_generators(value.generators, set())
            kept = isinstance(value.elt, ast.Name) and value.elt.id in names
        elif isinstance(value, ast.DictComp):
            names = _of_generators(value.generators, set())
            kept = isinstance(value.value, ast.Name) and value.value.id in names
        else:
            kept = isinstance(value, ast.Call) and are_parameters(value)
        if kept:
            yield spelled(node.targets[0])


def _names(target: ast.expr, source: ast.expr, held: set[str]) -> set[str]:
    """What a parameter is called in ``for target in source``; empty where it is none."""
    if isinstance(source, ast.Call):
        return _of_call(target, source, held)
    if isinstance(source, ast.Subscript):
        key = source.slice
        of_group = isinstance(key, ast.Constant) and key.value == "params"
        return bound(target) if of_group else set()
    known = isinstance(source, ast.Name) and source.id in _ARGUMENTS
    if known or spelled(source) in held:
        return bound(target)
    return set()


def _of_call(target: ast.expr, source: ast.Call, held: set[str]) -> set[str]:
    elements = target.elts if isinstance(target, ast.Tuple) else []
    name = spelled(source.func).rpartition(".")[2]
    if name == "zip":
        pairs = zip(elements, source.args)
        return {n for one, of in pairs for n in _names(one, of, held)}
    if name == "enumerate" and source.args and len(elements) == 2:
        return _names(elements[1], source.args[0], held)
    if name in _SAME and source.args:
        return _names(target, source.args[0], held)
    if not isinstance(source.func, ast.Attribute):
        return set()
    if name in _LISTS:
        return bound(target)
    if name in _PAIRS and len(elements) == 2:
        return bound(elements[1])
    if name in ("items", "values") and spelled(source.func.value) in held:
        return bound(elements[1] if len(elements) == 2 else target)
    return set()


def bound(target: ast.expr) -> set[str]:
    """The name that a loop gives its elements, if it is one alone."""
    return {target.id} if isinstance(target, ast.Name) else set()


PLAIN = {"to_local", "full_tensor", "item", "tolist", "numel", "size", "get_local"}
"""Methods after which there is no DTensor any more."""

_NO_TENSOR = {"shape", "dtype", "device", "ndim", "requires_grad", "is_meta"}


def derived(loop: Loop) -> set[str]:
    """Names that hold a parameter of the loop, or what was computed from one, in it.

    Not those that are given a local or a full tensor anywhere in it.
    """
    found, plain = set(loop.names), set()
    for statement in loop.inner:
        for node in nodes(statement):
            if isinstance(node, ast.Assign | ast.AugAssign):
                targets = (
                    node.targets if isinstance(node, ast.Assign) else [node.target]
                )
                names = {t.id for t in targets if isinstance(t, ast.Name)}
                if _is_plain(node.value):
                    plain |= names
                elif mentions(node.value, found):
                    found |= names
    return found - plain


def _is_plain(node: ast.expr) -> bool:
    return any(
        isinstance(part, ast.Attribute) and part.attr in PLAIN for part in nodes(node)
    )


def mentions(node: ast.AST, names: set[str]) -> bool:
    """Whether the value of an expression is made of one of these tensors.

    Not where it is their shape, a number of theirs, or a local or full tensor.
    """
    if isinstance(node, ast.Name):
        return node.id in names
    if isinstance(node, ast.Attribute) and node.attr in _NO_TENSOR:
        return False
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and node.func.attr in PLAIN:
            return False
        if isinstance(node.func, ast.Name):
            return False  # what a function makes of it, a local tensor perhaps, is not known
    if isinstance(node, ast.Subscript):  # `state[p]` is something else
        return mentions(node.value, names)
    return any(mentions(child, names) for child in ast.iter_child_nodes(node))
