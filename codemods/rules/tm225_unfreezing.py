"""TM225: parameters unfrozen in the middle of training."""

import ast
import re
from collections.abc import Iterator

from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.modules import functions
from codemods.nodes import nodes, spelled
from codemods.plans import Facts

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
_TIME = re.compile(r"\b(\w*step|\w*steps|\w*epoch|iteration|it)\b")


def find(facts: Facts) -> Iterator[Finding]:
    for file in facts.in_training("requires_grad"):
        for function in functions(file.syntax):
            for node in _unfreezing(function):
                on = _unfrozen(node)
                yield Finding(
                    file.path,
                    node.lineno,
                    CODE,
                    f"{on} is unfrozen in the middle of training: where replicate casts it, the "
                    "next backward raises",
                    "hazard",
                    f"# leave {on} trainable from the start, and until it is to move, before "
                    f"optimizer.step():\n{on}.grad = None",
                )


def _unfreezing(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.stmt]:
    """Statements that unfreeze, in a function that is called so or by the step."""
    if _UNFREEZES.search(function.name):
        yield from _statements(function)
        return
    for node in nodes(function):
        if isinstance(node, ast.If) and _TIME.search(spelled(node.test)):
            for statement in node.body:
                yield from _statements(statement)


def _statements(tree: ast.AST) -> Iterator[ast.stmt]:
    for node in nodes(tree):
        if isinstance(node, ast.stmt) and _unfrozen(node):
            yield node


def _unfrozen(node: ast.stmt) -> str:
    """What a statement unfreezes, empty where it does not."""
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
        target, value = node.targets[0], node.value
        fixed = isinstance(value, ast.Constant) and value.value is not True
        return spelled(target.value) if _is_flag(target) and not fixed else ""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        call = node.value
        if isinstance(call.func, ast.Attribute) and call.func.attr == "requires_grad_":
            given = [*call.args, *(k.value for k in call.keywords)]
            if all(not isinstance(g, ast.Constant) or g.value is True for g in given):
                return spelled(call.func.value)
    return ""


def _is_flag(target: ast.Attribute) -> bool:
    return target.attr == "requires_grad"
