"""What a function does to its model, told from its body and not from its name."""

import ast
import re
from collections.abc import Iterator

from codemods.bindings import Checkout
from codemods.guards import is_guard
from codemods.modules import Named
from codemods.names import Definition, Use
from codemods.nodes import nodes, spelled, taken
from codemods.source import SourceFile
from codemods.targets import REPLICATE_MODULE

DDP_REPLICATE = {
    "torch.distributed._composable.replicate.replicate",
    "torch.distributed._composable.replicate",
}
"""DDP's composable ``replicate``, as it can be imported."""

FULLY_SHARD = re.compile(r"^torch\.distributed\b.*\bfully_shard$")
"""FSDP2's ``fully_shard``, wherever torch has had it."""

_NAMED_AFTER_DDP = re.compile(r"ddp|replicate|data_parallel", re.IGNORECASE)
_NAMED_AFTER_FSDP = re.compile(r"^_?(apply|enable|setup|wrap|shard)_\w*fsdp|^_?shard_")
_DDPS_OWN = re.compile(r"optimize_ddp|\blog\w*\.|\bprint\(")


def function_of(checkout: Checkout, definition: Definition) -> ast.FunctionDef | None:
    """The module-level function that a definition is, if it is one."""
    for owner, node in checkout.files[definition.path].all(Named(definition.name)):
        if not owner and isinstance(node, ast.FunctionDef):
            return node
    return None


def first_parameter(node: ast.FunctionDef) -> str | None:
    """The name of a function's first parameter, the model of a plan."""
    every = taken(node.args)
    return every[0].arg if every else None


def uses_within(checkout: Checkout, path: str, node: ast.stmt) -> Iterator[Use]:
    """The names that are read in the lines of a statement."""
    last = node.end_lineno or node.lineno
    for use in checkout.names(path).uses:
        if node.lineno <= use.node.lineno <= last:
            yield use


# fully_shard


def is_fully_shard(checkout: Checkout, path: str, use: Use) -> bool:
    """Whether a name is torch's ``fully_shard``, whatever it is called here."""
    origin = checkout.external(path, use.scope, use.spelling) or ""
    return bool(FULLY_SHARD.match(origin))


def shards(checkout: Checkout, definition: Definition) -> bool:
    """Whether a function fully_shards its first parameter or parts of it."""
    node = function_of(checkout, definition)
    if node is None or not checkout.files[definition.path].mentions(b"fully_shard"):
        return False
    first = first_parameter(node)
    if first is None or node.name.startswith("parallelize"):
        return False  # a plan of all parallelisms is not one of sharding
    parts = _derived_from(node, first)
    return any(
        use.call is not None
        and is_fully_shard(checkout, definition.path, use)
        and _names(_first_argument(use.call)) & parts
        for use in uses_within(checkout, definition.path, node)
    )


def sharding_in(checkout: Checkout, path: str) -> Definition | None:
    """The function of a module that shards its model, where there is only one."""
    found = [
        definition
        for node in checkout.files[path].syntax.body
        if isinstance(node, ast.FunctionDef)
        for definition in [Definition(path, node.name)]
        if shards(checkout, definition)
    ]
    return found[0] if len(found) == 1 else None


def is_sharding_call(checkout: Checkout, path: str, use: Use) -> bool:
    """Whether a call is of a plan that shards: by what it does, else by its name."""
    if use.call is None or use.shadowed:
        return False
    last = use.spelling.rpartition(".")[2]
    if "apply_fsdp" in last:
        return True
    definition = checkout.resolve(path, use.scope, use.spelling)
    if definition is None or definition.path not in checkout.files:
        # Of another package, or a method: its name is all there is.
        return bool(_NAMED_AFTER_FSDP.match(last)) and "." not in use.spelling
    return shards(checkout, definition)


def _derived_from(node: ast.FunctionDef, name: str) -> set[str]:
    """The local names that hold a parameter, or what was taken out of it."""
    derived = {name}
    while True:
        before = len(derived)
        for inner in nodes(node):
            if isinstance(inner, ast.Assign):
                targets, value = inner.targets, inner.value
            elif isinstance(inner, (ast.For, ast.comprehension)):
                targets, value = [inner.target], inner.iter
            else:
                continue
            if _names(value) & derived:
                derived |= {n for target in targets for n in _names(target)}
        if len(derived) == before:
            return derived


def _names(node: ast.AST | None) -> set[str]:
    if node is None:
        return set()
    return {n.id for n in nodes(node) if isinstance(n, ast.Name)}


def _first_argument(call: ast.Call) -> ast.expr | None:
    if call.args:
        return call.args[0]
    return next((k.value for k in call.keywords if k.arg == "module"), None)


# DDP


def is_ddp_replicate(checkout: Checkout, path: str, use: Use) -> bool:
    """Whether a call is of DDP's composable ``replicate``."""
    origin = checkout.external(path, use.scope, use.spelling) or ""
    return use.call is not None and origin in DDP_REPLICATE


def wraps_with_replicate(
    checkout: Checkout, file: SourceFile, node: ast.FunctionDef
) -> bool:
    """Whether a function calls the composable replicate that is built on FSDP2."""
    return any(
        (checkout.external(file.path, use.scope, use.spelling) or "").startswith(
            REPLICATE_MODULE
        )
        for use in uses_within(checkout, file.path, node)
    )


def wraps_with_ddp(checkout: Checkout, file: SourceFile, node: ast.FunctionDef) -> bool:
    """Whether a function calls DDP's composable ``replicate``."""
    return any(
        is_ddp_replicate(checkout, file.path, use)
        for use in uses_within(checkout, file.path, node)
    )


def is_ddp_by_shape(
    checkout: Checkout, file: SourceFile, node: ast.FunctionDef
) -> bool:
    """Whether a function does what ``apply_ddp`` does, under another name.

    It wraps its first parameter in DDP's ``replicate`` and shards nothing. If its name
    does not say that it is about DDP, it does nothing else either, and always does it.
    """
    uses = list(uses_within(checkout, file.path, node))
    wraps = [use.call for use in uses if is_ddp_replicate(checkout, file.path, use)]
    first = first_parameter(node)
    if not wraps or first is None:
        return False
    if not all(
        call is not None and spelled(_first_argument(call) or node.args) == first
        for call in wraps
    ):
        return False
    if any(
        is_fully_shard(checkout, file.path, use)
        or is_sharding_call(checkout, file.path, use)
        for use in uses
    ):
        return False
    if _NAMED_AFTER_DDP.search(node.name):
        return True
    return all(_is_ddps_own(statement, wraps) for statement in node.body)


def _is_ddps_own(statement: ast.stmt, wraps: list[ast.Call | None]) -> bool:
    """The wrapping, a switch of DDP's compiler, a log line, or nothing to speak of."""
    if isinstance(statement, (ast.Import, ast.ImportFrom, ast.Pass)):
        return True
    if isinstance(statement, ast.Return):
        return statement.value is None or isinstance(
            statement.value, (ast.Name, ast.Call)
        )
    if isinstance(statement, (ast.Assign, ast.Expr)):
        value = statement.value
        return isinstance(value, (ast.Constant, ast.Name)) or (
            value in wraps or bool(_DDPS_OWN.search(spelled(statement)))
        )
    if isinstance(statement, ast.If):
        return is_guard(statement) or bool(_DDPS_OWN.search(spelled(statement)))
    return is_guard(statement)
