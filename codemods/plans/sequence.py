"""A branch that shards parts of a model and then the whole: so does the new one."""

import ast
import re
import textwrap
from dataclasses import replace

from codemods import layout
from codemods.mirror.arguments import SHARDING_KEYWORDS
from codemods.nodes import nodes
from codemods.plans.functions import mirror_of
from codemods.plans.naming import replicate_name
from codemods.plans.records import Facts, MeshEdit, NewCall, NewFunction
from codemods.plans.values import arguments, unreachable
from codemods.siblings import Step, same_object, subject
from codemods.survey import CallSite

_Call = tuple[str, tuple[str, ...]]


def in_sequence(facts: Facts, site: CallSite, mesh: MeshEdit) -> NewCall | str:
    """What a DDP call becomes whose sibling branch shards in several steps.

    Args:
        facts: about the checkout.
        site: the call, with that branch.
        mesh: what it passes as mesh.

    Returns:
        All calls of the new branch, or a sentence why they cannot be written.
    """
    steps = site.sibling.steps
    last = steps[-1].call
    if not same_object(last, site.node):
        return (
            f"the branch that shards ends with {subject(last)}, on line {last.lineno}, "
            f"and DDP wraps {subject(site.node)}"
        )
    file = facts.survey.files[site.reference.path]
    if not file.lines[site.node.lineno - 1].strip().startswith(site.reference.spelling):
        return "several calls take its place, and its value is used"
    direct = {id(s.value) for s in site.sibling.branch if isinstance(s, ast.Expr)}
    calls: list[_Call] = []
    functions: list[NewFunction] = []
    for step in steps:
        if not _is_part(site, subject(step.call)):
            return (
                f"line {step.call.lineno} also wraps {subject(step.call)}, which is not "
                f"seen to be a part of {subject(site.node)}"
            )
        if id(step.call) not in direct:
            return (
                f"line {step.call.lineno} also wraps {subject(step.call)}, under a "
                "condition or in a loop"
            )
        call = (
            _in_place(facts, site, step, mesh)
            if step.in_place
            else _through(facts, site, step, mesh, functions)
        )
        if isinstance(call, str):
            return f"line {step.call.lineno} also wraps {subject(step.call)}: {call}"
        calls.append(call)
    if any(f.plan.sums_gradients for f in functions) and any(s.in_place for s in steps):
        return "gradients are summed, and what is wrapped here in place would average"
    if not functions:
        return "nothing beside it is called that could be mirrored"
    *before, (spelling, passed) = calls
    return NewCall(
        site,
        functions[-1],
        spelling,
        passed,
        mesh,
        False,
        tuple(before),
        tuple(functions),
    )


def _is_part(site: CallSite, wrapped: str) -> bool:
    """Whether something is what a call wraps, or was taken out of it."""
    whole = subject(site.node)
    if f"{wrapped}.".startswith(f"{whole}.") or not wrapped:
        return True
    taken = [
        (node.targets if isinstance(node, ast.Assign) else [node.target], value)
        for node in (nodes(site.function) if site.function else ())
        if isinstance(node, (ast.Assign, ast.For))
        for value in [node.value if isinstance(node, ast.Assign) else node.iter]
    ]
    return any(
        f"{ast.unparse(value)}.".startswith((f"{whole}.", f"reversed({whole}."))
        and wrapped in {ast.unparse(inner) for t in targets for inner in nodes(t)}
        for targets, value in taken
    )


def as_the_branch(facts: Facts, site: CallSite, name: str, mesh: str) -> str:
    """The branch that shards, with replicate: what a person starts from.

    Args:
        facts: about the checkout.
        site: the call, with that branch.
        name: of the new function.
        mesh: that replicate takes here.
    """
    file = facts.survey.files[site.reference.path]
    branch = site.sibling.branch
    lines = file.lines[branch[0].lineno - 1 : branch[-1].end_lineno]
    text = textwrap.dedent("\n".join(lines))
    for step in site.sibling.steps:
        called = replicate_name(facts, site.reference.path) if step.in_place else name
        spelled = re.escape(file.segment(step.call.func))
        text = re.sub(rf"\b{spelled}\(", f"{called}(", text)
        given = [k.value for k in step.call.keywords if k.arg and "mesh" in k.arg]
        given += [] if step.in_place else step.call.args[1:2]
        for value in given:
            text = text.replace(file.segment(value), mesh)
    return text


def _through(
    facts: Facts,
    site: CallSite,
    step: Step,
    mesh: MeshEdit,
    functions: list[NewFunction],
) -> _Call | str:
    """The call of the mirror of what a step calls."""
    if step.plan is None:
        return "what it calls is not in this checkout"
    function = mirror_of(facts, step.plan, site)
    if isinstance(function, str):
        return function
    if not step.call.args:
        return "it does not say by position what it wraps"
    about = replace(
        site, sibling=replace(site.sibling, call=step.call, definition=step.plan)
    )
    passed = arguments(facts, about, function, mesh, step.call.args[0])
    if isinstance(passed, str):
        return passed
    functions.append(function)
    return function.definition.name, tuple(passed)


def _in_place(facts: Facts, site: CallSite, step: Step, mesh: MeshEdit) -> _Call | str:
    """The call of replicate for one of ``fully_shard``."""
    path = site.reference.path
    file = facts.survey.files[path]
    written = any(f.definition.path == path for f in facts.written())
    called = replicate_name(facts, path)
    top = facts.checkout.names(path).top
    if not written and (called in top.imports or called in top.bound):
        return f"this module has something else called {called}"
    passed = [layout.flatten(file.segment(value)) for value in step.call.args]
    for keyword in step.call.keywords:
        if keyword.arg is None:
            return "it passes arguments by **"
        text = layout.flatten(file.segment(keyword.value))
        if keyword.arg in SHARDING_KEYWORDS:
            continue
        if keyword.arg == "mesh":
            passed.append(f"{facts.target.mesh_keyword}={mesh.argument}")
            continue
        about = replace(site, sibling=replace(site.sibling, call=step.call))
        unbound = unreachable(facts, about, text)
        if unbound:
            return f"it passes {unbound}, which is only set on the way there"
        passed.append(f"{keyword.arg}={text}")
    return called, tuple(passed)
