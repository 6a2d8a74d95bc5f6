"""Take out what a rewrite leaves unused: local variables and imports."""

import ast
from collections.abc import Callable

import libcst as cst

from codemods import edit
from codemods.bindings import ModuleNames
from codemods.source import SourceFile

_HARMLESS_CALLS = {"get_mesh", "get_optional_mesh", "size", "len", "getattr"}


def prune(
    tree: cst.Module, before: SourceFile, taken: Callable[[str], bool] = lambda _: False
) -> cst.Module:
    """Remove names that were read before the rewrite and are not any more.

    Args:
        tree: the rewritten module.
        before: the file as it was.
        taken: whether another file takes a name from this module.

    Returns:
        The module without imports and plain local assignments that only the
        rewritten code needed. What was unused before stays.
    """
    used_before = _reads(before.names)
    while True:
        names = SourceFile(before.path, tree.code.encode()).names
        used = _reads(names)
        fresh = _prune_once(tree, names, used_before, used, taken)
        if fresh is tree:
            return tree
        tree = fresh


def _reads(names: ModuleNames) -> dict[str, set[str]]:
    """Scope -> the first parts of the names read in it or in a scope inside it."""
    found: dict[str, set[str]] = {scope: set() for scope in names.scopes}
    for use in names.uses:
        here = names.scopes[use.scope]
        while here is not None:
            found[here.qualname].add(use.spelling.split(".")[0])
            here = here.parent
    return found


def _prune_once(
    tree: cst.Module,
    names: ModuleNames,
    used_before: dict[str, set[str]],
    used: dict[str, set[str]],
    taken: Callable[[str], bool],
) -> cst.Module:
    public = {
        node.value
        for statement in names.file.syntax.body
        if isinstance(statement, (ast.Assign, ast.AugAssign, ast.AnnAssign))
        for node in ast.walk(statement)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    for scope in names.scopes.values():
        if scope.is_class or scope.qualname not in used_before:
            continue
        gone = used_before[scope.qualname] - used[scope.qualname]
        for local in scope.imports:
            first = local.split(".")[0]
            if scope.parent is None and first in gone and taken(first):
                continue
            if first in gone and local not in public:
                fresh = edit.drop_import(tree, local, scope.qualname)
                if fresh.code != tree.code:
                    return fresh
        if scope.parent is None:
            continue
        candidates = gone & scope.bound - scope.elsewhere
        if not candidates:
            continue
        function = _function(names.file.syntax, scope.qualname)
        for name in sorted(candidates):
            if function is not None and _only_harmless(function, name):
                fresh = edit.drop_assignment(tree, name, scope.qualname)
                if fresh.code != tree.code:
                    return fresh
    return tree


def _function(tree: ast.Module, qualname: str) -> ast.FunctionDef | None:
    body: list[ast.stmt] = tree.body
    node: ast.stmt | None = None
    for part in qualname.split("."):
        node = next(
            (
                n
                for outer in body
                for n in ast.walk(outer)
                if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and n.name == part
            ),
            None,
        )
        if node is None:
            return None
        body = node.body  # type: ignore[attr-defined]
    return node if isinstance(node, ast.FunctionDef) else None


def _only_harmless(function: ast.FunctionDef, name: str) -> bool:
    """Whether a name is only ever set by plain assignments without side effects."""
    plain = 0
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], node.value
        elif isinstance(node, ast.AnnAssign):
            target, value = node.target, node.value or ast.Constant(None)
        else:
            continue
        if isinstance(target, ast.Name) and target.id == name:
            if not _harmless(value):
                return False
            plain += 1
    stores = sum(
        isinstance(node, ast.Name)
        and node.id == name
        and isinstance(node.ctx, (ast.Store, ast.Del))
        for node in ast.walk(function)
    )
    return plain > 0 and stores == plain


def _harmless(value: ast.expr) -> bool:
    for node in ast.walk(value):
        if isinstance(node, ast.Call):
            called = node.func
            last = called.attr if isinstance(called, ast.Attribute) else None
            last = called.id if isinstance(called, ast.Name) else last
            if last not in _HARMLESS_CALLS:
                return False
        elif isinstance(node, (ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr)):
            return False
    return True
