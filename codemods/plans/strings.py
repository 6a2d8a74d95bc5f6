"""Names of ``apply_ddp`` in strings, and what the names of its aliases become."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from codemods.names import Definition
from codemods.nodes import dotted, nodes
from codemods.plans.records import Facts
from codemods.source import SourceFile
from codemods.survey import OLD

_BY_NAME = {"object", "setattr", "getattr", "hasattr", "delattr"}
"""``patch.object(module, "name")`` and what else takes a name of a module second."""


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
    """The strings of a file that name a function that moves, by the module it is in."""
    if facts.target.function_name == OLD or OLD.encode() not in file.raw:
        return
    for node in nodes(file.syntax):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            module, _, last = node.value.rpartition(".")
            if OLD not in last or not all(
                part.isidentifier() for part in node.value.split(".")
            ):
                continue
            fresh = _fresh(facts, facts.checkout.at(node.value), last)
            if module and fresh:
                yield Followed(node.lineno, node.value, f"{module}.{fresh}", None)
    for use in file.names.uses:
        if use.call is None or use.spelling.rpartition(".")[2] not in _BY_NAME:
            continue
        if len(use.call.args) < 2:
            continue
        of, name = dotted(use.call.args[0]), use.call.args[1]
        if of and isinstance(name, ast.Constant) and isinstance(name.value, str):
            if OLD not in name.value:
                continue
            found = facts.checkout.resolve(file.path, use.scope, f"{of}.{name.value}")
            fresh = _fresh(facts, found, name.value)
            if fresh:
                call = ast.unparse(use.call)
                yield Followed(name.lineno, name.value, fresh, call)


def _fresh(facts: Facts, definition: Definition | None, word: str) -> str | None:
    """What a name of a function is afterwards, None where that does not move."""
    function = facts.becomes(definition) if definition is not None else None
    if function is None or function.replaces is None:
        return None
    if word == function.replaces.name:
        return function.definition.name
    return alias(facts, word)
