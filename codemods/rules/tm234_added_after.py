"""TM234: modules that a model gets after it is wrapped."""

import ast
import re
from collections.abc import Iterator

from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.nodes import nodes, spelled
from codemods.plans import Facts
from codemods.plans.flow import after
from codemods.siblings import subject
from codemods.source import SourceFile
from codemods.survey import function_of

CODE = "TM234"
TITLE = "modules added after wrapping"
SEVERITY: Severity = "silent"
WHAT = "A plan, or what it calls, puts new modules or parameters into a model that is wrapped already."
WHY = """\
DDP takes the parameters that a model has at its first forward: adapters or a head that
came after wrapping were reduced with the rest. replicate takes those that are there when it
wraps. What comes later is a plain tensor that nobody reduces.
"""
UPSTREAM = """\
None. It rests on two ranks, torch 2.13, gloo: gradients of a layer that was put in after
wrapping are the same on both under DDP, and each rank's own under replicate.
"""
RISK = """\
Each rank trains an adapter or a head of its own, and the file that is saved has rank 0's.
Nothing raises.
"""
PROOF = """\
In torchtitan's own trainer replicas "differ" in `dp`. Scripts are not run: print the
gradient of the new module on each rank.
"""
EXAMPLE = Example(
    fixture="fork_quirks",
    path="torchtitan/models/plover/infra/parallelize.py",
    before="""\
        apply_ddp(model, parallel_dims.get_mesh("dp_replicate"))
        add_value_head(model)
""",
    after="""\
# before the model is wrapped:
add_value_head(model)
""",
)

_MAKES = re.compile(
    r"\bnn\.(?!init\b|functional\b|utils\b|Module\b)[A-Z]\w*\(|\bParameter\("
)
_PUTS = re.compile(r"\b(setattr|add_module|register_module|register_parameter)\(")
_METHODS = ("add_module", "register_module", "register_parameter")


def find(facts: Facts) -> Iterator[Finding]:
    for call in facts.calls:
        site = call.site
        model = subject(site.node)
        if site.function is None or not model:
            continue
        file = facts.survey.files[site.reference.path]
        for statement in after(site):
            if _adds(facts, file, statement, model):
                code = spelled(statement)
                yield Finding(
                    file.path,
                    statement.lineno,
                    CODE,
                    f"`{code.splitlines()[0]}` comes after {model} is wrapped: replicate reduces "
                    "what is there when it wraps, and DDP reduced this too",
                    "hazard",
                    f"# before the model is wrapped:\n{code}",
                )


def _adds(facts: Facts, file: SourceFile, statement: ast.stmt, model: str) -> bool:
    """Whether a statement puts something new with parameters into the model."""
    if isinstance(statement, ast.Assign):
        return bool(_MAKES.search(spelled(statement.value))) and any(
            _is_within(target, model) for target in statement.targets
        )
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Call):
        return False
    call = statement.value
    given = [*call.args, *(word.value for word in call.keywords)]
    if isinstance(call.func, ast.Attribute) and call.func.attr in _METHODS:
        return _is_within(call.func, model) and bool(_MAKES.search(spelled(call)))
    if spelled(call.func) == "setattr":
        return _is_within(given[0], model, itself=True) and bool(
            _MAKES.search(spelled(call))
        )
    if not any(_is_within(value, model, itself=True) for value in given):
        return False
    found = facts.checkout.resolve(file.path, "", spelled(call.func))
    function = function_of(facts.checkout, found) if found else None
    return function is not None and _injects(function)


def _injects(function: ast.FunctionDef) -> bool:
    """Whether a function puts new modules or parameters into what it is given."""
    code = spelled(function)
    if not _MAKES.search(code):
        return False
    return bool(_PUTS.search(code)) or any(
        isinstance(node, ast.Assign)
        and _MAKES.search(spelled(node.value))
        and any(
            isinstance(target, ast.Attribute | ast.Subscript) for target in node.targets
        )
        for node in nodes(function)
    )


def _is_within(node: ast.expr, model: str, *, itself: bool = False) -> bool:
    """Whether an expression is a part of the model, or the model too."""
    code = spelled(node)
    return code.startswith((f"{model}.", f"{model}[")) or (itself and code == model)
