"""A branch that shards parts of a model and then the whole: so does the new one."""

import ast
import re
import textwrap
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TypeGuard

from codemods import layout
from codemods.mirror.arguments import SHARDING_KEYWORDS
from codemods.nodes import nodes
from codemods.plans.functions import mirror_of
from codemods.plans.naming import replicate_name
from codemods.plans.records import Facts, MeshEdit, NewCall, NewFunction
from codemods.plans.values import arguments, unreachable
from codemods.siblings import Step, same_object, subject
from codemods.source import SourceFile
from codemods.survey import CallSite

_Call = tuple[str, tuple[str, ...]]
_LOG = re.compile(r"(\w*log\w*\.\w+|print)\(")


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


def as_the_branch(facts: Facts, site: CallSite, name: str, mesh: str) -> str | None:
    """The branch that shards, with replicate: what a person starts from.

    Without what only made the mesh for FSDP, and what is logged. None where its lines
    hold something else too.

    Args:
        facts: about the checkout.
        site: the call, with that branch.
        name: of the new function.
        mesh: that replicate takes here.
    """
    file = facts.survey.files[site.reference.path]
    edits: list[tuple[ast.expr, str]] = []
    for step in site.sibling.steps:
        called = replicate_name(facts, site.reference.path) if step.in_place else name
        edits.append((step.call.func, called))
        given = [k.value for k in step.call.keywords if k.arg and "mesh" in k.arg]
        given += [] if step.in_place else step.call.args[1:2]
        edits += [(value, mesh) for value in given]
    kept = _without_mesh(site.sibling.branch, [node for node, _ in edits])
    text = "\n".join(_edited(file, statement, edits) for statement in kept)
    try:
        ast.parse(text)
    except SyntaxError:
        return None
    return text


def _without_mesh(
    branch: Sequence[ast.stmt], replaced: Sequence[ast.expr]
) -> list[ast.stmt]:
    """Statements without log lines, and without what sets names for what is replaced alone."""
    kept = [s for s in branch if not _LOG.match(ast.unparse(s))]
    gone = {n.id for node in replaced for n in nodes(node) if isinstance(n, ast.Name)}
    inside = {id(n) for node in replaced for n in nodes(node)}
    while True:
        loads = [
            {n.id for n in nodes(s) if _is_loaded(n) and id(n) not in inside}
            for s in kept
        ]
        going = [
            index
            for index, statement in enumerate(kept)
            if _only_sets(statement, gone - set().union(*loads[index + 1 :]))
        ]
        if not going:
            return kept
        gone |= set().union(*(loads[index] for index in going))
        kept = [s for index, s in enumerate(kept) if index not in going]


def _is_loaded(node: ast.AST) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)


def _only_sets(statement: ast.stmt, names: Collection[str]) -> bool:
    """Whether a statement does nothing but set some of these names, under conditions perhaps."""
    if isinstance(statement, ast.If):
        return all(_only_sets(s, names) for s in (*statement.body, *statement.orelse))
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    return bool(targets) and all(
        isinstance(target, ast.Name) and target.id in names for target in targets
    )


def _edited(
    file: SourceFile, statement: ast.stmt, edits: Sequence[tuple[ast.expr, str]]
) -> str:
    """The lines of a statement with others in the place of some of its expressions."""
    first, last = statement.lineno, statement.end_lineno or statement.lineno
    lines = [f"{line}\n".encode() for line in file.lines[first - 1 : last]]
    text = b"".join(lines)

    def at(line: int, column: int) -> int:
        return sum(map(len, lines[: line - first])) + column

    within = [(n, new) for n, new in edits if first <= n.lineno <= last]
    for node, new in sorted(within, key=lambda e: (e[0].lineno, e[0].col_offset))[::-1]:
        start = at(node.lineno, node.col_offset)
        end = at(node.end_lineno or node.lineno, node.end_col_offset or 0)
        text = text[:start] + new.encode() + text[end:]
    return textwrap.dedent(text.decode()).rstrip()


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
