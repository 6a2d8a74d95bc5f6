"""A definition under a decorator that may hand it on, or that reads what it is called with."""

import ast
import builtins
import re
from collections.abc import Iterator

from codemods.bindings import Checkout
from codemods.findings import Finding, Status
from codemods.modules import functions
from codemods.names import Import
from codemods.nodes import children, dotted, nodes, taken
from codemods.plans.records import Facts, NewFunction
from codemods.shapes import first_parameter, function_of
from codemods.source import SourceFile

_HANDS_ON = re.compile(r"regist|plugin|configur|command|task|hook|route|expos|entry")
"""What decorators of other packages are called that keep what they decorate."""

_COPIERS = re.compile(r"(^|\.)(wraps|update_wrapper)$")

_IS_CALLED_BY = {"__call__", "__code__", "__defaults__", "__kwdefaults__"}


def report(facts: Facts) -> None:
    """Add a finding for every decorator that is not seen to be right for the new function."""
    for function in facts.functions.values():
        old = function.replaces
        node = function_of(facts.checkout, old) if old is not None else None
        if old is None or node is None:
            continue
        file = facts.survey.files[old.path]
        for decorator in node.decorator_list:
            why = _why_not(facts.checkout, file, node, decorator, function)
            if why is not None:
                place = (file.path, decorator.lineno)
                message = (
                    f"@{ast.unparse(decorator)} of {old.name} {why}: take it off, or see "
                    "to both and write the function"
                )
                code = f"@{ast.unparse(decorator)}\n{function.plan.text}"
                status: Status = "left"
                if file.opted_out(decorator.lineno, "TM101"):
                    status, code = "opted-out", ""
                found = Finding(*place, "TM101", message, status, code or None)
                facts.findings.append(found)


def _why_not(
    checkout: Checkout,
    file: SourceFile,
    old: ast.FunctionDef,
    decorator: ast.expr,
    function: NewFunction,
) -> str | None:
    """What a decorator does that the new function may not fit, None where nothing is seen."""
    gone = _parameters(old) - {p.name for p in function.plan.parameters}
    named = {n.value for n in nodes(decorator) if isinstance(n, ast.Constant)} & gone
    if named:
        return f"is given the name of {min(map(str, named))}, which goes"
    called = isinstance(decorator, ast.Call)
    spelling = dotted(decorator.func if isinstance(decorator, ast.Call) else decorator)
    unknown = "cannot be followed, and may hand the function on or read its arguments"
    if spelling is None:
        return unknown
    if _is_of_others(checkout, file, spelling):
        hands_on = _HANDS_ON.search(spelling.lower())
        return "may hand the function on to who calls it" if hands_on else None
    found = checkout.resolve(file.path, "", spelling)
    node = function_of(checkout, found) if found is not None else None
    taker = _returned(node) if node is not None and called else node
    if taker is None:
        return unknown
    if not called and taker.args.kwonlyargs + taker.args.args[1:]:
        return unknown  # it is used with arguments elsewhere
    return _what_it_does(taker, _meshes_second(function))


def _meshes_second(function: NewFunction) -> bool:
    parameters = function.plan.parameters
    return len(parameters) > 1 and parameters[1].name == function.plan.mesh


def _parameters(node: ast.FunctionDef) -> set[str]:
    every = taken(node.args)
    return {argument.arg for argument in every}


def _is_of_others(checkout: Checkout, file: SourceFile, spelling: str) -> bool:
    """Whether a name is Python's own, or is imported from outside of the checkout."""
    found = file.lookup(spelling)
    if found is None:
        return hasattr(builtins, spelling) and not file.names.top.stars
    if not isinstance(found, Import):
        return False
    top = found.module.split(".")[0]
    return checkout.path_of(top) is None and checkout.path_of(found.module) is None


def _returned(node: ast.FunctionDef) -> ast.FunctionDef | None:
    """The function inside a decorator with arguments that takes what is decorated."""
    inner = {f.name: f for f in node.body if isinstance(f, ast.FunctionDef)}
    returned = [n.value for n in node.body if isinstance(n, ast.Return) and n.value]
    names = [value.id for value in returned if isinstance(value, ast.Name)]
    return inner.get(names[0]) if len(names) == 1 else None


def _what_it_does(taker: ast.FunctionDef, mesh_is_second: bool) -> str | None:
    """What is done with the function that is decorated, besides calling it as it is called."""
    around = {id(child): n for n in nodes(taker) for child in children(n)}
    passed: set[int] = set()
    for use in _uses(taker, first_parameter(taker)):
        outer = around.get(id(use))
        if isinstance(outer, ast.Call) and outer.func is use:
            if not _as_it_is_called(outer, 2 if mesh_is_second else 1):
                return "calls it with arguments of its own"
            given = (*outer.args, *outer.keywords)
            passed |= {id(n) for part in given for n in nodes(part)}
        else:
            why = _where_it_goes(outer)
            if why is not None:
                return why
    inner = [f for f in functions(taker) if f is not taker]
    stars = [(f, a.arg) for f in inner for a in (f.args.vararg, f.args.kwarg) if a]
    if any(id(use) not in passed for f, name in stars for use in _uses(f, name)):
        return "reads the arguments it is called with, and these change"
    return None


def _where_it_goes(outer: ast.AST | None) -> str | None:
    """What a use of the function does that is no call of it, None where it does no harm."""
    if isinstance(outer, ast.Attribute):
        return "reads how it is called" if outer.attr in _IS_CALLED_BY else None
    if isinstance(outer, ast.Call):
        if _COPIERS.search(dotted(outer.func) or ""):
            return None
        return "hands it on, and who calls it is not followed"
    if isinstance(outer, ast.Return):
        return None
    return "keeps it, and who calls it is not followed"


def _uses(
    node: ast.FunctionDef | ast.AsyncFunctionDef, name: str | None
) -> Iterator[ast.Name]:
    """Where a function reads a name."""
    for inner in nodes(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load):
            if inner.id == name:
                yield inner


def _as_it_is_called(call: ast.Call, own: int) -> bool:
    """Whether a call passes all on: the model, and the mesh, by place, and the rest by stars."""
    plain = [value for value in call.args if not isinstance(value, ast.Starred)]
    named = [keyword for keyword in call.keywords if keyword.arg is not None]
    starred = len(plain) < len(call.args) or len(named) < len(call.keywords)
    return starred and not named and len(plain) <= own
