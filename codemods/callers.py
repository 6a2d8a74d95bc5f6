"""Who calls a function of a checkout, and in what an expression stands."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from codemods.bindings import Checkout
from codemods.modules import Function
from codemods.names import Definition
from codemods.once import once
from codemods.source import SourceFile


@dataclass(frozen=True)
class Holder:
    """What a line stands in.

    Args:
        scope: qualified name of the innermost function, "" at module level.
        function: it, or None.
        cls: the class that it is a method of, or None.
    """

    scope: str = ""
    function: Function | None = None
    cls: ast.ClassDef | None = None


@dataclass(frozen=True)
class Caller:
    """A call of a function.

    Args:
        file: in which it is.
        holder: what it stands in.
        call: it.
    """

    file: SourceFile
    holder: Holder
    call: ast.Call


@once
def _holders(tree: ast.AST) -> tuple[Holder, ...]:
    return tuple(_below(tree, "", None))


def _below(node: ast.AST, scope: str, cls: ast.ClassDef | None) -> Iterator[Holder]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            inner = f"{scope}.{child.name}".lstrip(".")
            yield Holder(inner, child, cls)
            yield from _below(child, inner, None)
        elif isinstance(child, ast.ClassDef):
            yield from _below(child, f"{scope}.{child.name}".lstrip("."), child)
        elif not isinstance(child, ast.expr):
            yield from _below(child, scope, cls)


def holders(file: SourceFile, line: int) -> list[Holder]:
    """The functions that a line of a file is in, the innermost last; none at module level."""
    holding = [
        (found.function.lineno, found)
        for found in _holders(file.syntax)
        if found.function is not None
        and found.function.lineno <= line <= (found.function.end_lineno or 0)
    ]
    return [found for _, found in sorted(holding, key=lambda one: one[0])]


def holder(file: SourceFile, line: int) -> Holder:
    """The innermost function that a line of a file is in."""
    return (holders(file, line) or [Holder()])[-1]


def callers(checkout: Checkout, file: SourceFile, called: Holder) -> list[Caller]:
    """Every call that is seen to be of a function, or of the class whose constructor it is.

    Those of a method are looked for in its own class alone, as ``self.method(...)``.
    """
    if called.function is None:
        return []
    if called.cls is not None and called.function.name != "__init__":
        return list(_of_method(file, called, called.cls))
    name = called.cls.name if called.cls is not None else called.function.name
    scope = called.scope.removesuffix(".__init__")
    outer = scope.rpartition(".")[0]
    if outer:  # within a function: nobody else sees it
        return [c for c in _named(file, name) if f"{c.holder.scope}.".startswith(outer)]
    return list(_of_definition(checkout, Definition(file.path, name)))


def makers(checkout: Checkout, file: SourceFile, cls: ast.ClassDef) -> list[Caller]:
    """Every call that is seen to make an object of a class."""
    return list(_of_definition(checkout, Definition(file.path, cls.name)))


def _of_method(file: SourceFile, called: Holder, cls: ast.ClassDef) -> Iterator[Caller]:
    assert called.function is not None
    for caller in _named(file, f"self.{called.function.name}"):
        if cls.lineno <= caller.call.lineno <= (cls.end_lineno or 0):
            yield caller


def _named(file: SourceFile, spelling: str) -> Iterator[Caller]:
    for use in file.names.uses:
        if use.call is not None and use.spelling == spelling and not use.shadowed:
            yield Caller(file, holder(file, use.node.lineno), use.call)


def _of_definition(checkout: Checkout, sought: Definition) -> Iterator[Caller]:
    for file in checkout.mentioning(sought.name):
        for use in file.names.uses:
            if use.call is None or use.shadowed:
                continue
            if checkout.resolve(file.path, use.scope, use.spelling) == sought:
                yield Caller(file, holder(file, use.node.lineno), use.call)
