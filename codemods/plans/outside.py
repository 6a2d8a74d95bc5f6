"""What a person writes where ``apply_ddp`` is of no file here: the call, and the function."""

import ast
import re
from collections.abc import Iterator
from dataclasses import replace

from codemods import layout
from codemods.autocast import FUNCTION as AUTOCAST
from codemods.findings import Finding
from codemods.mirror import CannotMirror
from codemods.names import Definition
from codemods.outside import Outside, has_module, is_lazy, tried
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
    advised: set[str] = set()
    for use in facts.survey.broken:
        facts.findings.append(_broken(facts, use))
    for use in facts.survey.outside:
        file = facts.survey.files[use.path]
        opted_out = file.opted_out(use.line, "TM102")
        # Who makes it when it is asked for has DDP's no more.
        gone = facts.target.function_name != OLD
        opted_out &= not (gone and is_lazy(facts.checkout, use.module))
        if use.name != OLD and not (
            facts.checkout.dependency or _may_be_ddps(facts, use)
        ):
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
                _message(facts, use, advised),
                "opted-out" if opted_out else "left",
                None if opted_out else _to_write(facts, use, shown),
            )
        )


def _may_be_ddps(facts: Facts, use: Outside) -> bool:
    """Whether the name may also come from an import of DDP's function, as one that is tried."""
    return any(
        (other.path, other.kind, other.name, other.spelling)
        == (use.path, "import", OLD, use.spelling)
        for other in facts.survey.outside
    )


_MATTERS = re.compile(r"apply_|parallelize|ParallelDims|maybe_enable_amp")


def _broken(facts: Facts, use: Outside) -> Finding:
    """An import of what the torchtitan at hand does not have."""
    named = f"import {use.module}"
    if use.name:
        named = f"from {use.module} import {use.name}"
    message = f"broken import: {_lacks(facts, use)}"
    if facts.survey.files[use.path].opted_out(use.line, "TM102"):
        return Finding(use.path, use.line, "TM102", message, "opted-out")
    # What has nothing to do with data parallelism is no reason to migrate nothing.
    if not _MATTERS.search(f"{use.module} {use.name}"):
        return Finding(use.path, use.line, "TM102", message, "hazard", severity="loud")
    if use.name == AUTOCAST:
        message += ": mixed precision is a policy's there, and no autocast is opened"
        return Finding(
            use.path, use.line, "TM102", message, "left", "contextlib.nullcontext()"
        )
    homes = _homes(facts, use.name) or [f"# {use.name or use.module} is gone: {named}"]
    return Finding(use.path, use.line, "TM102", message, "left", "\n".join(homes))


def _lacks(facts: Facts, use: Outside) -> str:
    """What the torchtitan at hand does not have of a name."""
    where = facts.survey.dependency.name
    if not has_module(facts.checkout, use.module):
        return f"{where} has no {use.module}"
    return f"{use.module} of {where} has no {use.name}"


def _homes(facts: Facts, name: str) -> list[str]:
    """Imports of a name from where the torchtitan at hand defines it."""
    if not name:
        return []
    return [
        f"from {file.module} import {name}"
        for file in facts.checkout.providing(f"def {name}(", f"class {name}")
        if name in file.names.top.bound
    ]


def _message(facts: Facts, use: Outside, advised: set[str]) -> str:
    """What is said of one place; how to read torchtitan, once in each file."""
    dependency = facts.survey.dependency
    where = f"{use.module}, which this checkout does not have"
    if is_lazy(facts.checkout, use.module):
        where = f"{use.module}, which makes it by a __getattr__ that is not followed"
    elif facts.checkout.own_path_of(use.module) is not None:
        where = f"{use.module}, which does not define it"
    elif facts.checkout.dependency and _is_tried(facts, use):
        where = (
            f"torchtitan, by one of several imports that are tried: leave the one that "
            f"{dependency.name} has"
        )
    elif facts.checkout.dependency and not _is_provided(facts, use):
        where = f"torchtitan. A broken import: {_lacks(facts, use)}"
    elif facts.checkout.dependency:
        where = f"torchtitan ({dependency.name})"
    elif not use.held:
        known = dependency.pinned or dependency.name or use.module
        where = f"torchtitan, which this checkout does not hold ({known})"
        if dependency.advice and use.path not in advised:
            advised.add(use.path)
            where += f"; {dependency.advice}"
    if use.kind == "import":
        return f"imports {use.name} from {where}"
    if use.kind == "assignment":
        return (
            f"sets {use.name} of {where}: its calls pass what they passed, and its guard and "
            "its autocast stay"
        )
    what = f"this {'call' if use.kind == 'call' else 'use'} of {use.spelling}"
    return f"{what} is left for a person: it comes from {where}"


def _is_tried(facts: Facts, use: Outside) -> bool:
    """Whether the import that a place relies on is one of several."""
    file = facts.survey.files[use.path]
    found = file.names.lookup(use.spelling, use.scope)
    return bool({use.line, getattr(found, "line", 0)} & tried(file))


def _is_provided(facts: Facts, use: Outside) -> bool:
    """Whether the torchtitan at hand defines what a place names."""
    if use.module.endswith("*"):
        return True  # it is put together where it runs
    found = facts.checkout.at(f"{use.module}.{use.name}")
    return found is not None and facts.checkout.defines(found)


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
    if facts.survey.is_past and not use.held:
        return _as_sharding(facts, use)
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


_PAST_MESH = (
    'parallel_dims.get_mesh(["dp_replicate", "fsdp"] if '
    'parallel_dims.dp_replicate_enabled else ["fsdp"])'
)


def _as_sharding(facts: Facts, use: Outside) -> str:
    """Pure replication as torchtitan has it from PR 2900 on: one call, in every case."""
    if use.kind != "call":
        return f"# in place of it and of the branches, at the call\napply_fsdp(model, {_PAST_MESH}, ...)"
    site = _site(facts, use)
    beside = site.fsdp_call if site else None
    if beside is None or passes_by_star(beside):
        return layout.bracketed("apply_fsdp(", ["model", _PAST_MESH, "..."], ")")
    file = facts.survey.files[use.path]
    passed = [written(file, value) for value in beside.args]
    named = {k.arg: written(file, k.value) for k in beside.keywords}
    for name in ("dp_mesh", "mesh"):
        if name in named:
            named[name] = _PAST_MESH
    if len(passed) > 1:
        passed[1] = _PAST_MESH
    passed += [f"{name}={value}" for name, value in named.items()]
    return "# in every case, in place of the branches\n" + layout.bracketed(
        f"{written(file, beside.func)}(", passed, ")"
    )


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
