"""``apply_ddp`` asked for by its name at run time: what it is called with is not followed."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

from codemods import layout
from codemods.findings import Finding, Status
from codemods.names import Definition
from codemods.nodes import dotted, nodes
from codemods.outside import absolute, module_by_name
from codemods.plans import put_together
from codemods.plans.mesh import suggested_mesh
from codemods.plans.passed_on import to_write
from codemods.plans.records import Facts, NewFunction
from codemods.plans.strings import alias, in_strings
from codemods.source import SourceFile
from codemods.survey import OLD, Reference, enclosing_line, exported

_LOOKUPS = {"get", "pop", "__getitem__"}
_GETTERS = {"attrgetter", "methodcaller"}


@dataclass(frozen=True)
class _Asked:
    """One place.

    Args:
        node: what stands for the function there.
        definition: the function.
        fresh: what to write for ``node``.
        how: what is said of it.
        may_be: whether it may be another function as well.
    """

    node: ast.expr
    definition: Definition
    fresh: str
    how: str = "is asked for by its name"
    may_be: bool = False


class _Text(NamedTuple):
    node: ast.Constant
    value: str


def report(facts: Facts) -> None:
    """Add a finding for every such place to ``facts``, left for a person."""
    likely = [*facts.checkout.mentioning(OLD), *put_together.files(facts)]
    for file in {f.path: f for f in likely}.values() if facts.functions else ():
        told: set[int] = set()
        places = (
            *_in_strings(facts, file),
            *_in_modules(facts, file),
            *_in_tables(facts, file),
            *_in_lazy_packages(facts, file),
            *_put_together(facts, file),
        )
        for asked in places:
            line = asked.node.lineno
            function = facts.becomes(asked.definition)
            if function is None or line in told:
                continue
            told.add(line)
            facts.findings.append(_finding(facts, file, asked, function))


def _finding(
    facts: Facts, file: SourceFile, asked: _Asked, function: NewFunction
) -> Finding:
    """What is said of one place."""
    line, name = asked.node.lineno, asked.definition.name
    if file.opted_out(line, "TM102"):
        message = f"{name} {asked.how} here, and stays as it is"
        status: Status = "opted-out"
        if facts.target.function_name != OLD and not asked.may_be:
            message += ", but the definition it needs is migrated"
            status = "left"
        return Finding(file.path, line, "TM102", message, status)
    message = (
        f"{name} {asked.how} here, so what it is called with cannot be followed: call it "
        "by name"
    )
    code = _to_write(facts, file, asked, function)
    return Finding(file.path, line, "TM102", message, "left", code)


def _in_strings(facts: Facts, file: SourceFile) -> Iterator[_Asked]:
    """Dotted names in strings, and ``getattr`` of a module that is imported."""
    for named in in_strings(facts, file):
        if not named.is_read:
            continue
        node, string = named.node, named.string
        if not isinstance(node, ast.Call):
            how = f"is named by the string {string.value!r}"
            yield _Asked(node, named.definition, repr(string.fresh), how)
            continue
        fresh = f"{dotted(node.args[0])}.{string.fresh}"
        if dotted(node.func) == "setattr":
            values = [ast.unparse(value) for value in node.args[2:]]
            of = ast.unparse(node.args[0])
            fresh = f"setattr({', '.join([of, repr(string.fresh), *values])})"
            yield _Asked(node, named.definition, fresh, "is set to another function")
        else:
            yield _Asked(node, named.definition, fresh)


def _in_modules(facts: Facts, file: SourceFile) -> Iterator[_Asked]:
    """What is asked of a module that is had by its own name, or of its dictionary."""
    for node in nodes(file.syntax):
        if not isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
            continue
        for of, name in _questions(file, node):
            if isinstance(name, ast.Constant):
                yield from _asked(facts, file, node, of, str(name.value))
            for word in put_together.matching(facts, file, name):
                for asked in _asked(facts, file, node, of, word):
                    yield replace(asked, how=_PUT_TOGETHER, may_be=True)


def _asked(
    facts: Facts, file: SourceFile, node: ast.expr, of: ast.expr | None, name: str
) -> Iterator[_Asked]:
    definition = _definition(facts, file, node.lineno, of, name)
    if definition is not None:
        fresh = alias(facts, name)
        if of is not None:
            fresh = f"{ast.unparse(of)}.{fresh}"
        yield _Asked(node, definition, fresh)


_PUT_TOGETHER = "may be asked for by a name that is put together"


def _put_together(facts: Facts, file: SourceFile) -> Iterator[_Asked]:
    """Dotted names that are put together of a module and a function."""
    for node, full in put_together.paths(facts, file):
        definition = facts.checkout.at(full)
        if definition is not None:
            module, _, name = full.rpartition(".")
            fresh = repr(f"{module}.{alias(facts, name)}")
            yield _Asked(node, definition, fresh, _PUT_TOGETHER, True)


def _in_tables(facts: Facts, file: SourceFile) -> Iterator[_Asked]:
    """A module and the name of a function in it, side by side: ``("a.b", "apply_ddp")``."""
    for node in nodes(file.syntax):
        parts: list[ast.expr | None] = []
        if isinstance(node, (ast.Tuple, ast.List)):
            parts += node.elts
        elif isinstance(node, ast.Call):
            parts += [*node.args, *(keyword.value for keyword in node.keywords)]
        elif isinstance(node, ast.Dict):
            parts += [*node.keys, *node.values]
        texts = _texts(parts)
        for name, module in product([t for t in texts if OLD in t.value], texts):
            home = absolute(file.package, module.value)
            found = facts.checkout.at(f"{home}.{name.value}")
            if found is not None:
                how = f"is named by {name.value!r} beside its module"
                yield _Asked(name.node, found, repr(alias(facts, name.value)), how)


def _in_lazy_packages(facts: Facts, file: SourceFile) -> Iterator[_Asked]:
    """The names that a package imports when it is asked for them."""
    lazy = "__getattr__" in file.names.top.bound or any(
        isinstance(node, ast.Subscript) and ast.unparse(node) == "sys.modules[__name__]"
        for node in nodes(file.syntax)
    )
    exports = {line for line, _ in exported(file)}
    for node in nodes(file.syntax) if lazy else ():
        if not isinstance(node, ast.Constant) or node.lineno in exports:
            continue
        name = node.value
        if isinstance(name, str) and name.isidentifier() and OLD in name:
            found = _among(facts, file.package, name)
            if found is not None:
                how = f"is imported when its name {name!r} is asked for"
                yield _Asked(node, found, repr(alias(facts, name)), how)


def _texts(parts: Iterable[ast.expr | None]) -> list[_Text]:
    return [
        _Text(part, part.value)
        for part in parts
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    ]


def _questions(
    file: SourceFile, node: ast.Attribute | ast.Subscript | ast.Call
) -> Iterator[tuple[ast.expr | None, ast.expr]]:
    """The module, None for the file itself, and the name that is asked of it."""
    if isinstance(node, ast.Attribute):
        if isinstance(node.ctx, ast.Load) and module_by_name(file, node.value):
            yield node.value, ast.Constant(node.attr)
    elif isinstance(node, ast.Subscript):
        yield from _of_dictionary(node.value, node.slice)
    elif isinstance(node.func, ast.Attribute) and node.func.attr in _LOOKUPS:
        if node.args:
            yield from _of_dictionary(node.func.value, node.args[0])
    elif dotted(node.func) == "getattr" and len(node.args) > 1:
        literal = isinstance(
            node.args[1], ast.Constant
        )  # of a module by name: _in_strings
        if module_by_name(file, node.args[0]) or not literal:
            yield node.args[0], node.args[1]
    elif isinstance(node.func, ast.Call) and node.args:
        # operator.attrgetter("name")(module)
        asker = (dotted(node.func.func) or "").rpartition(".")[2]
        if asker in _GETTERS and node.func.args:
            yield node.args[0], node.func.args[0]


def _of_dictionary(
    of: ast.expr, name: ast.expr
) -> Iterator[tuple[ast.expr | None, ast.expr]]:
    """``vars(module)["name"]``, ``module.__dict__["name"]`` and ``globals()["name"]``."""
    if isinstance(of, ast.Call):
        asked = dotted(of.func)
        if asked == "vars" and of.args:
            yield of.args[0], name
        elif asked in ("globals", "locals", "vars"):
            yield None, name
    elif isinstance(of, ast.Attribute) and of.attr == "__dict__":
        yield of.value, name


def _definition(
    facts: Facts, file: SourceFile, line: int, of: ast.expr | None, name: str
) -> Definition | None:
    """The function that moves and that a module has under a name."""
    checkout, scope = facts.checkout, _scope(file, line)
    if of is None:
        return checkout.resolve(file.path, scope, name)
    module = module_by_name(file, of)
    if module.endswith("*"):
        return _among(facts, module.removesuffix("*"), name)
    spelling = dotted(of)
    if module:
        return checkout.at(f"{module}.{name}")
    return (
        checkout.resolve(file.path, scope, f"{spelling}.{name}") if spelling else None
    )


def _among(facts: Facts, beginning: str, name: str) -> Definition | None:
    """The first function of a name whose module begins so."""
    for function in facts.functions.values():
        old = function.replaces
        if old is not None and old.name == name:
            if facts.survey.files[old.path].module.startswith(beginning):
                return old
    return None


def _scope(file: SourceFile, line: int) -> str:
    """The qualified name of the function that a line is in, "" for none."""
    around = enclosing_line(file.syntax, line)
    scopes = file.names.scopes
    name = around.name if around is not None else ""
    return next((scope for scope in scopes if scope.rpartition(".")[2] == name), "")


def _to_write(
    facts: Facts, file: SourceFile, asked: _Asked, function: NewFunction
) -> str:
    """The call where it is one; else the new name, with what it takes above it."""
    line, spelling = asked.node.lineno, ast.unparse(asked.node)
    mesh = suggested_mesh(facts, file.path)
    required = [f"{p.name}=..." for p in function.plan.others if p.required]
    called = {id(n.func) for n in nodes(file.syntax) if isinstance(n, ast.Call)}
    if id(asked.node) in called:
        passed = ["model", mesh, *required]
        return layout.bracketed(f"{asked.fresh}(", passed, ")")
    reference = Reference(
        file.path, line, "value", _scope(file, line), spelling, asked.definition
    )
    code = to_write(facts, reference, function, asked.fresh)
    if f"{function.plan.name}(" in code:
        return code
    takes = ", ".join(p.name for p in function.plan.parameters)
    return f"# it takes ({takes})\n{code}"
