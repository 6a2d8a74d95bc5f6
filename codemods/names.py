"""What is bound and read in one file: its scopes, its imports, every use of a name.

libcst's QualifiedNameProvider answers this too, but takes longer than everything
else together; the standard library's ``ast`` is enough for module-level functions
that are imported, aliased, re-exported and called through modules.
"""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from codemods.nodes import Visitor, dotted, taken


@dataclass(frozen=True)
class Definition:
    """A module-level name of the checkout.

    Args:
        path: the file that defines it.
        name: its name there.
    """

    path: str
    name: str


@dataclass(frozen=True)
class Import:
    """One imported name.

    Args:
        local: what it is called here (``a.b.c`` for ``import a.b.c``, ``*`` for a star).
        module: the dotted module it comes from, absolute.
        name: the name in that module, or None where the module itself is imported.
        line: from 1.
    """

    local: str
    module: str
    name: str | None
    line: int


@dataclass
class Scope:
    """A module, class or function body: what is bound in it.

    ``elsewhere`` are the names it declares ``global`` or ``nonlocal``, and ``replaced`` the
    imports whose name a later one of it gives to something else.
    """

    qualname: str
    parent: "Scope | None"
    is_class: bool = False
    imports: dict[str, Import] = field(default_factory=dict)
    stars: list[Import] = field(default_factory=list)
    bound: set[str] = field(default_factory=set)
    elsewhere: set[str] = field(default_factory=set)
    replaced: list[Import] = field(default_factory=list)

    def add(self, found: Import) -> None:
        """Take in an import."""
        before = self.imports.get(found.local, found)
        if (before.module, before.name) != (found.module, found.name):
            self.replaced.append(before)
        self.imports[found.local] = found


class Use(NamedTuple):
    """A name or dotted name that is read: ``apply_ddp``, ``par.apply_ddp``.

    ``shadowed``: a parameter of a lambda around it has that name.
    """

    spelling: str
    scope: str
    node: ast.expr
    call: ast.Call | None
    shadowed: bool = False


_Body = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class ModuleNames(Visitor):
    """All scopes of one file, and every use of a name in source order.

    Args:
        path: of the file.
        package: the dotted package that its relative imports start from.
        syntax: its tree.
    """

    def __init__(self, path: str, package: str, syntax: ast.Module) -> None:
        self.path, self.package = path, package
        self.top = Scope("", None)
        self.scopes = {"": self.top}
        self.uses: list[Use] = []
        self._scope = self.top
        self._lambda_parameters: list[str] = []
        self._found: dict[tuple[str, str], Import | Definition | None] = {}
        self.visit(syntax)

    def _enter(self, node: _Body, is_class: bool) -> None:
        name = node.name
        self._scope.bound.add(name)
        outer = self._scope
        qualname = f"{outer.qualname}.{name}".lstrip(".")
        self._scope = self.scopes.setdefault(qualname, Scope(qualname, outer, is_class))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            arguments = node.args
            for arg in (
                *arguments.posonlyargs,
                *arguments.args,
                *arguments.kwonlyargs,
                *filter(None, (arguments.vararg, arguments.kwarg)),
            ):
                self._scope.bound.add(arg.arg)
        for child in node.body:
            self.visit(child)
        self._scope = outer

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for child in (*node.decorator_list, node.args):
            self.visit(child)
        self._annotation(node.returns)
        self._enter(node, is_class=False)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for child in (*node.decorator_list, *node.bases, *node.keywords):
            self.visit(child)
        self._enter(node, is_class=True)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            local = alias.asname or alias.name
            self._scope.add(Import(local, alias.name, None, node.lineno))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = absolute_module(self.package, node)
        for alias in node.names:
            local = alias.asname or alias.name
            found = Import(local, module, alias.name, node.lineno)
            if alias.name == "*":
                self._scope.stars.append(found)
            else:
                self._scope.add(found)

    def visit_arg(self, node: ast.arg) -> None:
        self._annotation(node.annotation)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._annotation(node.annotation)
        for child in filter(None, (node.target, node.value)):
            self.visit(child)

    def _annotation(self, node: ast.expr | None) -> None:
        """An annotation, in quotes or not."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                quoted = ast.parse(node.value, mode="eval").body
            except SyntaxError:
                return
            ast.increment_lineno(quoted, node.lineno - 1)
            self.visit(quoted)
        elif node is not None:
            self.visit(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self._scope.bound.add(node.name)
        self.generic_visit(node)

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        if node.name:
            self._scope.bound.add(node.name)
        self.generic_visit(node)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        if node.name:
            self._scope.bound.add(node.name)

    def visit_Global(self, node: ast.Global | ast.Nonlocal) -> None:
        self._scope.elsewhere |= set(node.names)

    visit_Nonlocal = visit_Global

    def visit_Lambda(self, node: ast.Lambda) -> None:
        arguments = node.args
        names = [arg.arg for arg in taken(arguments)]
        self._lambda_parameters += names
        self.visit(node.body)
        del self._lambda_parameters[len(self._lambda_parameters) - len(names) :]
        self.visit(arguments)

    def _use(self, spelling: str, node: ast.expr, call: ast.Call | None) -> None:
        shadowed = spelling.split(".")[0] in self._lambda_parameters
        self.uses.append(Use(spelling, self._scope.qualname, node, call, shadowed))

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._use(node.id, node, None)
        else:
            self._scope.bound.add(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        spelling = dotted(node)
        if spelling is None or not isinstance(node.ctx, ast.Load):
            self.generic_visit(node)
        else:
            self._use(spelling, node, None)

    def visit_Call(self, node: ast.Call) -> None:
        spelling = dotted(node.func)
        if spelling is None:
            self.visit(node.func)
        else:
            self._use(spelling, node.func, node)
        for child in (*node.args, *node.keywords):
            self.visit(child)

    def lookup(self, spelling: str, scope: str) -> Import | Definition | None:
        """What the first part of a name stands for, seen from ``scope``.

        Returns:
            The import it comes from, the module-level definition of this file, or
            None where it is a local variable, a parameter or nothing known.
        """
        key = (spelling, scope)
        if key not in self._found:
            self._found[key] = self._look_up(spelling, scope)
        return self._found[key]

    def _look_up(self, spelling: str, scope: str) -> Import | Definition | None:
        first = spelling.split(".")[0]
        here: Scope | None = self.scopes[scope]
        start = here
        while here is not None:
            # A class body is no scope for the functions inside it.
            if not here.is_class or here is start:
                for local in prefixes(spelling):
                    if local in here.imports:
                        return here.imports[local]
                if any(local.startswith(f"{first}.") for local in here.imports):
                    return None  # `import first.x` binds `first`, a package
                if first in here.bound:
                    if here.parent is None:
                        return Definition(self.path, first)
                    return None
            here = here.parent
        return None


def surely_bound(body: Iterable[ast.stmt]) -> set[str]:
    """The names that statements bind whatever is true and whatever fails in them.

    Not what only one branch imports, or an ``if TYPE_CHECKING``, nor what is tried and
    then done without.
    """
    found: set[str] = set()
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {(a.asname or a.name).split(".")[0] for a in node.names}
        elif isinstance(node, ast.If):
            found |= surely_bound(node.body) & surely_bound(node.orelse)
        elif isinstance(node, ast.Try):
            ways = [surely_bound([*node.body, *node.orelse])]
            for handler in node.handlers:
                if not isinstance(handler.body[-1], ast.Raise):
                    ways.append(surely_bound(handler.body))
            found |= set.intersection(*ways) | surely_bound(node.finalbody)
        elif isinstance(node, ast.With):
            found |= surely_bound(node.body)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            found |= {
                inner.id
                for inner in ast.walk(node)
                if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)
            }
    return found


def absolute_module(package: str, node: ast.ImportFrom) -> str:
    """The absolute dotted module of a ``from ... import`` in a module of ``package``."""
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    base = parts[: len(parts) - node.level + 1]
    return ".".join([*base, *filter(None, [node.module])])


def prefixes(spelling: str) -> Iterator[str]:
    """``a.b.c``, ``a.b``, ``a``."""
    while spelling:
        yield spelling
        spelling = spelling.rpartition(".")[0]
