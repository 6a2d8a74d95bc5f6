"""The branch beside a DDP call, in which the same plan shards the same model."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from codemods.bindings import Checkout
from codemods.names import Definition, Use
from codemods.nodes import nodes, spelled
from codemods.shapes import is_fully_shard, is_sharding_call


@dataclass(frozen=True)
class Step:
    """One call that shards.

    Args:
        call: it.
        plan: what is called, where that is a function of this checkout.
        in_place: it is a call of ``fully_shard`` itself.
    """

    call: ast.Call
    plan: Definition | None
    in_place: bool


@dataclass(frozen=True)
class Sibling:
    """What shards beside a DDP call.

    Args:
        call: the call of ``apply_fsdp`` about the same object, None without one.
        definition: what that call stands for, None where it is not of this checkout.
        branch: the statements of the branch that shards, empty where it is not one.
        steps: every call in that branch that shards, in order.
        wrapped: what the DDP call wraps.
    """

    call: ast.Call | None = None
    definition: Definition | None = None
    branch: tuple[ast.stmt, ...] = ()
    steps: tuple[Step, ...] = ()
    wrapped: str = ""

    @property
    def in_place(self) -> bool:
        """Whether what shards is ``fully_shard`` itself, each time."""
        return bool(self.steps) and all(step.in_place for step in self.steps)

    @property
    def several(self) -> bool:
        """Whether functions are called there, and on more than what DDP wraps."""
        return not self.in_place and any(
            subject(step.call) not in (self.wrapped, "") for step in self.steps
        )


def sibling_of(
    checkout: Checkout, path: str, call: ast.Call, function: ast.FunctionDef | None
) -> Sibling:
    """What shards beside a call that wraps with DDP.

    Args:
        checkout: the files.
        path: the file of the call.
        call: it.
        function: the function around it, None at module level.
    """
    called = [use for use in checkout.names(path).uses if use.call is not None]
    plans = [use for use in called if is_sharding_call(checkout, path, use)]
    themselves = [use for use in called if is_fully_shard(checkout, path, use)]
    near = [u for u in plans if function is not None and _holds(function, u.node)]
    branch, steps = (
        _branch(function, call, [*near, *themselves]) if function else ((), [])
    )
    chosen = _chosen(checkout, path, call, near, near=True)
    if chosen is None and not steps:
        far = [u for u in plans if u not in near]
        chosen = _chosen(checkout, path, call, far, near=False)
    return Sibling(
        chosen.call if chosen else None,
        _definition(checkout, path, chosen) if chosen else None,
        branch,
        _steps(checkout, path, steps),
        subject(call),
    )


def _steps(checkout: Checkout, path: str, uses: list[Use]) -> tuple[Step, ...]:
    return tuple(
        Step(
            use.call,
            _definition(checkout, path, use),
            is_fully_shard(checkout, path, use),
        )
        for use in uses
        if use.call is not None
    )


def _chosen(
    checkout: Checkout, path: str, call: ast.Call, uses: list[Use], *, near: bool
) -> Use | None:
    """The first call that is about what ``call`` is about."""
    for use in uses:
        assert use.call is not None
        if near and not same_object(use.call, call):
            continue
        if not near and (
            _definition(checkout, path, use) is None or _is_part(use.call)
        ):
            continue
        return use
    return None


def _definition(checkout: Checkout, path: str, use: Use) -> Definition | None:
    return checkout.resolve(path, use.scope, use.spelling)


def subject(call: ast.Call) -> str:
    """What a call wraps, as it is written."""
    if call.args:
        return spelled(call.args[0])
    named = [k.value for k in call.keywords if k.arg in ("model", "module")]
    return spelled(named[0]) if named else ""


def same_object(call: ast.Call, other: ast.Call) -> bool:
    """Whether two calls wrap the same object; where one does not say, they do."""
    return subject(call) == subject(other) or "" in (subject(call), subject(other))


def _is_part(call: ast.Call) -> bool:
    """Whether a call wraps an attribute of a model, not a model."""
    found = subject(call)
    return "." in found and not found.startswith("self.")


def _branch(
    function: ast.FunctionDef, call: ast.Call, uses: list[Use]
) -> tuple[tuple[ast.stmt, ...], list[Use]]:
    """The largest block that shards and does not hold the call, and what shards there.

    Where several branches shard, the one that is about the object of the call.
    """
    found: list[tuple[tuple[ast.stmt, ...], list[Use]]] = []
    for block in _blocks(function):
        if any(_holds(statement, call) for statement in block):
            continue
        block = _unwrapped(block)
        steps = [u for u in uses if any(_holds(s, u.node) for s in block)]
        steps.sort(key=lambda use: (use.node.lineno, use.node.col_offset))
        inner = any(_holds(s, block[0]) for outer, _ in found for s in outer)
        if steps and not inner:
            found.append((tuple(block), steps))
    found.sort(key=lambda one: not any(_about(use, call) for use in one[1]))
    return found[0] if found else ((), [])


def _unwrapped(block: list[ast.stmt]) -> list[ast.stmt]:
    """The body of an ``elif``, which is an ``if`` alone in an ``else``."""
    only = block[0]
    if len(block) == 1 and isinstance(only, ast.If) and not only.orelse:
        return _unwrapped(only.body)
    return block


def _about(use: Use, call: ast.Call) -> bool:
    return use.call is not None and same_object(use.call, call)


def _blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """Every list of statements, the outer ones first."""
    for inner in nodes(node):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(inner, name, None)
            if isinstance(block, list) and block:
                yield block


def _holds(node: ast.stmt, inner: ast.expr | ast.stmt) -> bool:
    return node.lineno <= inner.lineno <= (node.end_lineno or node.lineno)
