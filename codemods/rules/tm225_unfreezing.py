"""TM225: parameters unfrozen in the middle of training."""

import ast
import re
from collections.abc import Iterator

from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.modules import Function, functions
from codemods.nodes import nodes, spelled
from codemods.parameters import names_in
from codemods.plans import Facts
from codemods.source import SourceFile

CODE = "TM225"
TITLE = "unfreezing under mixed precision"
SEVERITY: Severity = "loud"
WHAT = "Parameters are unfrozen in the middle of training, which fails where they are cast."
WHY = """\
A parameter that is frozen in the first step and trained later works under DDP. Under
replicate with a param_dtype other than its own, backward raises RuntimeError: the copy in
param_dtype was made without a gradient. It is so under FSDP too, and with param_dtype in
the parameters' own dtype it is not.
"""
UPSTREAM = """\
None. It rests on trainings of two ranks, torch 2.13, bf16 and fp32.
"""
RISK = """\
The first step after the unfreezing raises, which may be hours into a run.
"""
PROOF = """\
It does not: no cell unfreezes. Take a step before and one after it in bf16.
"""
EXAMPLE = Example(
    fixture="fork_quirks",
    path="torchtitan/experiments/averaged/train_averaged.py",
    before="""\
    def unfreeze(self) -> None:
        for p in self.model.parameters():
            p.requires_grad_(True)
""",
    after="""\
# leave p trainable from the start, and until it is to move, before optimizer.step():
p.grad = None
""",
)

_UNFREEZES = re.compile(r"unfreeze|thaw|defrost")
_TIME = re.compile(
    r"\b(\w*steps?|\w*epochs?|\w*iter(ation)?s?|it|progress|\w*tokens_seen)\b"
)
_ONCE = re.compile(r"^(__init__|main)$|^_?(build|make|create|parallelize|init|setup)")
"""Functions that run before the first step, in which a number of steps is a setting."""

_ONE = re.compile(r"(^|\.)(p|param|parameter|weight|bias|\w+_param)$")
"""What a single parameter is called."""

_KEPT = """\
# leave {0} trainable from the start, and until it is to move, before optimizer.step():
"""


def find(facts: Facts) -> Iterator[Finding]:
    files = list(facts.in_training("requires_grad"))
    for file in files:
        for function in functions(file.syntax):
            names = names_in(function)
            for node in _unfreezing(facts, file, function):
                on = _unfrozen(node)
                one = on in names or _ONE.search(on) or isinstance(node, ast.Assign)
                cure = (
                    f"{on}.grad = None"
                    if one
                    else f"for p in {on}.parameters():\n    p.grad = None"
                )
                yield Finding(
                    file.path,
                    node.lineno,
                    CODE,
                    f"{on} is unfrozen in the middle of training: where replicate casts it, the "
                    "next backward raises",
                    "hazard",
                    f"{_KEPT.format(on)}{cure}",
                )


def _unfreezing(
    facts: Facts, file: SourceFile, function: Function
) -> Iterator[ast.stmt]:
    """Statements that unfreeze in the middle: by the name of the function, or as the step tells."""
    every = list(_statements(function))
    if not every:
        return
    if _UNFREEZES.search(function.name):
        yield from every
        return
    under = {
        id(inner)
        for node in nodes(function)
        if isinstance(node, ast.If) and _TIME.search(spelled(node.test))
        for statement in node.body
        for inner in nodes(statement)
    }
    others = [node for node in every if id(node) not in under]
    calls = list(_calls(facts, file, function)) if others else []
    for node in every:
        if id(node) in under or (
            not _ONCE.search(function.name)
            and (_is_timed(function, _value(node)) or _by_caller(function, node, calls))
        ):
            yield node


def _by_caller(
    function: Function, node: ast.stmt, calls: list[tuple[Function, ast.Call]]
) -> bool:
    """Whether what is given for a flag is told by the step, or the function is called at one."""
    arguments = function.args
    names = {a.arg for a in (*arguments.args, *arguments.kwonlyargs)}
    value = _value(node)
    given = value is not None and names.intersection(_origins(function, value))
    for caller, call in calls:
        parts = [*call.args, *(word.value for word in call.keywords)]
        if given and any(_is_timed(caller, part) for part in parts):
            return True
        for test in nodes(caller):
            if isinstance(test, ast.If) and _TIME.search(spelled(test.test)):
                fixed = [p for p in parts if isinstance(p, ast.Constant)]
                off = any(p.value is False for p in fixed)
                if any(inner is call for s in test.body for inner in nodes(s)):
                    return not off
    return False


def _calls(
    facts: Facts, file: SourceFile, function: Function
) -> Iterator[tuple[Function, ast.Call]]:
    """The calls of a function by its name, in functions that run more than once."""
    name = function.name
    for other in facts.in_training(f"{name}("):
        method = other.path == file.path
        for caller in functions(other.syntax):
            if _ONCE.search(caller.name) and caller.name != "main":
                continue
            for call in nodes(caller):
                if isinstance(call, ast.Call):
                    called = spelled(call.func)
                    if called == name or (method and called == f"self.{name}"):
                        yield caller, call


def _is_timed(function: Function, value: ast.expr | None) -> bool:
    """Whether a value is told by the step, itself or by what its variables are."""
    if value is None or isinstance(value, ast.Constant):
        return False
    return any(map(_TIME.search, _told(function, value)))


def _origins(function: Function, value: ast.expr) -> set[str]:
    """The names that a value is made of, those that its variables are made of as well."""
    return {
        word for text in _told(function, value) for word in re.findall(r"\w+", text)
    }


def _told(function: Function, value: ast.expr) -> list[str]:
    """The text of a value, and that of what its variables are assigned, and so on."""
    found = [value]
    for one in found:  # grows
        names = {n.id for n in nodes(one) if isinstance(n, ast.Name)}
        found += [
            node.value
            for node in nodes(function)
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id in names
            and node.value not in found
        ]
    return [spelled(one) for one in found]


def _statements(tree: ast.AST) -> Iterator[ast.stmt]:
    for node in nodes(tree):
        if isinstance(node, ast.stmt) and _unfrozen(node):
            yield node


def _flag(node: ast.stmt) -> tuple[ast.expr, ast.expr | None] | None:
    """What a statement sets the flag of, and to what; None for ``requires_grad_()`` is True."""
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
        target = node.targets[0]
        return (target.value, node.value) if target.attr == "requires_grad" else None
    call = node.value if isinstance(node, ast.Expr) else None
    if isinstance(call, ast.ListComp):
        call = call.elt
    if not isinstance(call, ast.Call):
        return None
    given = [*call.args, *(word.value for word in call.keywords)]
    if isinstance(call.func, ast.Attribute) and call.func.attr == "requires_grad_":
        return call.func.value, given[0] if given else None
    if spelled(call.func) == "setattr" and len(given) == 3:
        name = given[1]
        if isinstance(name, ast.Constant) and name.value == "requires_grad":
            return given[0], given[2]
    return None


def _value(node: ast.stmt) -> ast.expr | None:
    flag = _flag(node)
    return flag[1] if flag else None


def _unfrozen(node: ast.stmt) -> str:
    """What a statement unfreezes, empty where it does not."""
    flag = _flag(node)
    if flag is None:
        return ""
    on, value = flag
    fixed = isinstance(value, ast.Constant) and value.value is not True
    return "" if fixed else spelled(on)
