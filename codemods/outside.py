"""Uses of ``apply_ddp`` that no file of the checkout defines: torchtitan is a package here,
or an import is out of date. And imports that the torchtitan at hand does not have."""

import ast
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from codemods.autocast import FUNCTION as AUTOCAST
from codemods.bindings import Checkout
from codemods.dependency import PACKAGE
from codemods.names import Import, Use, absolute_module
from codemods.nodes import dotted, nodes, of_kind
from codemods.once import once
from codemods.source import SourceFile

OutsideKind = Literal["import", "call", "value", "assignment"]


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

    Followed by binding through imports, aliases, re-exports and stars, as far as the
    checkout itself goes. Other packages' functions of these names are none of
    torchtitan's, and are not found.

    Args:
        checkout: the files.
        names: of functions.
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


def uses_torchtitan(checkout: Checkout) -> bool:
    """Whether a file imports a torchtitan that is not part of the checkout."""
    if checkout.holds_torchtitan:
        return False
    package = re.escape(checkout.package)
    words = re.compile(rf"^\s*(?:from|import)\s+{package}\b".encode(), re.M)
    return any(file.found(words) for file in checkout.mentioning(checkout.package))


def find_broken(checkout: Checkout) -> list[Outside]:
    """Every import of what the torchtitan at hand does not have, unless it is tried."""
    if not checkout.dependency:
        return []
    found = []
    for file in checkout.mentioning(checkout.package):
        at = tried(file)
        for qualname, imported in _imports(file):
            if imported.line not in at and _is_broken(checkout, imported):
                found.append(_of_import(file, qualname, imported))
        found += (u for u in _broken_calls(checkout, file) if u.line not in at)
    return sorted(found, key=lambda use: (use.path, use.line))


def _broken_calls(checkout: Checkout, file: SourceFile) -> Iterator[Outside]:
    """Calls of torchtitan's choice of autocast, through a module that has none."""
    for use in file.names.uses:
        module, _, last = use.spelling.rpartition(".")
        if use.call is None or not module or last != AUTOCAST:
            continue
        full = checkout.external(file.path, use.scope, module) or ""
        asked = Import(last, full, last, use.node.lineno)
        if _is_broken(checkout, asked):
            place = (file.path, use.node.lineno)
            yield Outside(*place, "call", use.scope, use.spelling, full, last, False)


def _of_import(file: SourceFile, scope: str, imported: Import) -> Outside:
    module, name = imported.module, imported.name or ""
    place = (file.path, imported.line)
    return Outside(*place, "import", scope, imported.local, module, name, held=False)


def _imports(file: SourceFile) -> Iterator[tuple[str, Import]]:
    for scope in file.names.scopes.values():
        for imported in (*scope.imports.values(), *scope.stars):
            yield scope.qualname, imported


def _is_broken(checkout: Checkout, imported: Import) -> bool:
    """Whether an import is of the dependency, which does not have it."""
    return checkout.is_of_torchtitan(imported.module) and not _provides(
        checkout, imported
    )


def has_module(checkout: Checkout, module: str) -> bool:
    """Whether a dotted name is a module or a package of the dependency."""
    if checkout.path_of(module) is not None:
        return True
    return any(f.module.startswith(f"{module}.") for f in checkout.dependency.values())


def _provides(checkout: Checkout, imported: Import) -> bool:
    module, name = imported.module, imported.name
    path = checkout.path_of(module)
    if name in (None, "*") or path is None:
        return has_module(checkout, module) and (
            name in (None, "*") or has_module(checkout, f"{module}.{name}")
        )
    top = checkout.names(path).top
    known = {name, "__getattr__"} & {*top.bound, *top.imports}
    return bool(known or top.stars) or has_module(checkout, f"{module}.{name}")


@once
def tried(file: SourceFile) -> set[int]:
    """The lines that are tried, and those that follow where one fails.

    Those of imports too of which a condition takes one or another.
    """
    chosen = {
        line
        for node in of_kind(file.syntax, ast.If)
        if node.orelse
        for line in _chosen(node)
    }
    return chosen | {
        line
        for node in of_kind(file.syntax, ast.Try)
        if node.handlers
        for line in range(node.lineno, (node.end_lineno or 0) + 1)
    }


def _chosen(node: ast.If) -> Iterator[int]:
    """The lines of the imports of names that both branches import."""
    branches = [
        {
            alias.asname or alias.name: inner.lineno
            for statement in block
            if isinstance(statement, (ast.Import, ast.ImportFrom, ast.If))
            for inner in nodes(statement)
            if isinstance(inner, (ast.Import, ast.ImportFrom))
            for alias in inner.names
        }
        for block in (node.body, node.orelse)
    ]
    for name in branches[0].keys() & branches[1].keys():
        yield from (branch[name] for branch in branches)


def _outside_of(
    checkout: Checkout,
    file: SourceFile,
    words: Collection[str],
    names: Collection[str],
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
        held = is_held(checkout, module)
        if held or (
            checkout.is_of_torchtitan(module) and not checkout.holds_torchtitan
        ):
            yield Outside(
                file.path, line, kind, scope, spelling, module, name, held, node
            )

    for scope in known.scopes.values():
        for local, imported in scope.imports.items():
            if imported.name in words:
                yield from outside("import", imported.line, scope.qualname, local)
    yield from _imported_before(checkout, file, names)
    for use in known.uses:
        if use.spelling.rpartition(".")[2] in words and not use.shadowed:
            kind: OutsideKind = "call" if use.call is not None else "value"
            yield from outside(kind, use.node.lineno, use.scope, use.spelling, use.call)
    for use, module, name in _by_name(checkout, file):
        if name in names and not checkout.holds_torchtitan:
            at = (file.path, use.node.lineno)
            gets = use.spelling == "getattr"
            called = _calls(file).get(id(use.call)) if gets else use.call
            kind = "call" if called else "value"
            spelling = ast.unparse(use.call or use.node) if gets else use.spelling
            yield Outside(*at, kind, use.scope, spelling, module, name, False, called)
    for scope_, node, spelling in _assigned(file):
        if spelling.rpartition(".")[2] in words:
            yield from outside("assignment", node.lineno, scope_, spelling, node)


def _imported_before(
    checkout: Checkout, file: SourceFile, names: Collection[str]
) -> Iterator[Outside]:
    """Imports from that torchtitan whose name a later one gives to the other function."""
    last = {
        local: found.name
        for scope in file.names.scopes.values()
        for local, found in scope.imports.items()
    }
    for node in of_kind(file.syntax, ast.ImportFrom):
        for alias in node.names:
            local = alias.asname or alias.name
            if alias.name not in names or last.get(local) in (alias.name, None):
                continue
            module = absolute_module(file.package, node)
            if checkout.is_of_torchtitan(module) and not checkout.holds_torchtitan:
                at = (file.path, node.lineno)
                yield Outside(*at, "import", "", local, module, alias.name, False)


def _by_name(checkout: Checkout, file: SourceFile) -> Iterator[tuple[Use, str, str]]:
    """Uses, module and name of what is asked of a module of that torchtitan at run time.

    By ``getattr``, or of a variable that ``import_module`` gave its module to.
    """
    for use in file.names.uses:
        of: ast.expr
        if use.spelling == "getattr" and use.call is not None:
            if len(use.call.args) < 2 or not isinstance(use.call.args[1], ast.Constant):
                continue
            of, name = use.call.args[0], str(use.call.args[1].value)
        elif isinstance(use.node, ast.Attribute):
            of, name = use.node.value, use.node.attr
        else:
            continue
        spelling = dotted(of) or ""
        module = module_by_name(file, of)
        if use.spelling == "getattr":
            module = module or checkout.external(file.path, use.scope, spelling) or ""
        if checkout.is_of_torchtitan(module):
            yield use, module, name


def module_by_name(file: SourceFile, node: ast.expr) -> str:
    """The module that an expression has by its name at run time, "" for none.

    A call of ``import_module``, a part of ``sys.modules``, or a variable that is set to
    one; ``a.*`` where only the beginning of its name is written out.
    """
    return _imported_by_name(file, node) or _modules_by_name(file).get(
        dotted(node) or "", ""
    )


@once
def _modules_by_name(file: SourceFile) -> dict[str, str]:
    """Variable -> the module that ``import_module`` gives it."""
    return {
        target.id: module
        for node in nodes(file.syntax)
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.NamedExpr)) and node.value
        for module in [_imported_by_name(file, node.value)]
        for target in getattr(node, "targets", None) or [getattr(node, "target", None)]
        if isinstance(target, ast.Name) and module
    }


def _imported_by_name(file: SourceFile, node: ast.expr) -> str:
    """The module that a call of ``import_module`` names, or that ``sys.modules`` is asked for."""
    if isinstance(node, ast.NamedExpr):
        node = node.value
    if isinstance(node, ast.Subscript) and dotted(node.value) == "sys.modules":
        return _written(node.slice)
    if not isinstance(node, ast.Call) or not node.args:
        return ""
    if (dotted(node.func) or "").rpartition(".")[2] not in (
        "import_module",
        "__import__",
    ):
        return ""
    return absolute(file.package, _written(node.args[0]))


def absolute(package: str, name: str) -> str:
    """The absolute name of a module that a text names, as ``import_module`` takes it."""
    level = len(name) - len(name.lstrip("."))
    relative = ast.ImportFrom(name[level:] or None, [], level)
    return absolute_module(package, relative)


def _written(named: ast.expr) -> str:
    """A text as far as it is written out, with ``*`` for the rest."""
    rest = ""
    if isinstance(named, ast.JoinedStr) and named.values:
        named, rest = named.values[0], "*"
    elif isinstance(named, ast.BinOp) and isinstance(named.op, (ast.Add, ast.Mod)):
        named, rest = named.left, "*"
    elif isinstance(named, ast.Call) and isinstance(named.func, ast.Attribute):
        named, rest = named.func.value, "*"
    if not isinstance(named, ast.Constant) or not isinstance(named.value, str):
        return ""
    text = named.value
    return re.split(r"[{%]", text)[0] + rest if rest else text


@once
def _calls(file: SourceFile) -> dict[int, ast.Call]:
    """What is called -> the call."""
    return {id(call.func): call for call in of_kind(file.syntax, ast.Call)}


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


def is_lazy(checkout: Checkout, module: str) -> bool:
    """Whether a module here makes what it is asked for, by a ``__getattr__`` of its own."""
    path = checkout.own_path_of(module)
    return path is not None and "__getattr__" in checkout.names(path).top.bound


def is_held(checkout: Checkout, module: str) -> bool:
    """Whether a module, or the package that it should be in, is part of the checkout."""
    if checkout.own_path_of(module) is not None:
        return True
    top = module.split(".")[0]
    if top == PACKAGE:
        return checkout.holds_torchtitan
    return any(path.startswith(f"{top}/") for path in checkout.own)


def _origin(checkout: Checkout, path: str, scope: str, spelling: str) -> str | None:
    """Where a name leads that nothing here defines; None where something does."""
    found = checkout.files[path].lookup(spelling, scope)
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
            if beyond is not None and not is_held(checkout, star.module):
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
    path = checkout.own_path_of(module)
    if path is None:
        parent, _, last = module.rpartition(".")
        parent_path = checkout.own_path_of(parent)
        passed_on = (
            checkout.names(parent_path).top.imports.get(last) if parent_path else None
        )
        if passed_on is not None:
            parts = filter(None, (passed_on.module, passed_on.name, name))
            return _beyond(checkout, ".".join(parts), seen)
        return full
    top = checkout.names(path).top
    if name in top.bound or checkout.own_path_of(full) is not None:
        return None
    if name in top.imports:
        found = top.imports[name]
        if found.name is None:
            return None
        return _beyond(checkout, f"{found.module}.{found.name}", seen)
    if "__getattr__" in top.bound:
        return full  # it may have any name: see is_lazy
    for star in top.stars:
        if checkout.own_path_of(star.module) is None:
            return f"{star.module}.{name}"
        beyond = _beyond(checkout, f"{star.module}.{name}", seen)
        if beyond is None:
            return None
    return full
