"""Call sites that a run of one model would never reach, checked without running them.

Training llama3 says nothing about a qwen3 plan that still imports the
`apply_ddp` that is gone. So every use of a function that the migration renamed,
removed or gave other parameters is followed to its definition, by parsing alone.
This is done here apart from the codemods, so that one does not repeat the
other's mistake.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

# What wraps a model for data parallelism, in old trees and in migrated ones.
_WRAPPERS = frozenset({"replicate", "DistributedDataParallel", "DDP"})
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_UNPARSABLE = (OSError, SyntaxError, ValueError, RecursionError)


@dataclass(frozen=True)
class _Function:
    """A function's parameters."""

    positional: tuple[str, ...]
    keyword_only: tuple[str, ...]
    required: frozenset[str]
    variadic: bool
    keywords: bool


@dataclass(frozen=True)
class _Imported:
    """`from module import name`."""

    module: str
    name: str


@dataclass(frozen=True)
class _Loaded:
    """`import module`, or a folder above it where that is the name that is bound."""

    module: str


@dataclass(frozen=True)
class _Same:
    """Another name of the same place: `apply_ddp = apply_replicate`."""

    name: str


# What a name was bound to; None where that cannot be told.
_Binding = _Function | _Imported | _Loaded | _Same | None
_Names = dict[str, list[_Binding]]


@dataclass(frozen=True)
class _Module:
    """A parsed module: what its top level binds, and which modules it takes everything from."""

    name: str
    shown: str
    tree: ast.Module
    is_package: bool
    names: _Names = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)

    def collect(self, body: Iterable[ast.AST]) -> _Names:
        """Everything that statements bind, also below `if` and `try`, but not in functions and classes of theirs."""
        names: _Names = {}
        for name, binding in self._bound(body):
            names.setdefault(name, []).append(binding)
        return names

    def _bound(self, body: Iterable[ast.AST]) -> Iterator[tuple[str, _Binding]]:
        pending = list(body)
        while pending:
            node = pending.pop()
            match node:
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    yield node.name, _signature(node)
                    continue
                case ast.ClassDef():
                    yield node.name, None
                    continue
                case ast.Lambda():
                    continue
                case ast.Import():
                    for alias in node.names:
                        first = alias.name.split(".")[0]
                        bound = alias.name if alias.asname else first
                        yield alias.asname or first, _Loaded(bound)
                case ast.ImportFrom():
                    source = self.source(node)
                    for alias in node.names:
                        if alias.name != "*":
                            imported = _Imported(source, alias.name)
                            yield alias.asname or alias.name, imported
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Name(id=other)):
                    yield name, _Same(other)
                    continue
                case ast.Name(id=name, ctx=ast.Store()):
                    yield name, None
                case ast.ExceptHandler(name=str(name)):
                    yield name, None
                case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                    yield name, None
                case ast.MatchMapping(rest=str(name)):
                    yield name, None
            pending += ast.iter_child_nodes(node)

    def source(self, node: ast.ImportFrom) -> str:
        """The absolute name of the module that an import statement of this one reads from."""
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        kept = parts[: len(parts) - node.level + (1 if self.is_package else 0)]
        return ".".join([*kept, *([node.module] if node.module else [])])

    @property
    def functions(self) -> dict[str, list[_Function]]:
        """The functions that its top level defines; several of a name where `if` or `try` choose."""
        found: dict[str, list[_Function]] = {}
        for name, bindings in self.names.items():
            functions = [b for b in bindings if isinstance(b, _Function)]
            if functions:
                found[name] = functions
        return found

    def hides(self, name: str) -> bool:
        """Whether a star import of this module leaves a name out."""
        for node in self.tree.body:
            match node:
                case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                    if isinstance(value, (ast.List, ast.Tuple)):
                        listed = [getattr(part, "value", None) for part in value.elts]
                        return name not in listed
        return "__all__" not in self.names and name.startswith("_")


class _Package:
    """The modules of a tree's `torchtitan`, parsed when they are asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._parsed: dict[str, _Module | None] = {}

    def files(self) -> Iterator[Path]:
        """Its Python files. Neither a link that leads nowhere nor a folder called x.py is one."""
        found = (self.root / "torchtitan").rglob("*.py")
        return (path for path in sorted(found) if path.is_file())

    def path(self, name: str) -> Path | None:
        """The file of a module; None for one that is not of this tree."""
        parts = name.split(".")
        if parts[0] != "torchtitan" or "" in parts:
            return None
        place = self.root.joinpath(*parts)
        for path in (place / "__init__.py", place.with_name(f"{parts[-1]}.py")):
            if path.is_file():
                return path
        return None

    def module(self, name: str) -> _Module | None:
        """A module by name; None for one that is not of this tree or does not parse."""
        if name not in self._parsed:
            self._parsed[name] = self._parse(name)
        return self._parsed[name]

    def _parse(self, name: str) -> _Module | None:
        path = self.path(name)
        try:
            tree = ast.parse(path.read_bytes()) if path else None
        except _UNPARSABLE:
            return None
        if path is None or tree is None:
            return None
        shown = path.relative_to(self.root).as_posix()
        module = _Module(name, shown, tree, path.name == "__init__.py")
        module.names.update(module.collect(tree.body))
        for node in ast.walk(tree):
            if isinstance(node, ast.Global):
                for declared in node.names:
                    module.names.setdefault(declared, []).append(None)
            if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
                module.stars.append(module.source(node))
        return module

    def find(
        self, module: str, name: str, seen: tuple[tuple[str, str], ...] = ()
    ) -> list[_Function | None]:
        """What a name of a module can stand for, followed through re-exports; empty where the module does not bind it.

        None in it stands for anything but a function of this tree.
        """
        if (module, name) in seen:
            return []
        place = self.module(module)
        if place is None:
            return [None]
        seen = (*seen, (module, name))
        found: list[_Function | None] = []
        for binding in place.names.get(name, ()):
            match binding:
                case _Function():
                    found.append(binding)
                case _Imported():
                    # One that is broken is told of where it stands.
                    found += self.find(binding.module, binding.name, seen) or [None]
                case _Same():
                    found += self.find(module, binding.name, seen) or [None]
                case _:
                    found.append(None)
        for star in place.stars:
            source = self.module(star)
            if source is None:
                found.append(None)
            elif not source.hides(name):
                found += self.find(star, name, seen)
        if self.path(f"{module}.{name}") or "__getattr__" in place.names:
            found.append(None)
        return found


def broken_sites(base: Path, migrated: Path) -> tuple[str, ...]:
    """Sentences about uses, anywhere under `migrated`/torchtitan, of changed functions that no longer fit.

    `base` and `migrated` are the folders that hold the `torchtitan` package.
    """
    before, after = _Package(base), _Package(migrated)
    changed = _changed(before, after)
    if not changed:
        return ()
    found: list[str] = []
    for path in after.files():
        source = path.read_bytes()
        if any(name.encode() in source for name in changed):
            shown = path.relative_to(migrated).as_posix()
            try:
                ast.parse(source)
            except _UNPARSABLE as error:
                found.append(f"{shown} cannot be parsed: {error}.")
                continue
            module = after.module(_module_name(path, migrated))
            # A module x.py beside a package x is never imported.
            if module is not None and module.shown == shown:
                found += _File(module, after, changed).broken()
    return tuple(found)


def _changed(before: _Package, after: _Package) -> set[str]:
    """Names of functions that wrap by data parallelism, and are not the same in both trees."""
    found: set[str] = set()
    for package, other in ((before, after), (after, before)):
        for path in package.files():
            source = path.read_bytes()
            if b"replicate" not in source and b"apply_ddp" not in source:
                continue
            module = package.module(_module_name(path, package.root))
            if module is None:
                continue
            counterpart = other.module(module.name)
            theirs = counterpart.functions if counterpart else {}
            different = {
                name
                for name, functions in module.functions.items()
                if theirs.get(name) != functions
            }
            found |= different & _wrapping(module)
    return found


def _wrapping(module: _Module) -> set[str]:
    """The functions of a module that call `replicate` (old or new) or DistributedDataParallel, by whatever name."""
    called_so = set(_WRAPPERS)
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom):
            called_so |= {
                alias.asname
                for alias in node.names
                if alias.asname and alias.name in _WRAPPERS
            }
    found = set()
    for node in ast.walk(module.tree):
        if isinstance(node, _DEFINITIONS) and node.name in module.functions:
            for call in ast.walk(node):
                if isinstance(call, ast.Call):
                    name = getattr(call.func, "id", None)
                    attribute = getattr(call.func, "attr", None)
                    if name in called_so or attribute in _WRAPPERS:
                        found.add(node.name)
    return found


class _File:
    """The uses of changed functions in one module, each looked up in the scope in which it stands."""

    def __init__(self, module: _Module, package: _Package, changed: set[str]) -> None:
        self.module = module
        self.package = package
        self.changed = changed
        self.excused = set(self._alternatives())

    def broken(self) -> list[str]:
        """Sentences about those that do not fit, in the order in which they stand."""
        found: list[tuple[int, str]] = []
        pending: list[tuple[ast.AST, tuple[_Names, ...]]] = [(self.module.tree, ())]
        while pending:
            node, scopes = pending.pop()
            for what in self._wrong(node, scopes):
                line = getattr(node, "lineno", 0)
                found.append((line, f"{self.module.shown}:{line} {what}."))
            if isinstance(node, (*_DEFINITIONS, ast.Lambda)):
                inside = node.body if isinstance(node.body, list) else [node.body]
                outside = [node.args, *getattr(node, "decorator_list", ())]
                pending += [(part, scopes) for part in outside]
                inner = (self._local(node, inside), *scopes)
                pending += [(part, inner) for part in inside]
            elif isinstance(node, ast.ClassDef):
                # Its methods do not see what its body binds, but the body itself does.
                own = (self.module.collect(node.body), *scopes)
                pending += [
                    (part, scopes if isinstance(part, _DEFINITIONS) else own)
                    for part in ast.iter_child_nodes(node)
                ]
            else:
                pending += [(part, scopes) for part in ast.iter_child_nodes(node)]
        return [sentence for _, sentence in sorted(found)]

    def _local(
        self,
        function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda,
        body: list[ast.AST],
    ) -> _Names:
        """What a function binds itself."""
        names = self.module.collect(body)
        for node in ast.walk(function.args):
            if isinstance(node, ast.arg):
                names.setdefault(node.arg, []).append(None)
        for statement in body:
            for node in ast.walk(statement):
                if isinstance(node, (ast.Global, ast.Nonlocal)):
                    for name in node.names:
                        names.pop(name, None)
        return names

    def _wrong(self, node: ast.AST, scopes: tuple[_Names, ...]) -> Iterator[str]:
        if isinstance(node, ast.ImportFrom):
            source = self.module.source(node)
            for alias in node.names:
                if (
                    alias.name in self.changed
                    and (id(node), alias.asname or alias.name) not in self.excused
                    and not self.package.find(source, alias.name)
                ):
                    yield f"imports {alias.name} from {source}, which no longer defines it"
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            if node.id in self.changed and not self._stands_for(node.id, scopes):
                yield f"uses {node.id}, which is not defined there any more"
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            if node.attr in self.changed:
                source = self._module_of(node.value, scopes)
                if source and not self.package.find(source, node.attr):
                    yield f"uses {node.attr} of {source}, which no longer defines it"
        elif isinstance(node, ast.Call):
            name, functions = self._called(node.func, scopes)
            misfits = [
                _misfit(node, function) if function else None for function in functions
            ]
            if misfits and all(misfits):
                yield f"calls {name} {misfits[0]}"

    def _called(
        self, function: ast.expr, scopes: tuple[_Names, ...]
    ) -> tuple[str, list[_Function | None]]:
        """A changed function's name, and what it can be where it is called; nothing for any other call."""
        if isinstance(function, ast.Name):
            origins = [
                binding.name
                for binding in self._bindings(function.id, scopes)
                if isinstance(binding, (_Imported, _Same))
            ]
            for name in (function.id, *origins):
                if name in self.changed:
                    return name, self._stands_for(function.id, scopes)
        if isinstance(function, ast.Attribute) and function.attr in self.changed:
            source = self._module_of(function.value, scopes)
            if source:
                return function.attr, self.package.find(source, function.attr)
        return "", []

    def _bindings(self, name: str, scopes: tuple[_Names, ...]) -> list[_Binding]:
        for scope in scopes:
            if name in scope:
                return scope[name]
        return self.module.names.get(name, [])

    def _stands_for(
        self, name: str, scopes: tuple[_Names, ...]
    ) -> list[_Function | None]:
        """What a name can stand for in a scope; empty where nothing binds it."""
        for depth, scope in enumerate(scopes):
            if name not in scope:
                continue
            found: list[_Function | None] = []
            for binding in scope[name]:
                match binding:
                    case _Function():
                        found.append(binding)
                    case _Imported():
                        source = self.package.find(binding.module, binding.name)
                        found += source or [None]
                    case _Same() if binding.name not in scope:
                        outer = self._stands_for(binding.name, scopes[depth + 1 :])
                        found += outer or [None]
                    case _:
                        found.append(None)
            return found
        return self.package.find(self.module.name, name)

    def _module_of(self, node: ast.expr, scopes: tuple[_Names, ...]) -> str | None:
        """The module of this tree that an expression such as `llama3.infra.parallelize` is; None for all else."""
        rest: list[str] = []
        while isinstance(node, ast.Attribute):
            rest.insert(0, node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return None
        found = set()
        for binding in self._bindings(node.id, scopes):
            match binding:
                case _Loaded():
                    found.add(".".join([binding.module, *rest]))
                case _Imported():
                    whole = [binding.module, binding.name, *rest]
                    found.add(".".join(whole))
                case _:
                    return None
        module = found.pop() if len(found) == 1 else None
        return module if module and self.package.path(module) else None

    def _alternatives(self) -> Iterator[tuple[int, str]]:
        """Imports below a `try` that have another one to fall back on, or are one: (id of the statement, name)."""
        for node in ast.walk(self.module.tree):
            if not isinstance(node, ast.Try) or not any(
                map(_catches_import_error, node.handlers)
            ):
                continue
            inside = [*node.body, *node.handlers]
            bound = self.module.collect(inside)
            for statement in (part for top in inside for part in ast.walk(top)):
                if isinstance(statement, ast.ImportFrom):
                    for alias in statement.names:
                        name = alias.asname or alias.name
                        if any(map(self._works, bound.get(name, ()))):
                            yield id(statement), name

    def _works(self, binding: _Binding) -> bool:
        if isinstance(binding, _Imported):
            return bool(self.package.find(binding.module, binding.name))
        return isinstance(binding, (_Function, _Same))


def _catches_import_error(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    caught = {getattr(node, "id", "") for node in ast.walk(handler.type)}
    return bool(caught & {"ImportError", "Exception", "BaseException"})


def _misfit(call: ast.Call, function: _Function) -> str | None:
    """Why a call does not fit a function's parameters; None where it does, or where * and ** hide the answer."""
    if any(isinstance(argument, ast.Starred) for argument in call.args) or any(
        k.arg is None for k in call.keywords
    ):
        return None
    if len(call.args) > len(function.positional) and not function.variadic:
        return f"with {len(call.args)} positional arguments, of which it takes {len(function.positional)}"
    given = set(function.positional[: len(call.args)])
    for keyword in call.keywords:
        if (
            keyword.arg not in (*function.positional, *function.keyword_only)
            and not function.keywords
        ):
            return f"with {keyword.arg}=, which it does not take any more"
        given.add(keyword.arg)
    missing = sorted(function.required - given)
    return f"without {', '.join(missing)}" if missing else None


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> _Function:
    arguments = node.args
    positional = [a.arg for a in (*arguments.posonlyargs, *arguments.args)]
    optional = (
        positional[len(positional) - len(arguments.defaults) :]
        if arguments.defaults
        else []
    )
    keyword_only = [a.arg for a in arguments.kwonlyargs]
    required = {name for name in positional if name not in optional}
    required |= {
        a.arg
        for a, default in zip(arguments.kwonlyargs, arguments.kw_defaults)
        if default is None
    }
    return _Function(
        tuple(positional),
        tuple(keyword_only),
        frozenset(required),
        arguments.vararg is not None,
        arguments.kwarg is not None,
    )


def _module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
