"""Uses of ``apply_ddp`` that no file of the checkout defines: torchtitan is a package here,
or an import is out of date."""

import ast
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from codemods.bindings import Checkout
from codemods.names import Import, dotted
from codemods.source import SourceFile

PACKAGE = "torchtitan"
"""The one package whose ``apply_ddp`` is known to be this one."""

OutsideKind = Literal["import", "call", "value", "assignment"]

_INSIDE = (
    "models/",
    "parallelisms/",
    "distributed/",
    "experiments/",
    "components/",
    "train.py",
    "__init__.py",
)


@dataclass(frozen=True)
class Outside:
    """One place that names what no file of the checkout defines.

    Args:
        path: of the file.
        line: from 1.
        kind: how it is named; ``assignment`` sets it, as ``module.apply_ddp = mine`` does.
        scope: qualified name of the function or class around it, "" at module level.
        spelling: as written.
        module: the dotted module that it is sought in.
        name: its name there.
        held: that module, or its package, is part of the checkout, which so has no
            such name; else torchtitan is a package that is installed.
        node: the call or the assignment.
    """

    path: str
    line: int
    kind: OutsideKind
    scope: str
    spelling: str
    module: str
    name: str
    held: bool
    node: ast.Call | ast.Assign | None = None


def find_outside(checkout: Checkout, names: Collection[str]) -> list[Outside]:
    """Every place that names one of ``names`` of a module that does not define it.

    Followed by binding through imports, aliases, re-exports and stars. Other packages'
    functions of these names are none of torchtitan's, and are not found.
    """
    words, done = set(names), set[str]()
    found: dict[tuple[str, int, str, OutsideKind], Outside] = {}
    while words - done:
        done = set(words)
        for file in list(checkout.mentioning(*done)):
            for use in _outside_of(checkout, file, words, names):
                found[use.path, use.line, use.spelling, use.kind] = use
                words.add(use.spelling.rpartition(".")[2])
    return sorted(found.values(), key=lambda use: (use.path, use.line, use.kind))


def holds_torchtitan(checkout: Checkout) -> bool:
    """Whether torchtitan itself is part of the checkout."""
    marks = tuple(f"{PACKAGE}/{inside}" for inside in _INSIDE)
    return any(f"/{mark}" in f"/{path}" for path in checkout.files for mark in marks)


def _outside_of(
    checkout: Checkout, file: SourceFile, words: Collection[str], names: Collection[str]
) -> Iterator[Outside]:
    known = file.names

    def outside(
        kind: OutsideKind,
        line: int,
        scope: str,
        spelling: str,
        node: ast.Call | ast.Assign | None = None,
    ) -> Iterator[Outside]:
        origin = _origin(checkout, file.path, scope, spelling)
        module, _, name = (origin or "").rpartition(".")
        if name not in names:
            return
        held = _is_held(checkout, module)
        if held or (module.split(".")[0] == PACKAGE and not holds_torchtitan(checkout)):
            yield Outside(
                file.path, line, kind, scope, spelling, module, name, held, node
            )

    for scope in known.scopes.values():
        for local, imported in scope.imports.items():
            if imported.name in words:
                yield from outside("import", imported.line, scope.qualname, local)
    for use in known.uses:
        if use.spelling.rpartition(".")[2] in words and not use.shadowed:
            kind: OutsideKind = "call" if use.call is not None else "value"
            yield from outside(kind, use.node.lineno, use.scope, use.spelling, use.call)
    for scope_, node, spelling in _assigned(file):
        if spelling.rpartition(".")[2] in words:
            yield from outside("assignment", node.lineno, scope_, spelling, node)


def _assigned(file: SourceFile) -> Iterator[tuple[str, ast.Assign, str]]:
    """(scope, statement, spelling) of ``module.name = ...``, in a function too."""

    def within(
        block: list[ast.stmt], scope: str
    ) -> Iterator[tuple[str, ast.Assign, str]]:
        for outer in block:
            inner = scope
            if isinstance(outer, (ast.FunctionDef, ast.ClassDef)):
                inner = f"{scope}.{outer.name}".lstrip(".")
            for child in ast.iter_child_nodes(outer):
                if isinstance(child, ast.stmt):
                    yield from within([child], inner)
            if isinstance(outer, ast.Assign):
                for target in outer.targets:
                    spelling = dotted(target)
                    if isinstance(target, ast.Attribute) and spelling:
                        yield scope, outer, spelling

    yield from within(file.syntax.body, "")


def _is_held(checkout: Checkout, module: str) -> bool:
    """Whether a module, or the package that it should be in, is part of the checkout."""
    if checkout.path_of(module) is not None:
        return True
    top = module.split(".")[0]
    if top == PACKAGE:
        return holds_torchtitan(checkout)
    return any(path.startswith(f"{top}/") for path in checkout.files)


def _origin(checkout: Checkout, path: str, scope: str, spelling: str) -> str | None:
    """Where a name leads that nothing here defines; None where something does."""
    found = checkout.names(path).lookup(spelling, scope)
    if isinstance(found, Import):
        rest = spelling[len(found.local) :].lstrip(".")
        full = ".".join(filter(None, (found.module, found.name, rest)))
        return _beyond(checkout, full, set())
    if (
        found is None
        and "." not in spelling
        and not _is_local(checkout, path, scope, spelling)
    ):
        for star in checkout.names(path).top.stars:
            beyond = _beyond(checkout, f"{star.module}.{spelling}", set())
            if beyond is not None and not _is_held(checkout, star.module):
                return beyond
    return None


def _is_local(checkout: Checkout, path: str, scope: str, name: str) -> bool:
    here = checkout.names(path).scopes[scope]
    while here.parent is not None:
        if name in here.bound:
            return True
        here = here.parent
    return name in here.bound


def _beyond(checkout: Checkout, full: str, seen: set[str]) -> str | None:
    """The dotted name at which the checkout ends; None where it has it."""
    if full in seen:
        return None
    seen.add(full)
    module, _, name = full.rpartition(".")
    path = checkout.path_of(module)
    if path is None:
        parent, _, last = module.rpartition(".")
        parent_path = checkout.path_of(parent)
        passed_on = (
            checkout.names(parent_path).top.imports.get(last) if parent_path else None
        )
        if passed_on is not None:
            parts = filter(None, (passed_on.module, passed_on.name, name))
            return _beyond(checkout, ".".join(parts), seen)
        return full
    top = checkout.names(path).top
    if name in top.bound or "__getattr__" in top.bound:
        return None
    if checkout.path_of(full) is not None:
        return None
    if name in top.imports:
        found = top.imports[name]
        if found.name is None:
            return None
        return _beyond(checkout, f"{found.module}.{found.name}", seen)
    for star in top.stars:
        if checkout.path_of(star.module) is None:
            return f"{star.module}.{name}"
        beyond = _beyond(checkout, f"{star.module}.{name}", seen)
        if beyond is None:
            return None
    return full
