"""What a person writes where ``apply_ddp`` is of no file here: the call, and the function."""

import ast
from collections.abc import Iterator
from dataclasses import replace

from codemods import layout
from codemods.findings import Finding
from codemods.mirror import CannotMirror
from codemods.names import Definition
from codemods.outside import Outside
from codemods.plans.arguments import argument, passes_by_star, written
from codemods.plans.functions import _derive
from codemods.plans.mesh import mesh_edit, suggested_mesh
from codemods.plans.records import Facts, NewFunction
from codemods.plans.template import template
from codemods.plans.values import arguments
from codemods.siblings import sibling_of
from codemods.survey import (
    OLD,
    CallSite,
    Reference,
    enclosing,
    function_of,
)
from codemods.targets import REPLICATE_MODULE


def report(facts: Facts) -> None:
    """Add a finding for every place that names what no file here defines to ``facts``."""
    shown: set[Definition] = set()
    for use in facts.survey.outside:
        file = facts.survey.files[use.path]
        opted_out = file.opted_out(use.line, "TM102")
        if use.name != OLD:
            if use.kind == "call":
                message = f"{use.spelling} of {use.module} already wraps with replicate"
                facts.findings.append(
                    Finding(use.path, use.line, "TM102", message, "done")
                )
            continue
        if use.kind == "assignment" and _sets_replicate(facts, use):
            message = f"what {use.spelling} is set to already wraps with replicate"
            facts.findings.append(Finding(use.path, use.line, "TM102", message, "done"))
            continue
        facts.findings.append(
            Finding(
                use.path,
                use.line,
                "TM102",
                _message(facts, use),
                "opted-out" if opted_out else "left",
                None if opted_out else _to_write(facts, use, shown),
            )
        )


def _message(facts: Facts, use: Outside) -> str:
    where = f"{use.module}, which this checkout does not have"
    if facts.checkout.path_of(use.module) is not None:
        where = f"{use.module}, which does not define it"
    elif not use.held:
        where = f"torchtitan, which this checkout does not hold ({use.module})"
    if use.kind == "import":
        return f"imports {use.name} from {where}"
    if use.kind == "assignment":
        return (
            f"sets {use.name} of {where}: its calls pass what they passed, and its guard and "
            "its autocast stay"
        )
    what = f"this {'call' if use.kind == 'call' else 'use'} of {use.spelling}"
    return f"{what} is left for a person: it comes from {where}"


def _sets_replicate(facts: Facts, use: Outside) -> bool:
    """Whether an assignment sets a function that wraps with the composable replicate."""
    assert isinstance(use.node, ast.Assign)
    found = _assigned(facts, use)
    return found in facts.survey.migrated or (
        found is not None and REPLICATE_MODULE in _origins(facts, found)
    )


def _origins(facts: Facts, definition: Definition) -> str:
    node = function_of(facts.checkout, definition)
    if node is None:
        return ""
    names = facts.checkout.names(definition.path)
    found = (
        facts.checkout.external(definition.path, use.scope, use.spelling) or ""
        for use in names.uses
        if node.lineno <= use.node.lineno <= (node.end_lineno or 0)
    )
    return " ".join(found)


def _assigned(facts: Facts, use: Outside) -> Definition | None:
    value = use.node.value if isinstance(use.node, ast.Assign) else None
    if not isinstance(value, (ast.Name, ast.Attribute)):
        return None
    return facts.checkout.resolve(use.path, use.scope, ast.unparse(value))


def _to_write(facts: Facts, use: Outside, shown: set[Definition]) -> str:
    """The code of one place; the function with the first place that needs it."""
    if use.kind == "assignment":
        return _to_set(facts, use)
    ready = _ready(facts, use) if use.held else None
    site = _site(facts, use)
    function = ready or _function(facts, use, site)
    place, parts = function.definition, []
    import_it = f"from {facts.survey.files[place.path].module} import {place.name}"
    if place in shown:
        parts += [import_it] if use.kind == "import" and place.path != use.path else []
    elif ready is not None:
        parts.append(import_it)
    else:
        parts.append(_defined(facts, use.path, function.plan.text))
    shown.add(place)
    if use.kind == "call":
        parts.append(_call(facts, use, site, function))
    elif use.kind == "value" or not parts:
        parts.append(place.name)
    return "\n\n\n".join(parts)


_IMPORTS = {
    "torch": "import torch",
    "nn": "import torch.nn as nn",
    "replicate": f"from {REPLICATE_MODULE} import replicate",
    "DeviceMesh": "from torch.distributed.device_mesh import DeviceMesh",
    "FSDPModule": "from torch.distributed.fsdp import FSDPModule",
    "MixedPrecisionPolicy": "from torch.distributed.fsdp import MixedPrecisionPolicy",
}


def _defined(facts: Facts, path: str, text: str) -> str:
    """A function with those imports that its file does not have."""
    top = facts.checkout.names(path).top
    read = {n.id for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name)}
    origin = top.imports.get("replicate")
    has = {name for name in top.imports if name != "replicate"}
    if origin is not None and origin.module == REPLICATE_MODULE:
        has.add("replicate")
    lines = [line for name, line in _IMPORTS.items() if name in read - has]
    return "\n".join([*lines, "", "", text]) if lines else text


def _to_set(facts: Facts, use: Outside) -> str:
    """What to set a function of torchtitan's to: its calls stay as they are."""
    found = _assigned(facts, use)
    node = function_of(facts.checkout, found) if found else None
    name, signature = "apply_ddp", "model, dp_mesh, **kwargs"
    names = ["model", "dp_mesh"]
    if found is not None and node is not None and len(node.args.args) > 1:
        name, signature = node.name, ast.unparse(node.args)
        names = [arg.arg for arg in node.args.args]
    model, mesh = names[:2]
    passed = f"{facts.target.mesh_keyword}={mesh}"
    text = (
        f"def {name}({signature}):\n"
        f"    for block in {model}.layers.children():\n"
        f"        replicate(block, {passed})\n"
        f"    replicate({model}, {passed})\n"
    )
    return f"{_defined(facts, use.path, text)}\n\n{use.spelling} = {name}"


def _ready(facts: Facts, use: Outside) -> NewFunction | None:
    """A function of the checkout that wraps with replicate; of the same model if there is one."""
    known = [*facts.functions.values()]
    parts = set(use.module.split("."))

    def likeness(function: NewFunction) -> int:
        return len(parts & set(function.definition.path.split("/")))

    return max(known, key=likeness, default=None)


def _function(facts: Facts, use: Outside, site: CallSite | None) -> NewFunction:
    """What to define here: the mirror of the apply_fsdp beside it, else the template."""
    name = facts.target.function_name
    local = Definition(use.path, "apply_fsdp")
    candidates = [
        site.fsdp_definition if site else None,
        local if function_of(facts.checkout, local) else None,
        *_called_in(facts, use.path),
    ]
    for candidate in filter(None, candidates):
        try:
            plan = _derive(facts, candidate, sites=[site] if site else [])
        except CannotMirror:
            continue
        return NewFunction(Definition(candidate.path, name), plan, candidate, None)
    here = Definition(use.path, name)
    plan = template(facts, Definition(use.path, OLD), name)
    return NewFunction(here, plan, None, None)


def _called_in(facts: Facts, path: str) -> Iterator[Definition]:
    """What the calls of apply_fsdp in a file stand for."""
    for use in facts.checkout.names(path).uses:
        if use.call is not None and "apply_fsdp" in use.spelling:
            found = facts.checkout.resolve(path, use.scope, use.spelling)
            if found and function_of(facts.checkout, found):
                yield found


def _site(facts: Facts, use: Outside) -> CallSite | None:
    """The call as one that can be decided: apply_fsdp stands in for what is not here."""
    if use.kind != "call":
        return None
    assert isinstance(use.node, ast.Call)
    tree = facts.survey.files[use.path].syntax
    function = enclosing(tree, use.node)
    stand_in = Definition(use.path, function.name if function else "")
    reference = Reference(use.path, use.line, "call", use.scope, use.spelling, stand_in)
    beside = sibling_of(facts.checkout, use.path, use.node, function)
    definition = beside.definition
    if definition is not None and function_of(facts.checkout, definition):
        stand_in = definition
    elif function_of(facts.checkout, stand_in) is None:
        return None
    reference = Reference(use.path, use.line, "call", use.scope, use.spelling, stand_in)
    return CallSite(reference, use.node, function, beside)


def _call(
    facts: Facts, use: Outside, site: CallSite | None, function: NewFunction
) -> str:
    """The call to write, with an ellipsis for each argument that is not known."""
    file = facts.survey.files[use.path]
    passed: list[str] | str = ""
    wanted = suggested_mesh(facts, use.path)
    mesh = mesh_edit(facts, site, file) if site is not None else ""
    if site is not None and not isinstance(mesh, str):
        wanted = mesh.assigned or mesh.argument
        passed = arguments(facts, site, function, replace(mesh, argument=wanted))
    if isinstance(passed, str):
        assert isinstance(use.node, ast.Call)
        first = argument(use.node, 0, "model")
        known = first is not None and not passes_by_star(use.node)
        given = {
            k.arg: written(file, k.value)
            for k in (site.fsdp_call.keywords if site and site.fsdp_call else ())
        }
        passed = [
            written(file, first) if known and first else "model",
            wanted,
            *(
                f"{p.name}={given.get(p.name, '...')}"
                for p in function.plan.others
                if p.required
            ),
        ]
    return layout.bracketed(f"{function.plan.name}(", passed, ")")
