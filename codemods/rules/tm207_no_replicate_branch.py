"""TM207: a plan without a replicate branch, or that stays on DDP, that shares AMP."""

import ast
from collections.abc import Iterator

from codemods.autocast import FUNCTION as AUTOCAST
from codemods.callers import Holder, callers
from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.modules import Function
from codemods.names import Definition
from codemods.nodes import nodes, spelled, taken
from codemods.plans import Facts, standalone
from codemods.shapes import uses_within
from codemods.source import SourceFile
from codemods.survey import enclosing_line, function_of

CODE = "TM207"
TITLE = "plans with no replicate branch"
SEVERITY: Severity = "silent"
WHAT = "A plan that knows only FSDP, or stays on DDP, shares maybe_enable_amp with those that replicate."
WHY = """\
maybe_enable_amp is shared by all models. A plan that knows only FSDP does nothing
under pure dp_replicate: its ranks are not synchronised, before and after a migration.
Until now such a run at least had autocast; now it trains in the parameters' own
precision. Either add the branch or refuse the configuration.
A plan that is excluded, or opted out, stays on DDP and loses its autocast in the same way.
"""
UPSTREAM = """\
None. flux has no replicate branch in torchtitan.
"""
RISK = """\
Under pure dp_replicate every rank trains a model of its own, in more memory than
before, and the loss looks fine.
"""
PROOF = """\
`dp` of such a model fails, before and after alike: a parameter is "not the same on
ranks", for "its gradients are not reduced over the data-parallel ranks". flux has "a
trainer of its own" and is listed as not run: read its plan.
"""
EXAMPLE = Example(
    fixture="v0_2_2",
    path="torchtitan/models/flux/infra/parallelize.py",
    before="""\
        apply_fsdp(
            model,
            dp_mesh,
            param_dtype=TORCH_DTYPE_MAP[job_config.training.mixed_precision_param],
            reduce_dtype=TORCH_DTYPE_MAP[job_config.training.mixed_precision_reduce],
            cpu_offload=offload,
        )
        logger.info("Sharded over %d ranks", dp_mesh.size())

    return model
""",
    after="""\
elif parallel_dims.dp_replicate_enabled:
    raise NotImplementedError("parallelize_flux needs FSDP")
""",
)


_CURE = """\
# in each of them, before apply_ddp; or migrate them too
model.forward = torch.autocast(
    device_type, dtype=TORCH_DTYPE_MAP[job_config.training.mixed_precision_param]
)(model.forward)"""


def find(facts: Facts) -> Iterator[Finding]:
    amp = _amp(facts)
    if not facts.functions or amp is None:
        return
    staying = sorted(_staying(facts))
    if staying and facts.moves:
        yield Finding(
            *amp,
            CODE,
            f"{' and '.join(staying)} {'stays' if len(staying) == 1 else 'stay'} on DDP, and had "
            "autocast by this: from now on its parameters' own dtype is what is computed in",
            "hazard",
            _CURE,
        )
    replicating = _replicating(facts)
    for file in facts.checkout.mentioning("apply_fsdp("):
        if "/tests/" in file.path:
            continue
        names = facts.checkout.names(file.path)
        for function in file.syntax.body:
            if not isinstance(function, ast.FunctionDef):
                continue
            if (file.path, function.name) in replicating or _refuses(function):
                continue
            if _calls(facts, file.path, function, replicating):
                continue
            if _is_half(facts, file, function, replicating):
                continue
            for use in names.uses:
                if use.call is None or use.spelling.rpartition(".")[2] != "apply_fsdp":
                    continue
                if use.scope.split(".")[0] != function.name:
                    continue
                definition = facts.checkout.resolve(file.path, use.scope, use.spelling)
                if (
                    definition is None
                    or function_of(facts.checkout, definition) is None
                ):
                    continue
                yield Finding(
                    file.path,
                    use.node.lineno,
                    CODE,
                    f"{function.name} has no branch for pure dp_replicate: its ranks are not "
                    "synchronised there, and autocast is off from now on too",
                    "hazard",
                    "elif parallel_dims.dp_replicate_enabled:\n"
                    f'    raise NotImplementedError("{function.name} needs FSDP")',
                )
                break


def _amp(facts: Facts) -> tuple[str, int] | None:
    """Path and line of the function that chooses autocast, where it does not opt out."""
    for file in facts.checkout.mentioning(f"def {AUTOCAST}"):
        for node in nodes(file.syntax):
            if isinstance(node, ast.FunctionDef) and node.name == AUTOCAST:
                if "autocast(" in spelled(node) and not file.opted_out(
                    node.lineno, "TM105"
                ):
                    return file.path, node.lineno
    return None


def _staying(facts: Facts) -> set[str]:
    """The plans whose call stays DDP's, though others move."""
    moving = {id(call.site) for call in facts.calls}
    definitions = facts.survey.definitions
    calls = [
        s for s in facts.survey.call_sites if s.reference.definition in definitions
    ]
    return {
        f"{site.function.name} ({site.reference.path})"
        for site in (*calls, *facts.survey.inline)
        if site.function is not None
        and id(site) not in moving
        and not standalone(facts, site)
    }


def _is_half(
    facts: Facts,
    file: SourceFile,
    function: ast.FunctionDef,
    replicating: set[tuple[str, str]],
) -> bool:
    """Whether whoever calls a function that shards calls one that replicates too."""
    found = callers(facts.checkout, file, Holder(function.name, function))
    plans = {(c.file.path, c.holder.function) for c in found if c.holder.function}
    return bool(plans) and all(
        (path, plan.name) in replicating or _calls(facts, path, plan, replicating)
        for path, plan in plans
    )


def _calls(
    facts: Facts,
    path: str,
    plan: Function,
    replicating: set[tuple[str, str]],
    seen: set[Definition] | None = None,
) -> bool:
    """Whether a plan calls a function that replicates, or one that calls such a one."""
    seen = set() if seen is None else seen
    for use in uses_within(facts.checkout, path, plan):
        if use.call is None or use.shadowed or _is_of_another(plan, use.call):
            continue
        found = facts.checkout.resolve(path, use.scope, use.spelling)
        if found is None or found in seen or found.path not in facts.checkout.files:
            continue
        if (found.path, found.name) in replicating:
            return True
        seen.add(found)
        inner = function_of(facts.checkout, found)
        if inner and _calls(facts, found.path, inner, replicating, seen):
            return True
    return False


def _is_of_another(plan: Function, call: ast.Call) -> bool:
    """Whether a call in a plan is given something else than its model first, as its teacher."""
    others = {one.arg for one in taken(plan.args)[1:]}
    return bool(call.args) and spelled(call.args[0]).split(".")[0] in others


def _refuses(function: ast.FunctionDef) -> bool:
    """Whether a plan raises where dp_replicate is on, as is suggested here."""
    for node in nodes(function):
        if (
            isinstance(node, ast.If)
            and isinstance(node.body[-1], ast.Raise)
            or isinstance(node, ast.Assert)
        ):
            asked = spelled(node.test)
        else:
            continue
        if "dp_replicate" in asked:
            return True
    return False


def _replicating(facts: Facts) -> set[tuple[str, str]]:
    """(path, name) of the functions that call apply_ddp, or may."""
    replicating: set[tuple[str, str]] = set()
    for site in (*facts.survey.call_sites, *facts.survey.inline):
        path, line = site.reference.path, site.reference.line
        if site.function is not None:
            replicating.add((path, site.function.name))
        # One within another is the other's.
        for node in facts.survey.files[path].syntax.body:
            if isinstance(node, Function):
                if node.lineno <= line <= (node.end_lineno or 0):
                    replicating.add((path, node.name))
    for reference in facts.survey.references:
        if reference.kind == "value":  # whoever calls it may be there
            syntax = facts.survey.files[reference.path].syntax
            around = enclosing_line(syntax, reference.line)
            functions = [n for n in syntax.body if isinstance(n, ast.FunctionDef)]
            near = [around] if around is not None else functions
            replicating |= {(reference.path, function.name) for function in near}
    return replicating
