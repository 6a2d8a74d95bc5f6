"""What each call site of ``apply_ddp`` becomes."""

from codemods import layout
from codemods.findings import Finding
from codemods.plans.arguments import call_problem
from codemods.plans.functions import own_plan
from codemods.plans.mesh import mesh_edit, mesh_is_right, suggested_mesh
from codemods.plans.records import Facts, NewCall, NewFunction
from codemods.plans.sites import standalone
from codemods.plans.strings import alias
from codemods.plans.values import arguments
from codemods.survey import CallSite


def decide_call(facts: Facts, site: CallSite) -> None:
    """Add what a call becomes to ``facts``, or the finding that it is left."""
    reference = site.reference
    file = facts.survey.files[reference.path]
    if file.opted_out(reference.line, "TM102"):
        return
    function = facts.becomes(reference.definition) or facts.functions.get(
        reference.definition
    )
    if function is None:
        return
    function = own_plan(facts, site, function)
    if (
        call_problem(site.node, function.plan.parameters) is None
        and function.replaces is None
        and mesh_is_right(facts, site, file)
    ):
        if reference.spelling.rpartition(".")[2] != "apply_ddp":
            return
        if function.definition.name == "apply_ddp":
            return
    mesh = mesh_edit(facts, site, file)
    if isinstance(mesh, str):
        _leave(facts, site, function, mesh)
        return
    passed = arguments(facts, site, function, mesh)
    if isinstance(passed, str):
        _leave(facts, site, function, passed)
        return
    facts.calls.append(
        NewCall(
            site,
            function,
            _spelling(facts, site, function),
            tuple(passed),
            mesh,
            standalone(site),
        )
    )


def _spelling(facts: Facts, site: CallSite, function: NewFunction) -> str:
    reference = site.reference
    head, _, last = reference.spelling.rpartition(".")
    same = function.replaces == reference.definition
    if not same and function.definition != reference.definition:
        return function.definition.name
    if last in ("apply_ddp", reference.definition.name):
        return f"{head}.{function.plan.name}".lstrip(".")
    return f"{head}.{alias(facts, last)}".lstrip(".")


def _leave(facts: Facts, site: CallSite, function: NewFunction, reason: str) -> None:
    wanted = suggested_mesh(facts, site.reference.path)
    suggestion = layout.bracketed(
        f"{function.plan.name}(",
        [
            "model",
            wanted,
            *(f"{p.name}=..." for p in function.plan.parameters[2:] if p.required),
        ],
        ")",
        depth=0,
    )
    facts.findings.append(
        Finding(
            site.reference.path,
            site.reference.line,
            "TM102",
            f"this call of {site.reference.spelling} is left for a person: {reason}",
            "left",
            suggestion,
        )
    )
