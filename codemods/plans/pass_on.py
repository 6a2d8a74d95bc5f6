"""The code to write where a helper of a plan has not what its call needs."""

import ast
from collections import Counter
from collections.abc import Iterable

from codemods import layout
from codemods.callers import callers, holder
from codemods.mirror import Parameter
from codemods.nodes import spelled
from codemods.plans.records import Facts, MeshEdit, NewFunction
from codemods.plans.sites import plan_above
from codemods.plans.values import bound_around, value_beside, wrapped_by
from codemods.survey import CallSite

_USUAL = {
    "param_dtype": "TORCH_DTYPE_MAP[job_config.training.mixed_precision_param]",
    "reduce_dtype": "TORCH_DTYPE_MAP[job_config.training.mixed_precision_reduce]",
}
"""What torchtitan's plans pass, where no plan of this checkout shows it."""


def why(facts: Facts, site: CallSite, reason: str) -> str:
    """The reason why a call is left, with the plan that calls the function around it."""
    plan = None if site.fsdp_call is not None else plan_above(facts, site)
    if plan is None or site.function is None or plan == site.function.name:
        return reason
    return (
        f"{reason}. {site.function.name} is a part of {plan}, so torchtitan's loop trains "
        "the model, and it cannot do without"
    )


def to_write(
    facts: Facts, site: CallSite, function: NewFunction, mesh: MeshEdit
) -> str | None:
    """The call with all that it needs, and what has to be passed on for it.

    Args:
        facts: about the checkout.
        site: the call as it is, in a helper of a plan.
        function: what is called.
        mesh: what it passes as mesh.

    Returns:
        It, None where it is not known what to pass.
    """
    model = wrapped_by(facts, site)
    if function.plan.mesh is None or model is None:
        return None
    values: dict[str, str] = {}
    for parameter in function.plan.others:
        if parameter.required:
            value = shown(facts, site, function, parameter)
            if value is None:
                return None
            values[parameter.name] = value
    missing = sorted(_roots(values.values()) - bound_around(facts, site))
    if "self" in missing:
        return None
    file = facts.survey.files[site.reference.path]
    second = function.plan.parameters[1].name == function.plan.mesh
    given = mesh.argument if second else f"{function.plan.mesh}={mesh.argument}"
    passed = [file.segment(model), given]
    passed += [f"{name}={value}" for name, value in values.items()]
    call = layout.bracketed(f"{function.plan.name}(", passed, ")")
    return "\n".join([*_passing(facts, site, missing), call])


def shown(
    facts: Facts, site: CallSite, function: NewFunction, parameter: Parameter
) -> str | None:
    """What plans pass for a parameter: this one, those of the same function, that in its file first, or any."""
    every = [s for s in facts.survey.call_sites if s.fsdp_call is not None]
    alike = [s for s in every if s.fsdp_definition == function.mirrors]
    home = function.mirrors.path if function.mirrors else ""
    own = [s for s in alike if s.reference.path == home]
    for sites in ([site], own, alike, every):
        values = [value_beside(facts, other, parameter) for other in sites]
        known = Counter(value for value in values if value is not None)
        if known:
            return known.most_common(1)[0][0]
    return _USUAL.get(parameter.name)


def _passing(facts: Facts, site: CallSite, missing: list[str]) -> list[str]:
    """What to change around the call, as comments."""
    imports = {name: _import_of(facts, name) for name in missing}
    lines = [line for line in imports.values() if line is not None]
    wanted = ", ".join(name for name, line in imports.items() if line is None)
    if site.function is None or not wanted:
        return lines
    head = ast.unparse(site.function.args)
    lines.append(f"# def {site.function.name}({head}, {wanted}):")
    file = facts.survey.files[site.reference.path]
    around = holder(file, site.node.lineno)
    for caller in callers(facts.checkout, file, around):
        place = f"{caller.file.path}:{caller.call.lineno}"
        call = spelled(caller.call)[:-1]
        lines.append(f"# {call}, {wanted}), in {place}")
    return lines


def _roots(values: Iterable[str]) -> set[str]:
    """The variables that values are made of."""
    return {
        node.id
        for value in values
        for node in ast.walk(ast.parse(f"({value})"))
        if isinstance(node, ast.Name)
    }


def imports_for(facts: Facts, site: CallSite, values: Iterable[str]) -> list[str]:
    """The imports, as comments, of what values need and the module of a call has not."""
    missing = sorted(_roots(values) - bound_around(facts, site))
    return [line for name in missing if (line := _import_of(facts, name)) is not None]


def _import_of(facts: Facts, name: str) -> str | None:
    """How the plans of the checkout import a name, or where a constant of it is."""
    for site in facts.survey.call_sites:
        found = facts.checkout.names(site.reference.path).top.imports.get(name)
        if found is not None and found.name is not None:
            return f"# from {found.module} import {found.name}"
    for file in facts.checkout.mentioning(f"{name} = ") if name.isupper() else ():
        if name in file.names.top.bound:
            return f"# from {file.module} import {name}"
    return None
