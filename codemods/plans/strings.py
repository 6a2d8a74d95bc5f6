"""Names of ``apply_ddp`` in strings, and what the names of its aliases become."""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from codemods.autocast import of_a_test
from codemods.names import Definition
from codemods.nodes import children, dotted, nodes, of_kind
from codemods.plans.records import Facts
from codemods.source import SourceFile
from codemods.survey import OLD

_BY_NAME = {"object", "setattr", "getattr", "hasattr", "delattr", "spy"}
"""``patch.object(module, "name")`` and what else takes a name of a module second."""

_BY_PATH = re.compile(
    r"(^|\.)(patch|setattr|delattr|print|warn|log|debug|info|warning|error|exception)$"
)
"""What takes a whole dotted name and calls nothing by it: patches of tests, and logs."""

_PATH = re.compile(r"(?P<module>\w+(\.\w+)*)[.:](?P<name>\w+)")


@dataclass(frozen=True)
class Followed:
    """A string that names a function that moves.

    Args:
        line: from 1.
        value: of the string.
        fresh: what it has to be.
        call: the call that takes it for a name of its first argument, as ``ast.unparse``
            has it; None where the string is the whole dotted name.
    """

    line: int
    value: str
    fresh: str
    call: str | None


@dataclass(frozen=True)
class Named:
    """A string that names a function that moves, and what is done with it.

    Args:
        string: as ``followed`` has it.
        node: what stands for the function: the string, or the ``getattr`` that takes it.
        definition: the function.
        is_read: whether the function is taken from there, by who knows whom.
    """

    string: Followed
    node: ast.expr
    definition: Definition
    is_read: bool


def alias(facts: Facts, word: str) -> str:
    """What a name made of ``apply_ddp`` (``_apply_ddp``) becomes; others stay.

    It stays where the new one is taken in a file that uses it.
    """
    fresh = word.replace(OLD, facts.target.function_name)
    if word in (fresh, OLD):
        return fresh
    for reference in facts.survey.references:
        if reference.spelling.rpartition(".")[2] == word:
            names = facts.checkout.names(reference.path)
            if any(
                fresh in scope.bound or fresh in scope.imports
                for scope in names.scopes.values()
            ):
                return word
    return fresh


def followed(facts: Facts, file: SourceFile) -> Iterator[Followed]:
    """The strings of a file that name a function that moves, by the module it is in.

    Not those by which the function itself is had at run time: what it is called with
    then is not followed, so they are left (``by_name``).
    """
    if facts.target.function_name != OLD:
        for named in in_strings(facts, file):
            if not named.is_read:
                yield named.string


def in_strings(facts: Facts, file: SourceFile) -> Iterator[Named]:
    """Every string of a file that names a function that moves, by the module it is in."""
    if not file.mentions(OLD.encode()) or not file.all(_has_old_strings):
        return
    around = {id(child): n for n in nodes(file.syntax) for child in children(n)}
    yield from _by_path(facts, file, around)
    for use in file.names.uses:
        if use.call is None or use.spelling.rpartition(".")[2] not in _BY_NAME:
            continue
        if len(use.call.args) < 2:
            continue
        of, name = dotted(use.call.args[0]), use.call.args[1]
        if not of or not isinstance(name, ast.Constant) or OLD not in str(name.value):
            continue
        value = str(name.value)
        definition = facts.checkout.resolve(file.path, use.scope, f"{of}.{value}")
        fresh = _fresh(facts, definition, value)
        if definition and fresh:
            string = Followed(name.lineno, value, fresh, ast.unparse(use.call))
            read = use.spelling == "setattr" and not of_a_test(file.path)
            if use.spelling == "getattr":
                read = not _is_only_asked(around[id(use.call)])
            yield Named(string, use.call, definition, read)


def _has_old_strings(file: SourceFile) -> bool:
    return any(OLD in str(one.value) for one in of_kind(file.syntax, ast.Constant))


def _by_path(
    facts: Facts, file: SourceFile, around: Mapping[int, ast.AST]
) -> Iterator[Named]:
    """The strings that are a whole dotted name, ``a.b.apply_ddp`` or ``a.b:apply_ddp``."""
    for node in of_kind(file.syntax, ast.Constant):
        if not isinstance(node.value, str):
            continue
        found = _PATH.fullmatch(node.value) if OLD in node.value else None
        if found is None or OLD not in found["name"]:
            continue
        full = f"{found['module']}.{found['name']}"
        definition = facts.checkout.at(full)
        fresh = _fresh(facts, definition, found["name"])
        if definition and fresh:
            value = node.value.removesuffix(found["name"]) + fresh
            string = Followed(node.lineno, node.value, value, None)
            read = full != node.value or not is_only_named(file, around, node)
            yield Named(string, node, definition, read)


def is_only_named(
    file: SourceFile, around: Mapping[int, ast.AST], node: ast.expr
) -> bool:
    """Whether a dotted name is patched, said or compared, so that nobody calls by it."""
    outer = around[id(node)]
    if isinstance(outer, ast.keyword):
        outer = around[id(outer)]
    if isinstance(outer, ast.Call):
        return bool(_BY_PATH.search(dotted(outer.func) or ""))
    if isinstance(outer, (ast.Assign, ast.AnnAssign)) and outer.value is node:
        targets = outer.targets if isinstance(outer, ast.Assign) else [outer.target]
        uses = [
            inner
            for inner in nodes(file.syntax)
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load)
            if any(isinstance(t, ast.Name) and t.id == inner.id for t in targets)
        ]
        passed = [u for u in uses if isinstance(around[id(u)], (ast.Call, ast.keyword))]
        return (
            len(passed) == len(uses) > 0
            and all(isinstance(target, ast.Name) for target in targets)
            and all(is_only_named(file, around, use) for use in passed)
        )
    return isinstance(outer, (ast.Expr, ast.Compare))


def _is_only_asked(outer: ast.AST) -> bool:
    """Whether it is only asked if a function is there, or which: nobody calls it then."""
    if isinstance(outer, ast.Call):
        return dotted(outer.func) == "callable"
    return isinstance(outer, (ast.Expr, ast.Compare, ast.Assert)) or (
        isinstance(outer, ast.UnaryOp) and isinstance(outer.op, ast.Not)
    )


def _fresh(facts: Facts, definition: Definition | None, word: str) -> str | None:
    """What a name of a function is afterwards, None where that does not move."""
    function = facts.becomes(definition) if definition is not None else None
    if function is None or function.replaces is None:
        return None
    if word == function.replaces.name:
        return function.definition.name
    return alias(facts, word)
