"""Whether the module that a call wraps has what the new function reads of it."""

import ast
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from codemods import layout
from codemods.bindings import Checkout
from codemods.made import Made, made
from codemods.mirror import Parameter
from codemods.modules import Function
from codemods.names import Definition
from codemods.nodes import dotted, nodes, spelled
from codemods.plans.naming import replicate_name
from codemods.plans.pass_on import imports_for, shown
from codemods.plans.records import Facts, MeshEdit, NewFunction
from codemods.plans.sites import standalone
from codemods.plans.values import wrapped_by
from codemods.source import SourceFile
from codemods.survey import CallSite
from codemods.targets import REPLICATE_MODULE

_OF_EVERY_MODULE = frozenset(
    {
        *("parameters", "named_parameters", "buffers", "named_buffers", "modules"),
        *("named_modules", "children", "named_children", "get_submodule", "training"),
        *("register_module", "add_module", "get_parameter", "state_dict", "apply"),
        *("to", "train", "eval", "requires_grad_", "register_forward_pre_hook"),
        *("register_forward_hook", "forward", "reshard", "unshard", "compile"),
    }
)
"""What is read of a module and is there whatever its class, ``set_...`` of FSDP apart."""

_BARE = {"Module", "Protocol", "ABC", "object", "Generic"}
"""Classes outside that give their subclasses nothing of these."""

_LIBRARIES = {
    *("transformers", "timm", "torchvision", "torchaudio", "diffusers", "peft"),
    *("open_clip", "sentence_transformers", "clip"),
}
"""Packages of models that are no torchtitan's."""

_THEIRS = {"layers", "layer", "norm", "model", "embeddings", "encoder", "decoder"}
"""Attributes that some of their models have too."""

_CONTAINERS = {"ModuleList", "ModuleDict"}


@dataclass(frozen=True)
class Misfit:
    """A module that the new function cannot wrap.

    Args:
        reason: why a call is left.
        code: to write instead.
    """

    reason: str
    code: str


def misfit(
    facts: Facts, site: CallSite, function: NewFunction, mesh: MeshEdit
) -> Misfit | None:
    """Why a call cannot have a function: what it wraps is surely another model."""
    if _is_sharded_here(site):
        return None
    kinds = _kinds(facts, site)
    for one in kinds:
        missing = _lacking(facts.checkout, one, needs(function))
        missing = (missing or set()) - _set_from_outside(facts, site)
        if missing:
            listed = ", ".join(sorted(missing))
            reason = (
                f"it wraps {one.name}, which has no {listed}, and {function.plan.name} "
                "goes by these names"
            )
            parts = _parts(one, _name(facts, site)) if len(kinds) == 1 else []
            return Misfit(reason, _to_write(facts, site, function, mesh, parts))
    return None


def untold(facts: Facts, site: CallSite, function: NewFunction) -> bool:
    """Whether nothing shows that what a call wraps has what the function reads of it.

    Nothing has to where the function mirrors what shards the same module.
    """
    needed = needs(function)
    if site.fsdp_call is not None or site.sibling.steps or not needed:
        return False
    lacking = [_lacking(facts.checkout, one, needed) for one in _kinds(facts, site)]
    return any(missing != set() for missing in lacking)


def needs(function: NewFunction) -> frozenset[str]:
    """The attributes of its model that a function reads whatever the model is."""
    model = function.plan.parameters[0].name
    tree = ast.parse(function.plan.text)
    asked = {
        node.args[1].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and spelled(node.func) in ("hasattr", "getattr")
        and len(node.args) > 1
        and isinstance(node.args[1], ast.Constant)
    }
    return frozenset(
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == model
        and node.attr not in _OF_EVERY_MODULE | asked
        and not node.attr.startswith("set_")
    )


def _is_sharded_here(site: CallSite) -> bool:
    """Whether the function around a call shards what it wraps, in the same groups."""
    call = site.fsdp_call
    if site.sibling.steps or call is None or site.function is None:
        return bool(site.sibling.steps)
    last = site.function.end_lineno or 0
    return site.function.lineno <= call.lineno <= last


def _kinds(facts: Facts, site: CallSite) -> list[Made]:
    node = wrapped_by(facts, site)
    if node is None:
        return []
    return made(facts.checkout, facts.survey.files[site.reference.path], node)


def _lacking(checkout: Checkout, one: Made, needed: frozenset[str]) -> set[str] | None:
    """The attributes that a module of a class surely has not; None where it may have them."""
    if one.node is None or one.file is None:
        return _outside(one.external, set(needed)) if one.external else None
    missing = set(needed)
    unsure = one.declared
    for name, has in _classes(checkout, one.file, one.node, set()):
        if has is not None:
            missing -= has
            continue
        surely = _outside(name, missing)
        unsure |= surely is None
        missing = missing if surely is None else surely
    return None if missing and unsure else missing


def _classes(
    checkout: Checkout, file: SourceFile, node: ast.ClassDef, seen: set[int]
) -> Iterator[tuple[str, set[str] | None]]:
    """A class and those it derives from, with what they set; None of those outside."""
    if id(node) in seen:
        return
    seen.add(id(node))
    yield node.name, _attributes(node)
    if _is_dynamic(node):
        yield "", None
    for base in node.bases:
        generic = base.value if isinstance(base, ast.Subscript) else base
        name = dotted(generic) or ""
        at = checkout.resolve(file.path, "", name) if name else None
        found = _class_at(checkout, at) if at is not None else None
        if found is not None:
            yield from _classes(checkout, *found, seen)
            continue
        outside = checkout.external(file.path, "", name) if name else None
        if (outside or name).rpartition(".")[2] not in _BARE:
            yield outside or "", None


def _class_at(
    checkout: Checkout, at: Definition
) -> tuple[SourceFile, ast.ClassDef] | None:
    home = checkout.files.get(at.path)
    for node in home.syntax.body if home is not None else ():
        if isinstance(node, ast.ClassDef) and node.name == at.name:
            assert home is not None
            return home, node
    return None


def _attributes(node: ast.ClassDef) -> set[str]:
    """What a class defines, and what its methods set of their object."""
    found = {n.name for n in node.body if isinstance(n, Function | ast.ClassDef)}
    for part in node.body:
        if isinstance(part, ast.Assign | ast.AnnAssign):
            targets = part.targets if isinstance(part, ast.Assign) else [part.target]
            found |= {t.id for t in targets if isinstance(t, ast.Name)}
    for inner in nodes(node):
        if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
            found |= {inner.attr} if spelled(inner.value) == "self" else set()
        elif isinstance(inner, ast.Call):
            found |= {
                str(arg.value)
                for arg in inner.args[:2]
                if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
                if _sets(inner)
            }
    return found


def _sets(call: ast.Call) -> bool:
    """Whether a call sets an attribute by its name."""
    name = spelled(call.func)
    if name == "setattr":
        return bool(call.args) and spelled(call.args[0]) == "self"
    return name in ("self.register_module", "self.add_module", "self.__setattr__")


def _is_dynamic(node: ast.ClassDef) -> bool:
    """Whether a class may have attributes that cannot be read off it."""
    if any(isinstance(n, Function) and n.name == "__getattr__" for n in node.body):
        return True
    return any(
        isinstance(inner, ast.Call)
        and (
            (
                _sets(inner)
                and not any(isinstance(a, ast.Constant) for a in inner.args[:2])
            )
            or spelled(inner.func) in ("self.__dict__.update", "vars(self).update")
        )
        for inner in nodes(node)
    )


def _outside(name: str, missing: set[str]) -> set[str] | None:
    """What a class outside has not of some attributes; None where it may have them."""
    if name.startswith("torch.nn.") and "Transformer" not in name:
        return missing
    if name.split(".")[0] in _LIBRARIES or name.startswith("torch.nn."):
        return missing - _THEIRS or None if missing else missing
    return None


def _set_from_outside(facts: Facts, site: CallSite) -> set[str]:
    """The attributes of what a call wraps that its file sets: ``head.layers = ...``."""
    name = _name(facts, site)
    return {
        node.attr
        for node in nodes(facts.survey.files[site.reference.path].syntax)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        if spelled(node.value) == name
    }


def _name(facts: Facts, site: CallSite) -> str:
    """What a call wraps, as it is called; ``module`` where it has no name."""
    model = wrapped_by(facts, site)
    return (dotted(model) if model is not None else None) or "module"


def _to_write(
    facts: Facts,
    site: CallSite,
    function: NewFunction,
    mesh: MeshEdit,
    parts: list[str],
) -> str:
    """What wraps such a module: its parts where they are known, and itself."""
    path, name, model = site.reference.path, _name(facts, site), wrapped_by(facts, site)
    called = replicate_name(facts, path)
    alias = f" as {called}" if called != "replicate" else ""
    lines = [f"# from {REPLICATE_MODULE} import replicate{alias}"]
    if name == "module" and model is not None:
        lines.append(f"module = {facts.survey.files[path].segment(model)}")
    if mesh.variable is not None:
        lines.append(f"{mesh.variable} = {mesh.assigned}")
    passed = [f"{facts.target.mesh_keyword}={mesh.argument}"]
    if not standalone(facts, site):
        lines += _policy(facts, site, function)
        passed.append("mp_policy=mp_policy")
    part = "part" if name != "part" else "inner"
    for of in parts:
        wrapped = layout.bracketed(f"{called}(", [part, *passed], ")")
        lines += [f"for {part} in {of}.children():", textwrap.indent(wrapped, "    ")]
    lines.append(layout.bracketed(f"{called}(", [name, *passed], ")"))
    if not standalone(facts, site) and facts.survey.global_tokens:
        lines += [
            "# the training loop divides by the global token count",
            f"for {part} in {name}.modules():",
            f"    if isinstance({part}, FSDPModule):",
            f"        {part}.set_gradient_divide_factor(1.0)",
        ]
    return "\n".join(lines)


def _policy(facts: Facts, site: CallSite, function: NewFunction) -> list[str]:
    """The mixed-precision policy that a plan of the checkout has."""
    values = {
        name: "torch.float32"
        if facts.target.keep_precision
        else shown(facts, site, function, Parameter(name, name, True)) or "..."
        for name in ("param_dtype", "reduce_dtype")
    }
    dtypes = [f"{name}={value}" for name, value in values.items()]
    return [
        *imports_for(facts, site, values.values()),
        "# from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy",
        layout.bracketed("mp_policy = MixedPrecisionPolicy(", dtypes, ")"),
    ]


def _parts(one: Made, name: str) -> list[str]:
    """Of which modules the children are groups of their own: of a class that is seen whole.

    Of others a weight may be that of two modules, which have to be in one group.
    """
    if one.node is None or one.declared or _shares_weights(one.node):
        return []
    containers = [
        spelled(target).replace("self", name, 1)
        for node in nodes(one.node)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        if spelled(node.value.func).rpartition(".")[2] in _CONTAINERS
        for target in node.targets
        if spelled(target).startswith("self.")
    ]
    return containers or [name]


def _shares_weights(node: ast.ClassDef) -> bool:
    """Whether a class takes a weight out of a module, as it does to tie or to use it elsewhere."""
    return any(
        isinstance(inner, ast.Attribute)
        and inner.attr == "weight"
        and spelled(inner.value) != "self"
        for inner in nodes(node)
    )
