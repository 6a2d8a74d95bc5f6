"""What a name of a tree can stand for: all that is bound to it, followed through imports and re-exports, by parsing alone.

`codemods.bindings` cannot serve here: it keeps the last of a name's bindings, no
alias and no parameters, where a use is wrong only if it fits none of all the
things that the name can stand for.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from migrator.verify.judge.signatures import Function, signature

UNPARSABLE = (OSError, SyntaxError, ValueError, RecursionError)


@dataclass(frozen=True)
class Imported:
    """`from module import name`."""

    module: str
    name: str


@dataclass(frozen=True)
class Loaded:
    """`import module`, or a folder above it where that is the name that is bound."""

    module: str


@dataclass(frozen=True)
class Same:
    """Another name of the same place: `apply_ddp = apply_replicate`."""

    name: str


# What a name was bound to; None where that cannot be told.
Binding = Function | Imported | Loaded | Same | None
Names = dict[str, list[Binding]]


@dataclass(frozen=True)
class Module:
    """A parsed module: what its top level binds, and which modules it takes everything from."""

    name: str
    shown: str
    tree: ast.Module
    is_package: bool
    names: Names = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)

    def collect(self, body: Iterable[ast.AST]) -> Names:
        """Everything that statements bind, also below `if` and `try`, but not in functions and classes of theirs."""
        names: Names = {}
        for name, binding in self._bound(body):
            names.setdefault(name, []).append(binding)
        return names

    def _bound(self, body: Iterable[ast.AST]) -> Iterator[tuple[str, Binding]]:
        pending = list(body)
        while pending:
            node = pending.pop()
            match node:
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    yield node.name, signature(node)
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
                        yield alias.asname or first, Loaded(bound)
                case ast.ImportFrom():
                    source = self.source(node)
                    for alias in node.names:
                        if alias.name != "*":
                            imported = Imported(source, alias.name)
                            yield alias.asname or alias.name, imported
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Name(id=other)):
                    yield name, Same(other)
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
    def functions(self) -> dict[str, list[Function]]:
        """The functions that its top level defines; several of a name where `if` or `try` choose."""
        found: dict[str, list[Function]] = {}
        for name, bindings in self.names.items():
            functions = [b for b in bindings if isinstance(b, Function)]
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


class Package:
    """The modules of a tree's `torchtitan`, parsed when they are asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._parsed: dict[str, Module | None] = {}

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

    def module(self, name: str) -> Module | None:
        """A module by name; None for one that is not of this tree or does not parse."""
        if name not in self._parsed:
            self._parsed[name] = self._parse(name)
        return self._parsed[name]

    def _parse(self, name: str) -> Module | None:
        path = self.path(name)
        try:
            tree = ast.parse(path.read_bytes()) if path else None
        except UNPARSABLE:
            return None
        if path is None or tree is None:
            return None
        shown = path.relative_to(self.root).as_posix()
        module = Module(name, shown, tree, path.name == "__init__.py")
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
    ) -> list[Function | None]:
        """What a name of a module can stand for, followed through re-exports; empty where the module does not bind it.

        None in it stands for anything but a function of this tree.
        """
        if (module, name) in seen:
            return []
        place = self.module(module)
        if place is None:
            return [None]
        seen = (*seen, (module, name))
        found: list[Function | None] = []
        for binding in place.names.get(name, ()):
            match binding:
                case Function():
                    found.append(binding)
                case Imported():
                    # One that is broken is told of where it stands.
                    found += self.find(binding.module, binding.name, seen) or [None]
                case Same():
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


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
