"""Call sites that a run of one model would never reach, checked without running them.

Training llama3 says nothing about a qwen3 plan that still imports the
`apply_ddp` that is gone. So every use of a function that the migration renamed,
removed or gave other parameters is followed to its definition, by parsing alone
and apart from the codemods, so that one does not repeat the other's mistake.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

from migrator.verify.judge.names import (
    UNPARSABLE,
    Binding,
    Imported,
    Loaded,
    Module,
    Names,
    Package,
    Same,
    module_name,
)
from migrator.verify.judge.signatures import Function, misfit

# What wraps a model for data parallelism, in old trees and in migrated ones.
_WRAPPERS = frozenset({"replicate", "DistributedDataParallel", "DDP"})
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def broken_sites(base: Path, migrated: Path) -> tuple[str, ...]:
    """Sentences about uses, anywhere under `migrated`/torchtitan, of changed functions that no longer fit.

    `base` and `migrated` are the folders that hold the `torchtitan` package.
    """
    before, after = Package(base), Package(migrated)
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
            except UNPARSABLE as error:
                found.append(f"{shown} cannot be parsed: {error}.")
                continue
            module = after.module(module_name(path, migrated))
            # A module x.py beside a package x is never imported.
            if module is not None and module.shown == shown:
                found += _File(module, after, changed).broken()
    return tuple(found)


def _changed(before: Package, after: Package) -> set[str]:
    """Names of functions that wrap by data parallelism, and are not the same in both trees."""
    found: set[str] = set()
    for package, other in ((before, after), (after, before)):
        for path in package.files():
            source = path.read_bytes()
            if b"replicate" not in source and b"apply_ddp" not in source:
                continue
            module = package.module(module_name(path, package.root))
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


def _wrapping(module: Module) -> set[str]:
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

    def __init__(self, module: Module, package: Package, changed: set[str]) -> None:
        self.module = module
        self.package = package
        self.changed = changed
        self.excused = set(self._alternatives())

    def broken(self) -> list[str]:
        """Sentences about those that do not fit, in the order in which they stand."""
        found: list[tuple[int, str]] = []
        pending: list[tuple[ast.AST, tuple[Names, ...]]] = [(self.module.tree, ())]
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
        body: Sequence[ast.AST],
    ) -> Names:
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

    def _wrong(self, node: ast.AST, scopes: tuple[Names, ...]) -> Iterator[str]:
        match node:
            case ast.ImportFrom():
                yield from self._wrong_import(node)
            case ast.Name(id=name, ctx=ast.Load()):
                if name in self.changed and not self._stands_for(name, scopes):
                    yield f"uses {name}, which is not defined there any more"
            case ast.Attribute(attr=name, ctx=ast.Load()) if name in self.changed:
                source = self._module_of(node.value, scopes)
                if source and not self.package.find(source, name):
                    yield f"uses {name} of {source}, which no longer defines it"
            case ast.Call():
                yield from self._wrong_call(node, scopes)

    def _wrong_import(self, node: ast.ImportFrom) -> Iterator[str]:
        source = self.module.source(node)
        for alias in node.names:
            if (
                alias.name in self.changed
                and (id(node), alias.asname or alias.name) not in self.excused
                and not self.package.find(source, alias.name)
            ):
                yield f"imports {alias.name} from {source}, which no longer defines it"

    def _wrong_call(self, node: ast.Call, scopes: tuple[Names, ...]) -> Iterator[str]:
        name, functions = self._called(node.func, scopes)
        misfits = [
            misfit(node, function) if function else None for function in functions
        ]
        if misfits and all(misfits):
            yield f"calls {name} {misfits[0]}"

    def _called(
        self, function: ast.expr, scopes: tuple[Names, ...]
    ) -> tuple[str, list[Function | None]]:
        """A changed function's name, and what it can be where it is called; nothing for any other call."""
        if isinstance(function, ast.Name):
            origins = [
                binding.name
                for binding in self._bindings(function.id, scopes)
                if isinstance(binding, (Imported, Same))
            ]
            for name in (function.id, *origins):
                if name in self.changed:
                    return name, self._stands_for(function.id, scopes)
        if isinstance(function, ast.Attribute) and function.attr in self.changed:
            source = self._module_of(function.value, scopes)
            if source:
                return function.attr, self.package.find(source, function.attr)
        return "", []

    def _bindings(self, name: str, scopes: tuple[Names, ...]) -> list[Binding]:
        for scope in scopes:
            if name in scope:
                return scope[name]
        return self.module.names.get(name, [])

    def _stands_for(
        self, name: str, scopes: tuple[Names, ...]
    ) -> list[Function | None]:
        """What a name can stand for in a scope; empty where nothing binds it."""
        for depth, scope in enumerate(scopes):
            if name not in scope:
                continue
            found: list[Function | None] = []
            for binding in scope[name]:
                match binding:
                    case Function():
                        found.append(binding)
                    case Imported():
                        source = self.package.find(binding.module, binding.name)
                        found += source or [None]
                    case Same() if binding.name not in scope:
                        outer = self._stands_for(binding.name, scopes[depth + 1 :])
                        found += outer or [None]
                    case _:
                        found.append(None)
            return found
        return self.package.find(self.module.name, name)

    def _module_of(self, node: ast.expr, scopes: tuple[Names, ...]) -> str | None:
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
                case Loaded():
                    found.add(".".join([binding.module, *rest]))
                case Imported():
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

    def _works(self, binding: Binding) -> bool:
        if isinstance(binding, Imported):
            return bool(self.package.find(binding.module, binding.name))
        return isinstance(binding, (Function, Same))


def _catches_import_error(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    caught = {getattr(node, "id", "") for node in ast.walk(handler.type)}
    return bool(caught & {"ImportError", "Exception", "BaseException"})
