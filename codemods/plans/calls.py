"""What each call site of ``apply_ddp`` becomes."""

import ast
import re

from codemods import layout
from codemods.findings import Finding
from codemods.mirror import Plan
from codemods.nodes import spelled
from codemods.plans import pass_on
from codemods.plans.arguments import call_problem
from codemods.plans.entered import otherwise, with_context
from codemods.plans.fits import misfit
from codemods.plans.flow import after
from codemods.plans.functions import beside, own_plan, wraps_otherwise
from codemods.plans.mesh import is_kept, mesh_edit, mesh_is_right, suggested_mesh
from codemods.plans.records import Facts, MeshEdit, NewCall, NewFunction
from codemods.plans.sequence import as_the_branch, in_sequence
from codemods.plans.sites import standalone
from codemods.plans.strings import alias
from codemods.plans.template import usual_plan
from codemods.plans.values import arguments
from codemods.plans.wishes import other_value, value_is_used
from codemods.siblings import subject
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
    if reference.definition in facts.survey.provided or (
        function is not None and wraps_otherwise(facts, site, function)
    ):
        _decide_provided(facts, site)
        return
    if function is None:
        return
    several = site.sibling.several and not _part_by_part(facts, site)
    if several and function.replaces is not None:
        _add_sequence(facts, site, function.plan)
        return
    own = own_plan(facts, site, function)
    if isinstance(own, str):
        _leave(facts, site, function.plan, own)
        return
    function = own
    if (
        call_problem(site.node, function.plan.parameters) is None
        and function.replaces is None
        and (function.plan.mesh is None or mesh_is_right(facts, site, file))
    ):
        if reference.spelling.rpartition(".")[2] != "apply_ddp":
            return
        if function.definition.name == "apply_ddp":
            return
    _add(facts, site, function, _spelling(facts, site, function))


def _part_by_part(facts: Facts, site: CallSite) -> bool:
    """Whether DDP wraps, call by call, just what the branch beside it shards."""
    wrapped = [
        subject(other.node)
        for other in facts.survey.call_sites
        if other.function is site.function
        and other.sibling.branch == site.sibling.branch
    ]
    sharded = [subject(step.call) for step in site.sibling.steps]
    return len(wrapped) > 1 and sorted(wrapped) == sorted(sharded)


def decide_inline(facts: Facts, site: CallSite) -> None:
    """The same for a call of DDP's ``replicate`` in a plan."""
    file = facts.survey.files[site.reference.path]
    if file.opted_out(site.reference.line, "TM102"):
        return
    if site.sibling.several:
        _add_sequence(facts, site, usual_plan(facts))
        return
    _add_beside(facts, site)


def _decide_provided(facts: Facts, site: CallSite) -> None:
    """The same for a call of an ``apply_ddp`` of the dependency, which stays as it is."""
    if site.sibling.several and not _part_by_part(facts, site):
        _add_sequence(facts, site, usual_plan(facts))
        return
    _add_beside(facts, site)


def _add_beside(facts: Facts, site: CallSite) -> None:
    """Add the call of a function beside the ``apply_fsdp`` of its branch, or report why it is left."""
    function = beside(facts, site)
    if isinstance(function, str):
        _leave(facts, site, usual_plan(facts), function)
    else:
        _add(facts, site, function, function.definition.name)


def _add_sequence(facts: Facts, site: CallSite, plan: Plan) -> None:
    """Add the calls for a branch of several steps, or report why the call is left."""
    file = facts.survey.files[site.reference.path]
    mesh = mesh_edit(facts, site, file)
    call = mesh if isinstance(mesh, str) else in_sequence(facts, site, mesh)
    wanted = suggested_mesh(facts, site.reference.path)
    code = as_the_branch(facts, site, plan.name, wanted)
    if isinstance(call, str):
        _leave(facts, site, plan, call, code)
        return
    other = otherwise(facts, site, kept=is_kept(call.mesh, site, file))
    if other is not None:
        _leave(facts, site, plan, other.reason, code and other.around(code))
        return
    facts.calls.append(call)


def _add(facts: Facts, site: CallSite, function: NewFunction, spelling: str) -> None:
    """Add the new call, or report why it is left."""
    file = facts.survey.files[site.reference.path]
    mesh = MeshEdit("") if function.plan.mesh is None else mesh_edit(facts, site, file)
    known = mesh if isinstance(mesh, MeshEdit) else None
    wrong = misfit(facts, site, function, known or _usual_mesh(facts, site))
    if wrong is not None:
        _leave(facts, site, function.plan, wrong.reason, wrong.code)
        return
    if isinstance(mesh, str):
        _leave(facts, site, function.plan, mesh, _with_known(facts, site, function))
        return
    passed = arguments(facts, site, function, mesh)
    if isinstance(passed, str):
        code = pass_on.to_write(facts, site, function, mesh)
        _leave(facts, site, function.plan, pass_on.why(facts, site, passed), code)
        return
    lacking = _lacks_value(facts, site, function) or _comes_too_early(site)
    if lacking is not None:
        _leave(facts, site, function.plan, lacking, _with_known(facts, site, function))
        return
    other = otherwise(facts, site, kept=is_kept(mesh, site, file))
    if other is not None:
        call = layout.bracketed(f"{spelling}(", passed, ")")
        if mesh.variable is not None:
            call = f"{mesh.variable} = {mesh.assigned}\n{call}"
        _leave(facts, site, function.plan, other.reason, other.around(call))
        return
    facts.calls.append(
        NewCall(site, function, spelling, tuple(passed), mesh, standalone(facts, site))
    )
    if site.fsdp_call is not None:
        _warn_of_context(facts, site, kept=is_kept(mesh, site, file))


def _warn_of_context(facts: Facts, site: CallSite, *, kept: bool) -> None:
    """Report that a plan comes to replicate with ranks of cp, which were refused."""
    other = with_context(facts, site, kept=kept)
    if other is not None:
        facts.findings.append(
            Finding(
                site.reference.path,
                site.reference.line,
                "TM102",
                f"beside this call: {other.reason}",
                "hazard",
                other.before,
                "silent",
            )
        )


def _usual_mesh(facts: Facts, site: CallSite) -> MeshEdit:
    """The mesh as a person would write it."""
    return MeshEdit(suggested_mesh(facts, site.reference.path))


def _spelling(facts: Facts, site: CallSite, function: NewFunction) -> str:
    reference = site.reference
    head, _, last = reference.spelling.rpartition(".")
    same = function.replaces == reference.definition
    if not same and function.definition != reference.definition:
        return function.definition.name
    if last in ("apply_ddp", reference.definition.name):
        return f"{head}.{function.plan.name}".lstrip(".")
    return f"{head}.{alias(facts, last)}".lstrip(".")


_SPLITS = re.compile(r"(^|_)tp(_|$)|tensor_parallel|^parallelize_module$")
_CHECKPOINTS = re.compile(
    r"_?(apply_)?(ac|activation_checkpoint(ing)?|checkpoint_wrapper)"
)
_COMPILES = re.compile(r"_?(apply_)?(torch_)?compile(_model|_blocks)?")


def _comes_too_early(site: CallSite) -> str | None:
    """Why a call has to come later in its plan.

    On four ranks, torch 2.13, `parallelize_module` of a replicated module raises ValueError,
    and a graph of a checkpointed block that is replicated breaks, which `fullgraph` refuses.
    """
    later = {
        spelled(node.value.func).rpartition(".")[2]: node.lineno
        for node in after(site)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    }
    last = "and replicate has to come last, as apply_fsdp does: move its branch down"
    for name, line in later.items():
        if _SPLITS.search(name):
            return f"{name} on line {line} splits the model after it, {last}"
        if _COMPILES.fullmatch(name) and any(map(_CHECKPOINTS.fullmatch, later)):
            return f"{name} on line {line} compiles after it what is checkpointed after it, {last}"
    return None


def _lacks_value(facts: Facts, site: CallSite, function: NewFunction) -> str | None:
    """Why what a call is used for is not what the new function returns."""
    if not value_is_used(facts, site):
        return None
    other = other_value(facts, site)
    if other is not None:
        return f"it is used for its value, {other}, and the new function has only the model"
    model = function.plan.parameters[0].name
    returned = (
        ast.unparse(node.value)
        for node in ast.walk(ast.parse(function.plan.text))
        if isinstance(node, ast.Return) and node.value is not None
    )
    if model in returned:
        return None
    return (
        f"it is used for its value, and {function.plan.name} does not return its model"
    )


def _with_known(facts: Facts, site: CallSite, function: NewFunction) -> str | None:
    """The call to write where all but the mesh is known."""
    passed = arguments(facts, site, function, _usual_mesh(facts, site))
    if isinstance(passed, str):
        return None
    return layout.bracketed(f"{function.plan.name}(", passed, ")")


def _leave(
    facts: Facts, site: CallSite, plan: Plan, reason: str, code: str | None = None
) -> None:
    wanted = suggested_mesh(facts, site.reference.path)
    suggestion = layout.bracketed(
        f"{plan.name}(",
        ["model", wanted, *(f"{p.name}=..." for p in plan.others if p.required)],
        ")",
    )
    facts.findings.append(
        Finding(
            site.reference.path,
            site.reference.line,
            "TM102",
            f"this call of {site.reference.spelling} is left for a person: {reason}",
            "left",
            code or suggestion,
        )
    )
