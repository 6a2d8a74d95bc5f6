"""Take out what a rewrite leaves unused: local variables and imports."""

import ast
from collections.abc import Callable, Iterator

import libcst as cst

from codemods import edit
from codemods.names import ModuleNames, Scope
from codemods.nodes import nodes
from codemods.source import SourceFile

_HARMLESS_CALLS = {"get_mesh", "get_optional_mesh", "size", "len", "getattr", "dict"}


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
        now = SourceFile(before.path, edit.code_of(tree).encode())
        fresh = _prune_once(tree, now, used_before, taken)
        if fresh is tree:
            return tree
        tree = fresh


def _reads(names: ModuleNames) -> dict[str, set[str]]:
    """Scope -> the first parts of the names read in it or in a scope inside it."""
    found: dict[str, set[str]] = {scope: set() for scope in names.scopes}
    for use in names.uses:
        here: Scope | None = names.scopes[use.scope]
        while here is not None:
            found[here.qualname].add(use.spelling.split(".")[0])
            here = here.parent
    return found


def _prune_once(
    tree: cst.Module,
    file: SourceFile,
    used_before: dict[str, set[str]],
    taken: Callable[[str], bool],
) -> cst.Module:
    """``tree``, whose file is ``file``, without the first name that is to go."""
    used = _reads(file.names)
    for scope in file.names.scopes.values():
        if scope.is_class or scope.qualname not in used_before:
            continue
        gone = used_before[scope.qualname] - used[scope.qualname]
        for local in _unused_imports(file, scope, gone, taken):
            fresh = edit.drop_import(tree, local, scope.qualname)
            if edit.code_of(fresh) != edit.code_of(tree):
                return fresh
        for name in _unused_variables(file, scope, gone):
            fresh = edit.drop_assignment(tree, name, scope.qualname)
            if edit.code_of(fresh) != edit.code_of(tree):
                return fresh
    return tree


def _unused_imports(
    file: SourceFile, scope: Scope, gone: set[str], taken: Callable[[str], bool]
) -> Iterator[str]:
    """The imports of a scope that bind one of the names gone, and nobody else wants."""
    public = {
        node.value
        for statement in file.syntax.body
        if isinstance(statement, (ast.Assign, ast.AugAssign, ast.AnnAssign))
        for node in nodes(statement)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    for local in scope.imports:
        first = local.split(".")[0]
        if first not in gone or local in public:
            continue
        if scope.parent is not None or not taken(first):
            yield local


def _unused_variables(file: SourceFile, scope: Scope, gone: set[str]) -> Iterator[str]:
    """The local variables among the names gone that nothing happens by setting."""
    candidates = gone & scope.bound - scope.elsewhere
    if scope.parent is None or not candidates:
        return
    function = _function(file.syntax, scope.qualname)
    for name in sorted(candidates):
        if function is not None and _only_harmless(function, name):
            yield name


def _function(tree: ast.Module, qualname: str) -> ast.FunctionDef | None:
    body = tree.body
    node: ast.FunctionDef | ast.ClassDef | None = None
    for part in qualname.split("."):
        node = next(
            (
                n
                for outer in body
                for n in nodes(outer)
                if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and n.name == part
            ),
            None,
        )
        if node is None:
            return None
        body = node.body
    return node if isinstance(node, ast.FunctionDef) else None


def _only_harmless(function: ast.FunctionDef, name: str) -> bool:
    """Whether a name is only ever set by plain assignments without side effects."""
    plain = 0
    for node in nodes(function):
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
        for node in nodes(function)
    )
    return plain > 0 and stores == plain


def _harmless(value: ast.expr) -> bool:
    for node in nodes(value):
        if isinstance(node, ast.Call):
            called = node.func
            last = called.attr if isinstance(called, ast.Attribute) else None
            last = called.id if isinstance(called, ast.Name) else last
            if last not in _HARMLESS_CALLS:
                return False
        elif isinstance(node, (ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr)):
            return False
    return True
