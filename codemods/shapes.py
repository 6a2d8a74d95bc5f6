"""What a function is by what it does, whatever its name."""

import ast
import re
from collections.abc import Iterator

from codemods.bindings import Checkout
from codemods.names import Use

FULLY_SHARD = re.compile(r"^torch\.distributed\.(_composable\.)?fsdp\b.*\bfully_shard$")
"""FSDP2's ``fully_shard``, wherever torch has had it."""

DDP_REPLICATE = {
    "torch.distributed._composable.replicate.replicate",
    "torch.distributed._composable.replicate",
}
"""DDP's composable ``replicate``, as it can be imported."""


def uses_within(
    checkout: Checkout, path: str, function: ast.FunctionDef
) -> Iterator[Use]:
    """The names that a function reads, in source order."""
    last = function.end_lineno or function.lineno
    for use in checkout.names(path).uses:
        if function.lineno <= use.node.lineno <= last:
            yield use


def shards_its_model(checkout: Checkout, path: str, function: ast.FunctionDef) -> bool:
    """Whether a function is an ``apply_fsdp``: it fully_shards its first parameter."""
    return any(
        FULLY_SHARD.match(checkout.external(path, use.scope, use.spelling) or "")
        for use in _on_first_parameter(checkout, path, function)
    )


def replicates_its_model(
    checkout: Checkout, path: str, function: ast.FunctionDef
) -> bool:
    """Whether a function is an ``apply_ddp``: DDP's replicate on its first parameter.

    Over a mesh that is a parameter too, and with nothing sharded beside: a whole plan
    that replicates in one of its branches is something else.
    """
    if any(
        FULLY_SHARD.match(checkout.external(path, use.scope, use.spelling) or "")
        for use in uses_within(checkout, path, function)
    ):
        return False
    parameters = {arg.arg for arg in (*function.args.args, *function.args.kwonlyargs)}
    for use in _on_first_parameter(checkout, path, function):
        if checkout.external(path, use.scope, use.spelling) not in DDP_REPLICATE:
            continue
        assert use.call is not None
        passed = [
            k.value for k in use.call.keywords if k.arg in ("device_mesh", "mesh")
        ]
        if all(isinstance(p, ast.Name) and p.id in parameters for p in passed):
            return bool(passed)
    return False


def _on_first_parameter(
    checkout: Checkout, path: str, function: ast.FunctionDef
) -> Iterator[Use]:
    """The calls in a function that are handed its first parameter as it is."""
    arguments = [*function.args.posonlyargs, *function.args.args]
    if not arguments:
        return
    for use in uses_within(checkout, path, function):
        first = use.call.args[0] if use.call is not None and use.call.args else None
        if isinstance(first, ast.Name) and first.id == arguments[0].arg:
            yield use
