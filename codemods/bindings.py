"""Which definition a name stands for, over all files of the checkout.

libcst's QualifiedNameProvider answers this too, but takes longer than everything
else together; the standard library's ``ast`` is enough for module-level functions
that are imported, aliased, re-exported and called through modules.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from codemods.source import SourceFile


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

    ``elsewhere`` are the names it declares ``global`` or ``nonlocal``.
    """

    qualname: str
    parent: "Scope | None"
    is_class: bool = False
    imports: dict[str, Import] = field(default_factory=dict)
    stars: list[Import] = field(default_factory=list)
    bound: set[str] = field(default_factory=set)
    elsewhere: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Use:
    """A name or dotted name that is read: ``apply_ddp``, ``par.apply_ddp``.

    ``shadowed``: a parameter of a lambda around it has that name.
    """

    spelling: str
    scope: str
    node: ast.expr
    call: ast.Call | None
    shadowed: bool = False


class ModuleNames(ast.NodeVisitor):
    """All scopes of one file, and every use of a name in source order."""

    def __init__(self, file: SourceFile) -> None:
        self.file = file
        self.top = Scope("", None)
        self.scopes = {"": self.top}
        self.uses: list[Use] = []
        self._scope = self.top
        self._lambda_parameters: list[str] = []
        self.visit(file.syntax)

    def _enter(self, node: ast.AST, name: str, is_class: bool) -> None:
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
        for child in node.body:  # type: ignore[attr-defined]
            self.visit(child)
        self._scope = outer

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for child in (*node.decorator_list, node.args):
            self.visit(child)
        self._annotation(node.returns)
        self._enter(node, node.name, is_class=False)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for child in (*node.decorator_list, *node.bases, *node.keywords):
            self.visit(child)
        self._enter(node, node.name, is_class=True)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            local = alias.asname or alias.name
            self._scope.imports[local] = Import(local, alias.name, None, node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = absolute_module(self.file, node)
        for alias in node.names:
            local = alias.asname or alias.name
            found = Import(local, module, alias.name, node.lineno)
            if alias.name == "*":
                self._scope.stars.append(found)
            else:
                self._scope.imports[local] = found

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

    visit_Nonlocal = visit_Global  # type: ignore[assignment]

    def visit_Lambda(self, node: ast.Lambda) -> None:
        arguments = node.args
        names = [
            arg.arg
            for arg in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
        ]
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
                        return Definition(self.file.path, first)
                    return None
            here = here.parent
        return None


class Checkout:
    """All Python files of a checkout, and what names in them stand for."""

    def __init__(self, files: Mapping[str, SourceFile]) -> None:
        self.files = files

    @cached_property
    def _modules(self) -> dict[str, str]:
        """Every dotted name that a file can be imported by -> its path."""
        known: dict[str, str] = {}
        for path in sorted(self.files, key=lambda path: path.count("/")):
            parts = self.files[path].module.split(".")
            for start in range(len(parts)):
                known.setdefault(".".join(parts[start:]), path)
        return known

    def names(self, path: str) -> ModuleNames:
        return self.files[path].names

    def path_of(self, module: str) -> str | None:
        """The file of a dotted module, wherever under the root its package lies."""
        return self._modules.get(module)

    def mentioning(self, *words: str) -> Iterator[SourceFile]:
        """The files whose bytes hold one of the words; nothing is parsed for this."""
        sought = [word.encode() for word in words]
        for file in self.files.values():
            if any(word in file.raw for word in sought):
                yield file

    def resolve(self, path: str, scope: str, spelling: str) -> Definition | None:
        """The definition that a dotted name stands for.

        Follows imports, aliases, re-exports and star imports through the files of
        the checkout. A name that a module of the checkout should have but has not
        resolves to that module all the same: see ``defines``.
        """
        found = self.names(path).lookup(spelling, scope)
        if isinstance(found, Definition):
            return found if found.name == spelling else None
        if found is None:
            return self._through_stars(path, spelling, set())
        rest = spelling[len(found.local) :].lstrip(".")
        full = ".".join(filter(None, (found.module, found.name, rest)))
        return self._absolute(full, set())

    def external(self, path: str, scope: str, spelling: str) -> str | None:
        """The dotted name of an imported thing, ``torch.distributed.fsdp.fully_shard``."""
        found = self.names(path).lookup(spelling, scope)
        if not isinstance(found, Import):
            return None
        rest = spelling[len(found.local) :].lstrip(".")
        return ".".join(filter(None, (found.module, found.name, rest)))

    def defines(self, definition: Definition) -> bool:
        return definition.name in self.names(definition.path).top.bound

    def _absolute(self, full: str, seen: set[str]) -> Definition | None:
        if full in seen:
            return None
        seen.add(full)
        module, _, name = full.rpartition(".")
        path = self.path_of(module)
        if path is None:
            # `from package import module` then `module.function`: the module may
            # itself be a name that a package re-exports.
            parent, _, last = module.rpartition(".")
            parent_path = self.path_of(parent)
            if parent_path is None:
                return None
            found = self.names(parent_path).top.imports.get(last)
            if found is None:
                return None
            onward = ".".join(filter(None, (found.module, found.name, name)))
            return self._absolute(onward, seen)
        top = self.names(path).top
        if name in top.bound:
            return Definition(path, name)
        if name in top.imports:
            found = top.imports[name]
            if found.name is None:
                return None
            inner = f"{found.module}.{found.name}"
            return self._absolute(inner, seen) or None
        return self._through_stars(path, name, seen) or Definition(path, name)

    def _through_stars(self, path: str, name: str, seen: set[str]) -> Definition | None:
        for star in self.names(path).top.stars:
            found = self._absolute(f"{star.module}.{name}", seen)
            if found is not None and self.defines(found):
                return found
        return None


def absolute_module(file: SourceFile, node: ast.ImportFrom) -> str:
    """The absolute dotted module of a ``from ... import``."""
    if not node.level:
        return node.module or ""
    package = file.package.split(".")
    base = package[: len(package) - node.level + 1]
    return ".".join([*base, *filter(None, [node.module])])


def dotted(node: ast.expr) -> str | None:
    """``a.b.c`` for a chain of attributes on a name, else None."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([node.id, *reversed(parts)])


def prefixes(spelling: str) -> Iterator[str]:
    """``a.b.c``, ``a.b``, ``a``."""
    while spelling:
        yield spelling
        spelling = spelling.rpartition(".")[0]
