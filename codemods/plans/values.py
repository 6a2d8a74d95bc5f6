"""Where the arguments of a new call come from: the ``apply_fsdp`` call beside it."""

import ast

from codemods.mirror import Parameter
from codemods.names import Scope
from codemods.nodes import nodes, spelled, taken
from codemods.plans.arguments import argument, passes_by_star, written
from codemods.plans.flow import last_assignment, reaches
from codemods.plans.records import Facts, MeshEdit, NewFunction
from codemods.plans.sites import keeps_averaging, standalone
from codemods.shapes import first_parameter
from codemods.siblings import same_object, subject
from codemods.source import SourceFile
from codemods.survey import CallSite, enclosing, function_of

_AMBIGUOUS = "<several>"

_SAME_EVERYWHERE = {
    "job_config",
    "config",
    "training",
    "parallelism",
    "parallel_dims",
    "self",
}
"""Parameters that mean the same in every function of a torchtitan."""


_DTYPES = ("param_dtype", "reduce_dtype")


def arguments(
    facts: Facts,
    site: CallSite,
    function: NewFunction,
    mesh: MeshEdit,
    wrapped: ast.expr | None = None,
) -> list[str] | str:
    """The arguments of the new call; a sentence where one cannot be had.

    Args:
        facts: about the checkout.
        site: the call as it is.
        function: what is called.
        mesh: what is passed as mesh.
        wrapped: what is wrapped, if it is not what the call wraps now.
    """
    file = facts.survey.files[site.reference.path]
    model = wrapped or wrapped_by(facts, site)
    if model is None or isinstance(model, ast.Starred):
        return "it passes no model"
    passed = [written(file, model)]
    if function.plan.mesh is None and function.mirrors == site.fsdp_definition:
        return _as_beside(facts, site, file, function)
    if function.plan.mesh is not None:
        second = function.plan.parameters[1].name == function.plan.mesh
        passed.append(
            mesh.argument if second else f"{function.plan.mesh}={mesh.argument}"
        )
    for parameter in function.plan.others:
        value = _value_for(facts, site, file, parameter)
        if value == _AMBIGUOUS:
            return f"the calls of apply_fsdp here pass different values for {parameter.name}"
        if value is None:
            if parameter.required or _hidden_value(site):
                return f"there is no value in reach for {parameter.name}: {_why_none(site)}"
            continue
        unbound = unreachable(facts, site, value)
        if unbound:
            return f"{parameter.name}={value} needs {_not_here(facts, site, unbound)}"
        passed.append(f"{parameter.name}={value}")
    return passed


def wrapped_by(facts: Facts, site: CallSite) -> ast.expr | None:
    """What a call wraps."""
    old = function_of(facts.checkout, site.reference.definition)
    first = first_parameter(old) if old is not None else "module"
    return argument(site.node, 0, first)


def _not_here(facts: Facts, site: CallSite, name: str) -> str:
    """A name that a value needs, and why a call cannot have it."""
    if name not in bound_around(facts, site):
        here = site.function.name if site.function else "the module"
        return f"{name}, which {here} does not have"
    return f"{name}, which is only set on the way to apply_fsdp"


def _why_none(site: CallSite) -> str:
    """Why what shards beside a call does not show a value."""
    if _hidden_value(site):
        return "the apply_fsdp beside it may pass it by * or **, which is not followed"
    if site.fsdp_call is not None:
        return "the apply_fsdp beside it does not pass it either"
    if site.sibling.steps:
        step = site.sibling.steps[0].call
        wrapped = subject(step)
        return f"what shards beside it, on line {step.lineno}, is about {wrapped}"
    return "no call of apply_fsdp beside it shows where it comes from"


def _as_beside(
    facts: Facts, site: CallSite, file: SourceFile, function: NewFunction
) -> list[str] | str:
    """What the call of apply_fsdp passes, for a function of the same signature."""
    call = site.fsdp_call
    if call is None or passes_by_star(call):
        return "no call of apply_fsdp beside it shows what to pass"
    if len(call.args) > len(function.plan.parameters):
        return "the apply_fsdp beside it takes more than the new function"
    names = [p.name for p in function.plan.parameters]
    given: list[tuple[str | None, ast.expr]] = [(None, value) for value in call.args]
    given += [(k.arg, k.value) for k in call.keywords if k.arg in names]
    passed = []
    for keyword, value in given:
        text = written(file, value)
        unbound = unreachable(facts, site, text)
        if unbound:
            return f"{text} needs {_not_here(facts, site, unbound)}"
        passed.append(f"{keyword}={text}" if keyword else text)
    return passed


def _hidden_value(site: CallSite) -> bool:
    """Whether the apply_fsdp call passes more than can be read, by * or **."""
    return site.fsdp_call is not None and passes_by_star(site.fsdp_call)


def _value_for(
    facts: Facts, site: CallSite, file: SourceFile, parameter: Parameter
) -> str | None:
    """The text of the argument for a parameter, ``_AMBIGUOUS`` or None."""
    if parameter.name == "average_gradients":
        return "True" if keeps_averaging(facts, site) else None
    if facts.target.keep_precision and parameter.name in _DTYPES:
        if not standalone(facts, site):
            return "torch.float32"
    if _hidden_value(site):
        return None
    beside = _value_beside(facts, site, parameter)
    if beside is not None:
        return beside
    if site.fsdp_call is None and site.sibling.in_place:
        return _same_name(site, parameter.name)
    given = next((k.value for k in site.node.keywords if k.arg == parameter.name), None)
    if given is not None:
        return written(file, given)
    if "dtype" in parameter.name and standalone(facts, site):
        # DDP without autocast computed in the dtype that the parameters have, and so
        # does replicate without one: torchtitan's RL trainer loads its model in bf16.
        return "None"
    return None


def _same_name(site: CallSite, name: str) -> str | None:
    """A variable that the branch beside a call reads, if the call has it too."""
    if site.function is None:
        return None
    given = site.function.args
    if name in {a.arg for a in taken(given)}:
        return name
    return name if last_assignment(site, name) is not None else None


def value_beside(facts: Facts, site: CallSite, parameter: Parameter) -> str | None:
    """What the calls of apply_fsdp beside a call pass for a parameter, if they say one thing."""
    if _hidden_value(site):
        return None
    found = _value_beside(facts, site, parameter)
    return None if found == _AMBIGUOUS else found


def _value_beside(facts: Facts, site: CallSite, parameter: Parameter) -> str | None:
    """The same, ``_AMBIGUOUS`` where they say several."""
    if site.fsdp_call is None:
        return None
    file = facts.survey.files[site.reference.path]
    definition = site.fsdp_definition
    node = function_of(facts.checkout, definition) if definition else None
    names = [a.arg for a in (*node.args.posonlyargs, *node.args.args)] if node else []
    position = names.index(parameter.name) if parameter.name in names else 10**6
    value = argument(site.fsdp_call, position, parameter.name)
    if value is None:
        return None
    text = written(file, value)
    for other in _other_fsdp_calls(site):
        same = argument(other, position, parameter.name)
        if same is None or written(file, same) != text:
            return _AMBIGUOUS
    return text


def _other_fsdp_calls(site: CallSite) -> list[ast.Call]:
    """Further calls of the same ``apply_fsdp`` in the function of a call site."""
    assert site.fsdp_call is not None
    if site.function is None:
        return []
    spelling = spelled(site.fsdp_call.func)
    return [
        node
        for node in nodes(site.function)
        if isinstance(node, ast.Call)
        and node is not site.fsdp_call
        and spelled(node.func) == spelling
        and same_object(node, site.fsdp_call)
    ]


def unreachable(facts: Facts, site: CallSite, text: str) -> str | None:
    """A local name in ``text`` that is not set whenever the call runs, if any."""
    if site.fsdp_call is None:
        return None
    names = {n.id for n in ast.walk(ast.parse(f"({text})")) if isinstance(n, ast.Name)}
    tree = facts.survey.files[site.reference.path].syntax
    other = enclosing(tree, site.fsdp_call)
    if other is not None and other is not site.function:
        # The value comes from another function: its own variables are none here.
        bound = bound_around(facts, site)
        foreign = names & (_taken(other) | _stored(other)) - (_SAME_EVERYWHERE & bound)
        missing = foreign | (names & _imported(other) - bound)
        if missing:
            return min(missing)
    if site.function is None:
        return None
    return _not_always_set(site, site.function, site.fsdp_call, names)


def _not_always_set(
    site: CallSite, function: ast.FunctionDef, fsdp_call: ast.Call, names: set[str]
) -> str | None:
    """The first of the names that the function sets, but not whenever the call runs."""
    for node in nodes(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            if node.id in names and last_assignment(site, node.id) is None:
                return node.id
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            among = _stored(node) & names
            on_the_way = among and reaches(function, node, fsdp_call)
            if on_the_way and not reaches(function, node, site.node):
                return min(among)
    return None


def _taken(function: ast.FunctionDef) -> set[str]:
    """The parameters of a function."""
    given = function.args
    return {a.arg for a in taken(given)}


def _stored(node: ast.AST) -> set[str]:
    """The names that are set somewhere in a node."""
    return {
        n.id
        for n in nodes(node)
        if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }


def _imported(function: ast.FunctionDef) -> set[str]:
    """The names that a function imports for itself."""
    return {
        (alias.asname or alias.name).split(".")[0]
        for n in nodes(function)
        if isinstance(n, ast.Import | ast.ImportFrom)
        for alias in n.names
    }


def bound_around(facts: Facts, site: CallSite) -> set[str]:
    """The names that the function around a call has, and those around it."""
    names = facts.checkout.names(site.reference.path)
    scope: Scope | None = names.scopes[site.reference.scope]
    found: set[str] = set()
    while scope is not None:
        found |= scope.bound | {*scope.imports}
        scope = scope.parent
    return found
