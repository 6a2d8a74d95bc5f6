"""TM233: what a plan does beside FSDP, and what its new function does once more."""

import ast
import re
from collections.abc import Iterator

from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.mirror.effects import acts, is_of_sharding
from codemods.nodes import nodes, spelled
from codemods.plans import Facts, NewCall
from codemods.plans.flow import block_of
from codemods.survey import function_of

CODE = "TM233"
TITLE = "what is done beside the wrapping"
SEVERITY: Severity = "silent"
WHAT = "A plan's branch for FSDP does something that its branch for DDP does not, or the branch for DDP does what apply_fsdp does itself."
WHY = """\
The new function mirrors apply_fsdp, and the plan's branches stay as they are. What the
branch for FSDP does besides calling it (a cast, freezing a part) is not done where
replicate wraps, as it was not under DDP. What the branch for DDP does and apply_fsdp does
itself is done twice now: activation checkpointing, say, within activation checkpointing.
"""
UPSTREAM = """\
None. It follows from mirroring apply_fsdp (TM101).
"""
RISK = """\
The same configuration trains otherwise with replicate than with FSDP, or computes twice.
Nothing raises.
"""
PROOF = """\
In part. What changes a weight, a dtype or a gradient, the reference "differs" in, in `dp`;
what costs time alone is seen in the step time.
"""
EXAMPLE = Example(
    fixture="fork_quirks",
    path="torchtitan/models/plover/infra/parallelize.py",
    before="""\
    if parallel_dims.fsdp_enabled:
        add_value_head(model)
        model.router.float()
""",
    after="""\
model.router.float()
""",
)


_FSDPS_OWN = re.compile(
    r"\bcp(_|\b)|\bep(_|\b)|etp|offload|replicate|shard|fsdp|context_"
)
"""What is asked where FSDP takes part alone."""


def find(facts: Facts) -> Iterator[Finding]:
    for call in facts.calls:
        if call.site.function is None or not call.site.sibling.steps:
            continue
        beside = block_of(call.site.function, call.site.node)
        yield from _of_fsdp_alone(facts, call, beside)
        yield from _twice(call, beside)


def _of_fsdp_alone(
    facts: Facts, call: NewCall, beside: list[ast.stmt]
) -> Iterator[Finding]:
    """The statements of FSDP's branch that neither the other one has, nor a function of it."""
    wraps = [step.call for step in call.site.sibling.steps]
    taken = {spelled(statement) for statement in _with_inner(beside)}
    old = function_of(facts.checkout, call.site.reference.definition)
    taken |= {spelled(s) for s in _with_inner(old.body if old else ())}
    own = {
        node.id
        for statement in call.site.sibling.branch
        for node in nodes(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    for statement in _simple(call.site.sibling.branch):
        code = spelled(statement)
        if code.split(".")[0] in own:
            continue  # it fills a variable of the branch
        within = list(nodes(statement))
        if any(wrap in within for wrap in wraps) or is_of_sharding(code):
            continue
        if not acts(code) or code in taken or code in call.function.plan.text:
            continue
        yield Finding(
            call.site.reference.path,
            statement.lineno,
            CODE,
            f"`{code.splitlines()[0]}` is done where FSDP wraps, and was not where DDP did: "
            f"so it is not beside {call.spelling} on line {call.site.node.lineno}",
            "hazard",
            code,
            "note",
        )


def _twice(call: NewCall, beside: list[ast.stmt]) -> Iterator[Finding]:
    """The calls beside the old one of what the new function calls itself."""
    if call.function.mirrors is None:
        return
    own = {
        spelled(node.value.func)
        for node in nodes(ast.parse(call.function.plan.text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
        if isinstance(node.value.func, ast.Name)
    }
    for statement in _simple(tuple(beside)):
        if not isinstance(statement, ast.Expr) or statement.value is call.site.node:
            continue
        value = statement.value
        if isinstance(value, ast.Call) and spelled(value.func) in own - {"print"}:
            yield Finding(
                call.site.reference.path,
                statement.lineno,
                CODE,
                f"{call.function.plan.name} calls {spelled(value.func)} itself, as "
                "apply_fsdp does: here it is done once more",
                "hazard",
                f"# take it out, or out of {call.function.plan.name}:\n{spelled(statement)}",
            )


def _simple(block: tuple[ast.stmt, ...]) -> Iterator[ast.stmt]:
    """The statements of a block; of one that holds others, these, unless it walks or manages."""
    for statement in block:
        if isinstance(statement, ast.If):
            if _FSDPS_OWN.search(spelled(statement.test)):
                continue
            yield from _simple((*statement.body, *statement.orelse))
        else:
            yield statement


def _with_inner(block: "list[ast.stmt] | tuple[()]") -> Iterator[ast.stmt]:
    return (
        node
        for statement in block
        for node in nodes(statement)
        if isinstance(node, ast.stmt)
    )
